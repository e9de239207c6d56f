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
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

func rotation(every, overlap time.Duration) *v1alpha1.Rotation {
	r := &v1alpha1.Rotation{Overlap: &metav1.Duration{Duration: overlap}}
	if every > 0 {
		r.Every = &metav1.Duration{Duration: every}
	}
	return r
}

// settleSecret runs the PostbackSecret reconciler until a pass makes no write.
func (b *bench) settleSecret(name string) ctrl.Result {
	b.t.Helper()
	for range 10 {
		before := b.faulty.count()
		result, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key(name)})
		b.tolerate(err)
		if b.faulty.count() == before {
			return result
		}
	}
	b.t.Fatal("the reconciler does not come to rest")
	return ctrl.Result{}
}

func TestGeneratedKey(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) {
		s.Annotations = map[string]string{v1alpha1.RotateSecretAnnotation: "first"}
		s.Spec.SecretName = "crm-signing"
		s.Spec.Rotation = rotation(0, time.Hour)
	}))
	result := b.settleSecret("crm")
	object, secret := b.postbackSecret("crm"), b.secret("crm-signing")
	checkConditions(t, object.Status.Conditions, stateReady, v1alpha1.KeyAvailableReason, `"crm-signing"`)
	if secret.Type != corev1.SecretTypeOpaque || !metav1.IsControlledBy(secret, object) || !hasWatchLabel(secret) || secret.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedBy {
		t.Errorf("Secret of type %s, owners %v, labels %v", secret.Type, secret.OwnerReferences, secret.Labels)
	}
	if err := keyring.Validate(string(secret.Data["secret"])); err != nil {
		t.Errorf("the key %v", err)
	}
	status := object.Status
	if status.Version != 1 || status.ObservedGeneration != object.Generation || status.LastHandledRotateSecret != "first" ||
		status.LastRotationTime == nil || status.NextRotationTime != nil || status.PreviousExpiryTime != nil {
		t.Errorf("status %+v", status)
	}
	if result.RequeueAfter != 0 {
		t.Errorf("looks again after %s for nothing", result.RequeueAfter)
	}
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Normal KeyGenerated") {
		t.Errorf("events %q", told)
	}
}

func TestRotationOnRequest(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, time.Hour) }))
	b.settleSecret("crm")
	first := b.keyring("crm").Current
	b.told()

	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	result := b.settleSecret("crm")
	k, status := b.keyring("crm"), b.postbackSecret("crm").Status
	if k.Version != 2 || !slices.Equal(k.Keys()[1:], []string{first}) || k.Current == first {
		t.Errorf("version %d with %d keys", k.Version, len(k.Keys()))
	}
	if status.Version != 2 || status.PreviousVersion != 1 || status.LastHandledRotateSecret != "first" ||
		!status.PreviousExpiryTime.Equal(&metav1.Time{Time: k.RotatedAt.Add(time.Hour)}) {
		t.Errorf("status %+v", status)
	}
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.OverlapCondition) {
		t.Error("no Overlap condition")
	}
	if result.RequeueAfter <= 0 || result.RequeueAfter > time.Hour {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	if told := b.told(); len(told) != 1 || !strings.Contains(told[0], "KeyRotated") || !strings.Contains(told[0], "requested") {
		t.Errorf("events %q", told)
	}

	// A second rotation inside the overlap keeps both previous keys, each for its own time.
	b.clock.Step(30 * time.Minute)
	second := k.Current
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "second")
	b.settleSecret("crm")
	if k = b.keyring("crm"); k.Version != 3 || !slices.Equal(k.Keys()[1:], []string{second, first}) {
		t.Errorf("version %d with %d keys", k.Version, len(k.Keys()))
	}
	b.clock.Step(30*time.Minute + time.Second)
	b.settleSecret("crm")
	if k = b.keyring("crm"); !slices.Equal(k.Keys()[1:], []string{second}) {
		t.Errorf("%d keys after the first overlap", len(k.Keys()))
	}
	b.clock.Step(30 * time.Minute)
	b.settleSecret("crm")
	status = b.postbackSecret("crm").Status
	if k = b.keyring("crm"); len(k.Previous) != 0 || status.PreviousVersion != 0 || status.PreviousExpiryTime != nil ||
		meta.FindStatusCondition(status.Conditions, v1alpha1.OverlapCondition) != nil {
		t.Errorf("%d keys after the second overlap, status %+v", len(k.Keys()), status)
	}
}

