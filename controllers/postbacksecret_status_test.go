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
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// keyStatusScope returns a pass over the second generation of a PostbackSecret with a generated key, whose earlier
// pass had the given conclusion while a previous key kept signing. An earlier generation of 0 means that there was no
// earlier pass.
func keyStatusScope(earlierGeneration int64, earlier *readiness) *postbackSecretScope {
	object := newPostbackSecret("crm", func(p *v1alpha1.PostbackSecret) { p.Generation = 2 })
	if earlierGeneration > 0 {
		status := &object.Status
		status.ObservedGeneration, status.Version, status.PreviousVersion = earlierGeneration, 2, 1
		status.LastRotationTime = ptr.To(metav1.NewTime(firstPass))
		status.PreviousExpiryTime = ptr.To(metav1.NewTime(firstPass.Add(v1alpha1.DefaultOverlap)))
		status.LastHandledRotateSecret, status.LastHandledRotateSecretFromPostback = "1", "crm/1"
		conditions := conditionSetter{&status.Conditions, earlierGeneration, firstPass}
		conditions.apply(earlier)
		conditions.set(v1alpha1.OverlapCondition, metav1.ConditionTrue, v1alpha1.PreviousKeySignsReason, "Previous keys that keep signing beside the current one: 1.")
	}
	s := &postbackSecretScope{now: secondPass, requeue: requeue{now: secondPass}}
	s.use(object)
	return s
}

// presentKeys returns the decision that a core Secret with the third key and the given previous ones is as desired.
func presentKeys(previous ...keyring.Previous) *keyDecision {
	return &keyDecision{keyring: keyring.Keyring{
		Version: 3, Current: "current-key", RotatedAt: firstPass, Previous: previous, Handled: keyring.Requests{Own: "2", Passed: "crm/2"},
	}}
}

func TestReadyOfAPostbackSecret(t *testing.T) {
	available, immutable := keyAvailable("crm"), secretImmutable("crm")
	ownedByCRM := newPostbackSecret("crm", func(p *v1alpha1.PostbackSecret) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Postback", Name: "crm", Controller: ptr.To(true)}}
	})
	for name, test := range map[string]struct {
		earlierGeneration int64
		earlier           *readiness
		concluded         *readiness
		state             state
		reason            string
		names             []string
		since             time.Time
	}{
		"an error in the first pass": {
			state: stateReconciling, reason: "Progressing", names: []string{"The last step failed. The operator tries again."}, since: secondPass,
		},
		"an error after a change of the spec": {
			earlierGeneration: 1, earlier: available,
			state: stateReconciling, reason: "Progressing", names: []string{"The last step failed."}, since: secondPass,
		},
		"an error keeps an earlier Ready of this generation": {
			earlierGeneration: 2, earlier: available, state: stateReady, reason: "KeyAvailable", names: []string{`Secret "crm"`}, since: firstPass,
		},
		"an error keeps an earlier Stalled of this generation": {
			earlierGeneration: 2, earlier: immutable, state: stateStalled, reason: "SecretImmutable", names: []string{"immutable: true"}, since: firstPass,
		},
		"a conclusion replaces an earlier one of this generation": {
			earlierGeneration: 2, earlier: immutable, concluded: available,
			state: stateReady, reason: "KeyAvailable", names: []string{`Secret "crm" holds the signing key.`}, since: secondPass,
		},
		"an external Secret that does not exist": {
			concluded: keySecretNotFound("vault"),
			state:     stateReconciling, reason: "KeyNotFound", names: []string{`Secret "vault"`, "put the signing key into it", `data key "secret"`}, since: secondPass,
		},
		"an external Secret without the data key": {
			concluded: keyNotFound(&keyring.NotFoundError{Secret: "vault", DataKey: "secret"}),
			state:     stateReconciling, reason: "KeyNotFound", names: []string{`Secret "vault"`, `data key "secret"`, "put the signing key there"}, since: secondPass,
		},
		"an external key that is invalid": {
			concluded: invalidKey(externalMistake(t, "s3cret-of-another-form")),
			state:     stateStalled, reason: "InvalidKey", names: []string{`The data key "secret"`, `Secret "vault"`, "it must be whsec_"}, since: secondPass,
		},
		"an external key that is empty": {
			concluded: invalidKey(externalMistake(t, "")),
			state:     stateStalled, reason: "InvalidKey", names: []string{`data key "secret"`, "is empty: put a signing key there"}, since: secondPass,
		},
		"an immutable Secret": {
			concluded: immutable,
			state:     stateStalled, reason: "SecretImmutable", names: []string{`Secret "crm" has immutable: true`, "delete that Secret"}, since: secondPass,
		},
		"the Secret of an earlier PostbackSecret": {
			concluded: secretTerminating("crm"),
			state:     stateReconciling, reason: "SecretTerminating", names: []string{`Secret "crm"`, "a new one follows"}, since: secondPass,
		},
		"the Secret of another owner": {
			concluded: secretNotOwned(newPostbackSecret("crm", nil), "crm"),
			state:     stateStalled, reason: "SecretNotOwned", names: []string{`Secret "crm"`, "source External", "choose another spec.secretName"}, since: secondPass,
		},
		"the Secret of another owner, for a Postback": {
			concluded: secretNotOwned(ownedByCRM, "crm"),
			state:     stateStalled, reason: "SecretNotOwned", names: []string{`Secret "crm"`, "spec.secretRef", `Postback "crm"`, "source External"}, since: secondPass,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := keyStatusScope(test.earlierGeneration, test.earlier)
			s.readiness = test.concluded
			observePostbackSecret(s)
			status := s.object.Status
			checkConditions(t, status.Conditions, test.state, test.reason, "")
			ready := conditionNamed(t, status.Conditions, v1alpha1.ReadyCondition)
			for _, words := range test.names {
				if !strings.Contains(ready.Message, words) {
					t.Errorf("the message does not name %q: %s", words, ready.Message)
				}
			}
			if strings.Contains(ready.Message, "s3cret") {
				t.Errorf("the message repeats a part of the key: %s", ready.Message)
			}
			if status.ObservedGeneration != 2 || ready.ObservedGeneration != 2 {
				t.Errorf("observedGeneration %d, and %d in Ready; want 2", status.ObservedGeneration, ready.ObservedGeneration)
			}
			if want := test.since.Truncate(time.Second); !ready.LastTransitionTime.Time.Equal(want) {
				t.Errorf("lastTransitionTime %s, want %s", ready.LastTransitionTime, want)
			}
		})
	}
}

