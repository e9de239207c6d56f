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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// restored returns an object as Velero creates it: without UID, owner references, finalizers and status.
func restored[T client.Object](b *bench, object T, name string) T {
	b.t.Helper()
	b.must(b.direct.Get(b.ctx, b.key(name), object))
	object.SetUID("")
	object.SetResourceVersion("")
	object.SetOwnerReferences(nil)
	object.SetFinalizers(nil)
	object.SetManagedFields(nil)
	object.SetCreationTimestamp(metav1.Time{})
	return object
}

// restoreElsewhere copies a Postback, its PostbackSecret and its Secret into another namespace, the Secret first.
func (b *bench) restoreElsewhere(name string) {
	b.t.Helper()
	secret := restored(b, &corev1.Secret{}, name)
	postbackSecret := restored(b, &v1alpha1.PostbackSecret{}, name)
	postbackSecret.Status = v1alpha1.PostbackSecretStatus{}
	postback := restored(b, &v1alpha1.Postback{}, name)
	postback.Status = v1alpha1.PostbackStatus{}
	b.ns = makeNamespace(b.t, b.direct, "restored-")
	for _, object := range []client.Object{secret, postbackSecret, postback} {
		b.create(object)
	}
}

func TestRestoreKeepsTheKey(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "1")
	b.settle("crm")
	want := b.keyring("crm")
	b.told()

	b.restoreElsewhere("crm")
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if t.Failed() {
		return
	}
	got := b.keyring("crm")
	if got.Current != want.Current || got.Version != 2 || !slices.Equal(got.Keys(), want.Keys()) || !slices.Equal(b.route("crm").Keys, want.Keys()) {
		t.Errorf("version %d with %d keys, want version 2 with the keys from before", got.Version, len(got.Keys()))
	}
	if !metav1.IsControlledBy(b.secret("crm"), b.postbackSecret("crm")) || !metav1.IsControlledBy(b.postbackSecret("crm"), b.postback("crm")) {
		t.Error("the restored objects have no owner")
	}
	told := b.told()
	if !slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "Normal KeyAdopted") }) ||
		slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "Warning") }) {
		t.Errorf("events %q", told)
	}
}

// A Secret is adopted only with the operator's labels, a version and a valid key.
func TestOnlyAWholeSecretOfOursIsAdopted(t *testing.T) {
	for what, spoil := range map[string]func(*corev1.Secret){
		"no labels":  func(s *corev1.Secret) { s.Labels = nil },
		"no version": func(s *corev1.Secret) { delete(s.Annotations, keyring.VersionAnnotation) },
		"no key":     func(s *corev1.Secret) { s.Data = map[string][]byte{"password": []byte("x")} },
		"bad key":    func(s *corev1.Secret) { s.Data[v1alpha1.SigningKeyName] = []byte("spoiled") },
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostbackSecret("crm", nil))
			b.settleSecret("crm")
			secret := restored(b, &corev1.Secret{}, "crm")
			b.ns = makeNamespace(t, b.direct, "restored-")
			spoil(secret)
			b.create(secret)
			b.create(newPostbackSecret("crm", nil))
			b.settleSecret("crm")
			status := b.postbackSecret("crm").Status
			checkConditions(t, status.Conditions, stateStalled, v1alpha1.SecretNotOwnedReason, "source External")
			if message := status.Conditions[0].Message; strings.Contains(message, "Delete") {
				t.Errorf("%q advises to destroy a key", message)
			}
		})
	}
}

// Every loss of a key that receivers know causes a warning.
func TestEveryReplacedKeyWarns(t *testing.T) {
	replaced := func(events []string) bool {
		return slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, "Warning KeyReplaced") })
	}
	t.Run("own PostbackSecret deleted", func(t *testing.T) {
		b := newBench(t)
		b.create(newPostback("own", nil))
		b.heartbeat("east", loadedEverything)
		b.settle("own")
		old := b.keyring("own").Current
		if told := b.told(); replaced(told) {
			t.Errorf("the first key warns: %q", told)
		}
		b.must(b.direct.Delete(b.ctx, b.postbackSecret("own")))
		b.eventually("the Secret is collected", func() bool { return b.secret("own") == nil })
		b.settle("own")
		if told := b.told(); !replaced(told) || b.keyring("own").Current == old {
			t.Errorf("events %q", told)
		}
	})
	t.Run("shared PostbackSecret made again", func(t *testing.T) {
		b := newBench(t)
		shared := func() *v1alpha1.PostbackSecret { return newPostbackSecret("crm", nil) }
		b.create(shared())
		b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "crm"} }))
		b.heartbeat("east", loadedEverything)
		b.settle("crm")
		b.told()
		b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm")))
		b.eventually("the Secret is collected", func() bool { return b.secret("crm") == nil })
		b.create(shared())
		b.settle("crm")
		if told := b.told(); !replaced(told) {
			t.Errorf("events %q", told)
		}
	})
	t.Run("another reference", func(t *testing.T) {
		b := newBench(t)
		b.create(newPostback("crm", nil))
		b.create(newPostbackSecret("other", nil))
		b.settleSecret("other")
		b.heartbeat("east", loadedEverything)
		b.settle("crm")
		b.told()
		modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "other"} })
		b.settle("crm")
		if told := b.told(); !replaced(told) {
			t.Errorf("events %q", told)
		}
	})
	t.Run("a rotation without overlap does not", func(t *testing.T) {
		b := newBench(t)
		b.create(newPostbackSecret("crm", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(0, 0) }))
		b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "crm"} }))
		b.heartbeat("east", loadedEverything)
		b.settle("crm")
		annotate(b, &v1alpha1.PostbackSecret{}, "crm", v1alpha1.RotateSecretAnnotation, "1")
		b.settle("crm")
		if told := b.told(); replaced(told) || b.keyring("crm").Version != 2 {
			t.Errorf("events %q", told)
		}
	})
}
