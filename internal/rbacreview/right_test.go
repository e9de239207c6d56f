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

package rbacreview

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
)

func TestRight(t *testing.T) {
	for name, test := range map[string]struct {
		right      Right
		text       string
		attributes authorizationv1.ResourceAttributes
	}{
		"our kind": {
			Right{Verb: "patch", Group: "postback.dev", Resource: "postbacks", Namespace: "acme", Name: "crm"},
			`patch postbacks.postback.dev "crm" in namespace acme`,
			authorizationv1.ResourceAttributes{Verb: "patch", Group: "postback.dev", Version: "v1alpha1", Resource: "postbacks", Namespace: "acme", Name: "crm"},
		},
		"core kind, all namespaces": {
			Right{Verb: "watch", Resource: "secrets"},
			"watch secrets in all namespaces",
			authorizationv1.ResourceAttributes{Verb: "watch", Resource: "secrets"},
		},
		"subresource": {
			Right{Verb: "patch", Group: "postback.dev", Resource: "postbacks/status", Namespace: "acme"},
			"patch postbacks/status.postback.dev in namespace acme",
			authorizationv1.ResourceAttributes{Verb: "patch", Group: "postback.dev", Version: "v1alpha1", Resource: "postbacks", Subresource: "status", Namespace: "acme"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.right.String(); got != test.text {
				t.Errorf("%q, want %q", got, test.text)
			}
			if got := *test.right.Attributes(); got != test.attributes {
				t.Errorf("%+v, want %+v", got, test.attributes)
			}
		})
	}
}

// Callers choose names, so no name may produce the key of another right.
func TestKeysOfRightsDiffer(t *testing.T) {
	seen := map[string]Right{}
	for _, r := range []Right{
		{Namespace: "a", Name: "b"},
		{Namespace: "a b"},
		{Namespace: `a" "b`},
		{Name: "a b"},
		{Namespace: "a\x00b"},
		{Resource: "a", Name: "b"},
	} {
		if other, ok := seen[r.Key()]; ok {
			t.Errorf("%#v and %#v have the key %s", r, other, r.Key())
		}
		seen[r.Key()] = r
	}
}