func TestOverlapZeroEndsALeakedKey(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, time.Hour) }))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.settleSecret("crm")
	modify(b, &v1alpha1.PostbackSecret{}, "crm", func(s *v1alpha1.PostbackSecret) {
		s.Spec.Rotation = rotation(0, 0)
		s.Annotations[v1alpha1.RotateSecretAnnotation] = "leaked"
	})
	b.settleSecret("crm")
	if k := b.keyring("crm"); k.Version != 3 || len(k.Previous) != 0 || len(b.secret("crm").Data) != 1 {
		t.Errorf("version %d with %d previous keys", k.Version, len(k.Previous))
	}
}

func TestRotationOnSchedule(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(90*time.Minute, time.Hour) }))
	result := b.settleSecret("crm")
	status := b.postbackSecret("crm").Status
	if due := status.LastRotationTime.Add(90 * time.Minute); !status.NextRotationTime.Time.Equal(due) {
		t.Errorf("next rotation %s, want %s", status.NextRotationTime, due)
	}
	if result.RequeueAfter != time.Hour {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	b.told()
	b.clock.Step(90*time.Minute - 2*time.Second)
	if result = b.settleSecret("crm"); b.keyring("crm").Version != 1 || result.RequeueAfter < time.Second || result.RequeueAfter > 2*time.Second {
		t.Errorf("version %d, looks again after %s", b.keyring("crm").Version, result.RequeueAfter)
	}
	b.clock.Step(result.RequeueAfter)
	b.settleSecret("crm")
	if k := b.keyring("crm"); k.Version != 2 || len(k.Previous) != 1 {
		t.Errorf("version %d", k.Version)
	}
	if told := b.told(); len(told) != 1 || !strings.Contains(told[0], "scheduled") {
		t.Errorf("events %q", told)
	}
}

// After an outage there is one rotation, not one for each missed time.
func TestMissedSlotsAreNotReplayed(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(2*time.Hour, time.Hour) }))
	b.settleSecret("crm")
	b.clock.Step(1000 * time.Hour)
	b.settleSecret("crm")
	if k := b.keyring("crm"); k.Version != 2 || len(k.Previous) != 1 {
		t.Errorf("version %d with %d previous keys", k.Version, len(k.Previous))
	}
}

func TestOverdueRotationAfterClockJump(t *testing.T) {
	b := newBench(t)
	start := b.clock.Now()
	b.clock.SetTime(start.Add(10000 * time.Hour)) // a clock that is wrong
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(2*time.Hour, time.Hour) }))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.settleSecret("crm")

	b.clock.SetTime(start)
	result := b.settleSecret("crm")
	k := b.keyring("crm")
	if k.Version != 3 || k.RotatedAt.After(start) || result.RequeueAfter < time.Second || result.RequeueAfter > time.Hour {
		t.Errorf("version %d made at %s, looks again after %s", k.Version, k.RotatedAt, result.RequeueAfter)
	}
	for _, previous := range k.Previous {
		if previous.RetiredAt.After(start) {
			t.Errorf("key %d keeps signing until an hour after %s", previous.Version, previous.RetiredAt)
		}
	}
	b.clock.Step(time.Hour + time.Second)
	b.settleSecret("crm")
	if k = b.keyring("crm"); len(k.Previous) != 0 {
		t.Errorf("%d previous keys last for longer than their overlap", len(k.Previous))
	}
}