// externalMistake returns the fault of a key in the external Secret vault.
func externalMistake(t *testing.T, key string) error {
	t.Helper()
	_, err := keyring.External(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "vault"}, Data: map[string][]byte{v1alpha1.SigningKeyName: []byte(key)},
	})
	if _, missing := errors.AsType[*keyring.NotFoundError](err); err == nil || missing {
		t.Fatalf("error %v, want a fault of the key", err)
	}
	return err
}

func TestOverlapOfAPostbackSecret(t *testing.T) {
	one := keyring.Previous{Version: 2, Key: "second-key", RetiredAt: firstPass}
	two := keyring.Previous{Version: 1, Key: "first-key", RetiredAt: firstPass.Add(-time.Hour)}
	for name, test := range map[string]struct {
		earlierGeneration int64
		pass              func(*postbackSecretScope)
		message           string // "" means no condition
	}{
		"no previous key": {
			pass: func(s *postbackSecretScope) { s.keys, s.readiness = presentKeys(), keyAvailable("crm") },
		},
		"the overlap of the previous key has ended": {
			earlierGeneration: 2,
			pass:              func(s *postbackSecretScope) { s.keys, s.readiness = presentKeys(), keyAvailable("crm") },
		},
		"one previous key": {
			pass:    func(s *postbackSecretScope) { s.keys, s.readiness = presentKeys(one), keyAvailable("crm") },
			message: "Previous keys that keep signing beside the current one: 1.",
		},
		"two previous keys": {
			pass:    func(s *postbackSecretScope) { s.keys, s.readiness = presentKeys(one, two), keyAvailable("crm") },
			message: "Previous keys that keep signing beside the current one: 2.",
		},
		"a previous key in an external Secret": {
			pass:    func(s *postbackSecretScope) { s.previousSigns, s.readiness = true, keyAvailable("crm") },
			message: "The previous key keeps signing until it is removed from the Secret.",
		},
		"a previous key in an immutable Secret": {
			pass:    func(s *postbackSecretScope) { s.previousSigns, s.readiness = true, secretImmutable("crm") },
			message: "The previous key keeps signing until it is removed from the Secret.",
		},
		"the previous key is removed from an external Secret": {
			earlierGeneration: 2,
			pass: func(s *postbackSecretScope) {
				s.object.Spec.Source, s.readiness = v1alpha1.SecretExternal, keyAvailable("crm")
			},
		},
		"an error in a pass that read no key": {
			earlierGeneration: 2,
			pass:              func(*postbackSecretScope) {},
			message:           "Previous keys that keep signing beside the current one: 1.",
		},
		"a refused write of the keys": {
			earlierGeneration: 2,
			pass: func(s *postbackSecretScope) {
				s.failed, s.readiness = true, stalled(v1alpha1.QuotaExceededReason, "The API server refuses it.")
			},
			message: "Previous keys that keep signing beside the current one: 1.",
		},
		"an error after a change of the spec": {
			earlierGeneration: 1,
			pass:              func(s *postbackSecretScope) { s.failed = true },
			message:           "Previous keys that keep signing beside the current one: 1.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := keyStatusScope(test.earlierGeneration, keyAvailable("crm"))
			test.pass(s)
			observePostbackSecret(s)
			got := meta.FindStatusCondition(s.object.Status.Conditions, v1alpha1.OverlapCondition)
			switch {
			case test.message == "" && got != nil:
				t.Errorf("got %+v, want no condition", got)
			case test.message != "" && (got == nil || got.Status != metav1.ConditionTrue || got.Reason != "PreviousKeySigns" || got.Message != test.message):
				t.Errorf("got %+v, want PreviousKeySigns: %s", got, test.message)
			}
		})
	}
}

