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
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestSecretNotOwned(t *testing.T) {
	b := newBench(t)
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "crm"}, Data: map[string][]byte{"password": []byte("x")}})
	foreign := b.secret("crm")
	b.create(newPostbackSecret("crm", nil))
	result := b.settleSecret("crm")
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateStalled, v1alpha1.SecretNotOwnedReason, `Secret "crm" exists and is not owned`)
	if got := b.secret("crm"); got.ResourceVersion != foreign.ResourceVersion {
		t.Error("a foreign Secret was written to")
	}
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning SecretNotOwned") {
		t.Errorf("events %q", told)
	}
	if result.RequeueAfter != time.Minute {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	b.must(b.direct.Delete(b.ctx, foreign))
	b.settleSecret("crm")
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateReady, v1alpha1.KeyAvailableReason, "")
}

// The message of a Postback's own PostbackSecret names the remedy on the Postback, from which its name and source
// follow.
func TestOwnPostbackSecretNotOwned(t *testing.T) {
	b := newBench(t)
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "crm"}, Data: map[string][]byte{"password": []byte("x")}})
	b.create(newPostback("crm", nil))
	b.settle("crm")
	const remedy = "name it in the Postback's spec.secretRef"
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateStalled, v1alpha1.SecretNotOwnedReason, remedy)
	b.checkPostback("crm", stateStalled, v1alpha1.SecretNotReadyReason, remedy)

	// The remedy works.
	b.create(newPostbackSecret("crm-key", func(s *v1alpha1.PostbackSecret) { s.Spec.SecretName = "crm-signing" }))
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "crm-key"} })
	b.heartbeat("east", loadedEverything)
	b.settleSecret("crm-key")
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

func TestImmutableSecretStallsARotation(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "1")
	b.settle("crm")
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Immutable = ptr.To(true) })
	b.settle("crm")
	keys := b.keyring("crm").Keys()
	conditions := func() []metav1.Condition { return b.postbackSecret("crm").Status.Conditions }
	checkConditions(t, conditions(), stateReady, v1alpha1.KeyAvailableReason, "")
	b.told()

	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "2")
	result, _ := b.settle("crm")
	checkConditions(t, conditions(), stateStalled, v1alpha1.SecretImmutableReason, "delete that Secret")
	b.checkPostback("crm", stateStalled, v1alpha1.SecretNotReadyReason, "immutable")
	if told := b.told(); len(told) != 2 || !strings.HasPrefix(told[0], "Warning SecretImmutable") || !strings.HasPrefix(told[1], "Warning SecretNotReady") {
		t.Errorf("events %q", told)
	}
	if result.RequeueAfter != time.Minute {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	// The manager writes nothing, and the previous key keeps signing, even past the overlap.
	b.clock.Step(2 * v1alpha1.DefaultOverlap)
	before := b.faulty.count()
	b.settle("crm")
	status := b.postbackSecret("crm").Status
	if b.faulty.count() != before || status.Version != 2 || status.LastHandledRotateSecret != "1" ||
		!meta.IsStatusConditionTrue(status.Conditions, v1alpha1.OverlapCondition) || !slices.Equal(b.route("crm").Keys, keys) {
		t.Errorf("%d writes, %d keys, status %+v", b.faulty.count()-before, len(b.route("crm").Keys), status)
	}
	// The remedy works.
	b.must(b.direct.Delete(b.ctx, b.secret("crm")))
	b.settle("crm")
	checkConditions(t, conditions(), stateReady, v1alpha1.KeyAvailableReason, "")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if status := b.postbackSecret("crm").Status; status.Version != 3 || status.LastHandledRotateSecret != "2" {
		t.Errorf("status %+v", status)
	}
}

func TestTwoSecretsOneTarget(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"one", "two"} {
		b.create(newPostbackSecret(name, func(s *v1alpha1.PostbackSecret) { s.Spec.SecretName = "shared" }))
	}
	b.settleSecret("one")
	before := b.secret("shared")
	for range 5 {
		b.settleSecret("two")
		b.settleSecret("one")
	}
	checkConditions(t, b.postbackSecret("one").Status.Conditions, stateReady, v1alpha1.KeyAvailableReason, "")
	checkConditions(t, b.postbackSecret("two").Status.Conditions, stateStalled, v1alpha1.SecretNotOwnedReason, "")
	if b.secret("shared").ResourceVersion != before.ResourceVersion {
		t.Error("the two fight over the Secret")
	}
	// After the first is deleted, the second gets the Secret, with a new key.
	b.must(b.direct.Delete(b.ctx, b.postbackSecret("one")))
	b.eventually("the second takes over", func() bool {
		b.settleSecret("two")
		secret := b.secret("shared")
		return secret != nil && metav1.IsControlledBy(secret, b.postbackSecret("two"))
	})
	if string(b.secret("shared").Data["secret"]) == string(before.Data["secret"]) {
		t.Error("the second took over the first one's key")
	}
}

func TestSecretOfAnEarlierObjectIsWaitedFor(t *testing.T) {
	b := newBench(t)
	gone := newPostbackSecret("crm", nil)
	b.create(gone)
	b.settleSecret("crm")
	// A finalizer keeps the garbage collector from deleting the Secret.
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Finalizers = []string{"postback.dev/test"} })
	b.must(b.direct.Delete(b.ctx, gone))
	b.create(newPostbackSecret("crm", nil))
	result := b.settleSecret("crm")
	checkConditions(t, b.postbackSecret("crm").Status.Conditions, stateReconciling, v1alpha1.SecretTerminatingReason, "")
	if result.RequeueAfter != requeueSoon {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Finalizers = nil })
	b.eventually("the new object has a key", func() bool {
		b.settleSecret("crm")
		return meta.IsStatusConditionTrue(b.postbackSecret("crm").Status.Conditions, v1alpha1.ReadyCondition)
	})
}