func TestRotateSurvivesLostStatusWrite(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", nil))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.faulty.arm(2, false) // the Secret is written, the status is not
	if _, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err == nil {
		t.Fatal("the status write did not fail")
	}
	rotated := b.keyring("crm")
	if status := b.postbackSecret("crm").Status; status.Version != 1 || rotated.Version != 2 {
		t.Fatalf("status version %d, key version %d", status.Version, rotated.Version)
	}
	b.restart()
	b.settleSecret("crm")
	if k, status := b.keyring("crm"), b.postbackSecret("crm").Status; k.Current != rotated.Current || status.Version != 2 || status.LastHandledRotateSecret != "first" {
		t.Errorf("version %d, status %+v", k.Version, status)
	}
}

// A stale cache shows an old request as new, or an object that was deleted.
func TestStaleCacheDoesNotDeleteActiveKey(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, 0) }))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.settleSecret("crm")
	stale := b.postbackSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "second")
	b.settleSecret("crm")
	want := b.keyring("crm")

	live := b.secrets.Client
	b.secrets.Client = staleClient{Client: live, object: stale}
	result, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
	b.must(err)
	if got := b.keyring("crm"); got.Current != want.Current || got.Version != 3 {
		t.Errorf("the active key was replaced because of a stale cache: version %d", got.Version)
	}
	if status := b.postbackSecret("crm").Status; status.Version != 3 || status.LastHandledRotateSecret != "second" {
		t.Errorf("the status went backwards: %+v; looks again after %s", status, result.RequeueAfter)
	}

	// The cache still has an object that the API server no longer has.
	b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm")))
	b.eventually("the Secret is collected", func() bool { return b.secret("crm") == nil })
	if _, err := b.secrets.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err != nil {
		t.Error(err)
	}
	if b.secret("crm") != nil {
		t.Error("a key was made for a PostbackSecret that is gone")
	}
}

// staleClient answers a Get with an old object.
type staleClient struct {
	client.Client
	object *v1alpha1.PostbackSecret
}

func (c staleClient) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if secret, ok := into.(*v1alpha1.PostbackSecret); ok {
		c.object.DeepCopyInto(secret)
		return nil
	}
	return c.Client.Get(ctx, key, into, opts...)
}

func TestKeyIsReplacedWhenTheSecretIsDeletedByHand(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", nil))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.settleSecret("crm")
	old := b.keyring("crm")
	b.told()
	b.must(b.direct.Delete(b.ctx, b.secret("crm")))
	b.settleSecret("crm")
	k, status := b.keyring("crm"), b.postbackSecret("crm").Status
	if k.Version != 3 || slices.Contains(old.Keys(), k.Current) || status.Version != 3 || k.Handled.Own != "first" {
		t.Errorf("version %d, status %+v", k.Version, status)
	}
	if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning KeyReplaced") {
		t.Errorf("events %q", told)
	}

	// A key that became invalid in place is replaced too, but the previous ones keep signing.
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "second")
	b.settleSecret("crm")
	previous := b.keyring("crm").Previous[0]
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Data["secret"] = []byte("spoiled") })
	b.settleSecret("crm")
	if k = b.keyring("crm"); k.Version != 5 || len(k.Previous) != 1 || k.Previous[0].Key != previous.Key || k.Current == "" {
		t.Errorf("version %d with %d previous keys", k.Version, len(k.Previous))
	}
}

func TestAnnotationsAndLabelsAreRepaired(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", nil))
	b.settleSecret("crm")
	annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "first")
	b.settleSecret("crm")
	want := b.secret("crm")
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Annotations, s.Labels = nil, map[string]string{"mine": "yes"} })
	b.settleSecret("crm")
	got := b.secret("crm")
	if !hasWatchLabel(got) || got.Labels["mine"] != "yes" || got.Annotations[keyring.VersionAnnotation] != "2" ||
		got.Annotations[keyring.RotatedAtAnnotation] != want.Annotations[keyring.RotatedAtAnnotation] || len(got.Data) != 2 {
		t.Errorf("labels %v, annotations %v", got.Labels, got.Annotations)
	}
}
