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

package controllers

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// A PostbackSecret in Git has its own value of the annotation. Applying it after a Postback's request does not rotate
// the key again.
func TestRotationPassedOnToAPostbackSecretInGit(t *testing.T) {
	b := newBench(t)
	apply := func() {
		t.Helper()
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackSecret"))
		object.SetNamespace(b.ns)
		object.SetName("shared")
		object.SetAnnotations(map[string]string{v1alpha1.RotateSecretAnnotation: "from-git"})
		b.must(b.direct.Apply(b.ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("git"), client.ForceOwnership))
	}
	settle := func(version int64) {
		t.Helper()
		b.settle("crm")
		b.settleSecret("shared")
		b.settle("crm")
		if got := b.keyring("shared").Version; got != version {
			t.Errorf("version %d, want %d", got, version)
		}
	}
	apply()
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "shared"} }))
	b.heartbeat("east", loadedEverything)
	settle(1)
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "from-console")
	settle(2)
	apply()
	settle(2)
	object, want := b.postbackSecret("shared"), keyring.Requests{Own: "from-git", Passed: "crm/from-console"}
	if object.Annotations[v1alpha1.RotateSecretAnnotation] != "from-git" || handledBefore(object) != want || b.keyring("shared").Handled != want {
		t.Errorf("annotations %v, status %+v", object.Annotations, object.Status)
	}
}

func TestRequestsOfBothKinds(t *testing.T) {
	b := newBench(t)
	ask := func(own, passed string) {
		t.Helper()
		modify(b, &v1alpha1.PostbackSecret{}, "crm", func(s *v1alpha1.PostbackSecret) {
			s.Annotations = map[string]string{v1alpha1.RotateSecretAnnotation: own, v1alpha1.PassedRotateSecretAnnotation: passed}
		})
	}
	b.create(newPostbackSecret("crm", nil))
	for _, step := range []struct {
		own, passed string
		version     int64
		handled     keyring.Requests
	}{
		{"own-1", "passed-1", 1, keyring.Requests{Own: "own-1", Passed: "passed-1"}}, // before the first key is made
		{"own-2", "passed-1", 2, keyring.Requests{Own: "own-2", Passed: "passed-1"}},
		{"own-2", "passed-2", 3, keyring.Requests{Own: "own-2", Passed: "passed-2"}},
		{"own-3", "passed-3", 4, keyring.Requests{Own: "own-3", Passed: "passed-3"}},
		{"", "", 4, keyring.Requests{Own: "own-3", Passed: "passed-3"}},
		{"own-3", "own-3", 5, keyring.Requests{Own: "own-3", Passed: "own-3"}},
	} {
		ask(step.own, step.passed)
		b.settleSecret("crm")
		if k := b.keyring("crm"); k.Version != step.version || k.Handled != step.handled || handledBefore(b.postbackSecret("crm")) != step.handled {
			t.Errorf("%+v: version %d, handled %+v", step, k.Version, k.Handled)
		}
	}
}

func TestRotationOfAnExternalKeyByAPostbackIsRefused(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("vault", func(s *v1alpha1.PostbackSecret) {
		s.Spec.Source = v1alpha1.SecretExternal
		s.Annotations = map[string]string{v1alpha1.RotateSecretAnnotation: "own"}
	}))
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "vault"} }))
	b.settleSecret("vault")
	b.told()
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "passed")
	b.settle("crm")
	b.told()
	b.settleSecret("vault")
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning RotationRefused") {
		t.Errorf("events %q", told)
	}
	if got, want := handledBefore(b.postbackSecret("vault")), (keyring.Requests{Own: "own", Passed: "crm/passed"}); got != want {
		t.Errorf("handled %+v", got)
	}
}

// The annotations of an object are limited in size, and the value on a Postback may use all of it.
func TestHugeTokenIsPassedOn(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	modify(b, &v1alpha1.PostbackSecret{}, "crm", func(s *v1alpha1.PostbackSecret) {
		s.Annotations = map[string]string{"note": strings.Repeat("n", 200_000)}
	})
	token := strings.Repeat("t", 100_000)
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, token)
	b.settle("crm")
	if version := b.keyring("crm").Version; version != 2 {
		t.Errorf("version %d", version)
	}
	if handled := b.postback("crm").Status.LastHandledRotateSecret; handled != v1alpha1.HandledToken(token) {
		t.Errorf("handled %q", handled)
	}
	// The first key of a new PostbackSecret answers the request, too.
	b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm")))
	b.eventually("the PostbackSecret and its Secret are gone", func() bool {
		return b.gone(&v1alpha1.PostbackSecret{}, "crm") && b.secret("crm") == nil
	})
	b.settle("crm")
	if k := b.keyring("crm"); k.Version != 1 || len(k.Handled.Passed) > 256 {
		t.Errorf("version %d, handled %q", k.Version, k.Handled.Passed)
	}
}

func TestPassedTokenIsBounded(t *testing.T) {
	long := strings.Repeat("n", 253)
	seen := map[string]bool{}
	for _, postback := range []string{"crm", "shop", long} {
		for _, token := range []string{"monday", "tuesday", strings.Repeat("t", 256), strings.Repeat("t", 257)} {
			passed := passedToken(postback, token)
			if len(passed) > 256 || seen[passed] {
				t.Errorf("%d bytes, seen %t: %.20s/%.20s", len(passed), seen[passed], postback, token)
			}
			seen[passed] = true
		}
	}
}
