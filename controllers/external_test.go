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
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

func TestExternalKey(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("vault", func(s *v1alpha1.PostbackSecret) { s.Spec.Source = v1alpha1.SecretExternal }))
	conditions := func() []metav1.Condition { return b.postbackSecret("vault").Status.Conditions }
	result := b.settleSecret("vault")
	checkConditions(t, conditions(), stateReconciling, v1alpha1.KeyNotFoundReason, `Secret "vault" does not exist`)
	if result.RequeueAfter != time.Minute {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vault"}})
	b.settleSecret("vault")
	checkConditions(t, conditions(), stateReconciling, v1alpha1.KeyNotFoundReason, `no data key "secret"`)

	put := func(data map[string][]byte) {
		b.t.Helper()
		modify(b, &corev1.Secret{}, "vault", func(s *corev1.Secret) { s.Data = data })
	}
	put(map[string][]byte{"secret": []byte("hunter2")})
	b.settleSecret("vault")
	checkConditions(t, conditions(), stateStalled, v1alpha1.InvalidKeyReason, "does not begin with whsec_")
	if strings.Contains(describe(conditions()), "hunter2") {
		t.Error("a condition shows the key")
	}
	put(map[string][]byte{"secret": []byte(keyring.New()), "previous": []byte(keyring.New())})
	b.settleSecret("vault")
	checkConditions(t, conditions(), stateReady, v1alpha1.KeyAvailableReason, "")
	if !meta.IsStatusConditionTrue(conditions(), v1alpha1.OverlapCondition) {
		t.Error("no Overlap condition")
	}
	b.told()

	before := b.secret("vault")
	annotate(b, &v1alpha1.PostbackSecret{}, "vault", v1alpha1.RotateSecretAnnotation, "monday")
	b.settleSecret("vault")
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning RotationRefused") {
		t.Errorf("events %q", told)
	}
	if b.secret("vault").ResourceVersion != before.ResourceVersion || b.postbackSecret("vault").Status.LastHandledRotateSecret != "monday" {
		t.Error("the request was not refused properly")
	}
	modify(b, &corev1.Secret{}, "vault", func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.WatchLabel: "true"} })
	if result = b.settleSecret("vault"); result.RequeueAfter != 0 {
		t.Errorf("a watched Secret is polled every %s", result.RequeueAfter)
	}
	b.must(b.direct.Delete(b.ctx, b.secret("vault")))
	b.settleSecret("vault")
	checkConditions(t, conditions(), stateReconciling, v1alpha1.KeyNotFoundReason, "")
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning KeyNotFound") {
		t.Errorf("events %q", told)
	}
}
