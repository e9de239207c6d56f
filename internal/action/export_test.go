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

package action

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestDropRequests(t *testing.T) {
	const own = "team.example.com/owner"
	all := map[string]string{own: "a", v1alpha1.DeferredAnnotation: "true", corev1.LastAppliedConfigAnnotation: "{}"}
	for _, name := range v1alpha1.RequestAnnotations {
		all[name] = "1"
	}
	tests := map[string]struct{ have, before, want map[string]string }{
		"requests go, others stay": {have: all, want: map[string]string{own: "a", v1alpha1.DeferredAnnotation: "true"}},
		"nothing is left":          {have: map[string]string{v1alpha1.SendTestAnnotation: "lead.created/1"}},
		"a new request stays": {
			have:   map[string]string{v1alpha1.SendTestAnnotation: "lead.created/2", v1alpha1.RotateSecretAnnotation: "1"},
			before: map[string]string{v1alpha1.SendTestAnnotation: "lead.created/1", v1alpha1.RotateSecretAnnotation: "1"},
			want:   map[string]string{v1alpha1.SendTestAnnotation: "lead.created/2"},
		},
		"the first request stays": {
			have: map[string]string{v1alpha1.RotateSecretAnnotation: "1"}, before: map[string]string{}, want: map[string]string{v1alpha1.RotateSecretAnnotation: "1"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{}
			p.SetAnnotations(test.have)
			DropRequests(p, test.before)
			if got := p.GetAnnotations(); !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
