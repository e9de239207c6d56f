/*
Copyright 2026 The Postback Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package plugin

import (
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExplain(t *testing.T) {
	forbidden := func(group, resource, why string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: group, Resource: resource}, "", errors.New(`User "ada" `+why))
	}
	for name, test := range map[string]struct {
		err         error
		want, never string
	}{
		"read": {
			forbidden("postback.dev", "postbacks", `cannot list resource "postbacks" in API group "postback.dev" in the namespace "acme"`),
			"You need the role view or postback-viewer in that namespace.", "all namespaces",
		},
		"read everywhere": {
			forbidden("postback.dev", "postbackdeliveries", `cannot watch resource "postbackdeliveries" in API group "postback.dev" at the cluster scope`),
			"You need the role view or postback-viewer in all namespaces, by a ClusterRoleBinding; or choose one namespace with -n.", "that namespace",
		},
		"change": {
			forbidden("postback.dev", "postbacks", `cannot patch resource "postbacks" in API group "postback.dev" in the namespace "acme"`),
			"You need the role edit or postback-editor in that namespace.", "view",
		},
		"a Secret": {
			forbidden("", "secrets", `cannot get resource "secrets" in API group "" in the namespace "acme"`),
			"You need a role with the right to get secrets in that namespace.", "postback-",
		},
		"a quota": {forbidden("postback.dev", "postbacks", `exceeded quota: few, requested: 1, used: 1, limited: 1`), "exceeded quota", "You need"},
		"several mistakes": {
			errors.New(`Postback.postback.dev "shop" is invalid: [spec.url: Invalid value: "ftp:": must be absolute, <nil>: Invalid value: "null": ` +
				`some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]`),
			`[spec.url: Invalid value: "ftp:": must be absolute]`, "<nil>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := explain(test.err); !strings.Contains(got, test.want) || strings.Contains(got, test.never) {
				t.Errorf("it says %q, want %q in it and not %q", got, test.want, test.never)
			}
		})
	}
}