func TestFieldsOfAPostbackSecretsStatus(t *testing.T) {
	hour := metav1.Duration{Duration: time.Hour}
	rotation := firstPass.Add(24*time.Hour + 300*time.Millisecond)
	type fields struct {
		version, previous      int64
		rotated, expiry, next  string
		handledOwn, handledFor string
	}
	earlier := fields{2, 1, "2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z", "", "1", "crm/1"}
	for name, test := range map[string]struct {
		pass func(*postbackSecretScope)
		want fields
	}{
		"a pass that read no key keeps the record": {func(*postbackSecretScope) {}, earlier},
		"a key without a previous one": {
			func(s *postbackSecretScope) { s.keys = presentKeys() },
			fields{3, 0, "2026-03-01T12:00:00Z", "", "", "2", "crm/2"},
		},
		"the newest of two previous keys, with the default overlap": {
			func(s *postbackSecretScope) {
				s.keys = presentKeys(keyring.Previous{Version: 2, RetiredAt: firstPass}, keyring.Previous{Version: 1, RetiredAt: firstPass.Add(-time.Hour)})
			},
			fields{3, 2, "2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z", "", "2", "crm/2"},
		},
		"a previous key with an overlap of an hour": {
			func(s *postbackSecretScope) {
				s.object.Spec.Rotation = &v1alpha1.Rotation{Overlap: &hour}
				s.keys = presentKeys(keyring.Previous{Version: 2, RetiredAt: firstPass})
			},
			fields{3, 2, "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z", "", "2", "crm/2"},
		},
		"the next rotation, in whole seconds": {
			func(s *postbackSecretScope) { s.keys = presentKeys(); s.keys.nextRotation = rotation },
			fields{3, 0, "2026-03-01T12:00:00Z", "", "2026-03-02T12:00:00Z", "2", "crm/2"},
		},
		"a refused request for an external key": {
			func(s *postbackSecretScope) { s.refused = keyring.Requests{Own: "2"} },
			fields{2, 1, "2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z", "", "2", "crm/1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := keyStatusScope(2, keyAvailable("crm"))
			test.pass(s)
			observePostbackSecret(s)
			status := s.object.Status
			got := fields{
				status.Version, status.PreviousVersion, textOf(status.LastRotationTime), textOf(status.PreviousExpiryTime),
				textOf(status.NextRotationTime), status.LastHandledRotateSecret, status.LastHandledRotateSecretFromPostback,
			}
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// textOf returns a time in RFC 3339, or "".
func textOf(at *metav1.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// An immutable Secret, or one of another owner, is read again after the poll interval.
func TestObstaclesOfAPostbackSecret(t *testing.T) {
	r := &PostbackSecretReconciler{PollInterval: time.Minute}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "crm"}}
	withPrevious := secret.DeepCopy()
	withPrevious.Data = map[string][]byte{v1alpha1.SigningKeyName: []byte(keyring.New()), "previous-1": []byte(keyring.New())}
	for name, test := range map[string]struct {
		report        func(*postbackSecretScope)
		reason        string
		previousSigns bool
	}{
		"immutable":                     {func(s *postbackSecretScope) { r.reportImmutable(s, secret) }, "SecretImmutable", false},
		"immutable with a previous key": {func(s *postbackSecretScope) { r.reportImmutable(s, withPrevious) }, "SecretImmutable", true},
		"of another owner":              {func(s *postbackSecretScope) { r.reportNotOwned(s, secret) }, "SecretNotOwned", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := keyStatusScope(0, nil)
			test.report(s)
			checkReadiness(t, s.readiness, stateStalled, test.reason, `Secret "crm"`)
			if s.previousSigns != test.previousSigns || s.requeue.after != time.Minute {
				t.Errorf("previousSigns %t, requeued after %s; want %t and one minute", s.previousSigns, s.requeue.after, test.previousSigns)
			}
		})
	}
}
