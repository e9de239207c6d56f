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
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// staleReader answers Get for objects of one kind with an old object, like a stale cache.
type staleReader[T copied[T]] struct {
	client.Client
	object T
}

type copied[T any] interface {
	client.Object
	DeepCopyInto(into T)
}

func (c staleReader[T]) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if into, ok := into.(T); ok {
		c.object.DeepCopyInto(into)
		return nil
	}
	return c.Client.Get(ctx, key, into, opts...)
}

func TestStaleCacheDoesNotBringBackAnOldRoute(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	stale := b.postback("crm")
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) {
		p.Spec.URL, p.Spec.State = "https://new.example.com", v1alpha1.PostbackDisabled
	})
	b.settle("crm")
	want := b.postback("crm").Status

	current := b.postbacks.Client
	pass := func() {
		t.Helper()
		b.postbacks.Client = staleReader[*v1alpha1.Postback]{Client: current, object: stale}
		result, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
		b.must(err)
		if result.RequeueAfter == 0 {
			t.Error("nobody looks again")
		}
		b.postbacks.Client = current
		if r := b.route("crm"); r.URL != "https://new.example.com" || r.State != v1alpha1.PostbackDisabled {
			t.Errorf("the route went back to %s, %s", r.URL, r.State)
		}
	}
	pass()
	if got := b.postback("crm").Status; !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("the status went backwards: %+v", got)
	}
	// The same holds while the keys cannot be read.
	modify(b, &corev1.Secret{}, "crm", func(s *corev1.Secret) { s.Data = nil })
	pass()
}

// A pass over an old status omits a write. The event of the newer status triggers a pass that makes it, and the event
// of that write triggers the last pass.
func TestStaleStatusOfAPostbackIsLookedAtAgain(t *testing.T) {
	b := newBench(t)
	request := ctrl.Request{NamespacedName: b.key("crm")}
	pass := func() {
		t.Helper()
		_, err := b.postbacks.Reconcile(b.ctx, request)
		b.must(err)
	}
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	stale := b.postback("crm")
	b.postbacks.Replicas.delete(lease("east", "", time.Time{}))
	pass()
	b.checkPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
	b.heartbeat("east", loadedEverything)
	current := b.postbacks.Client
	b.postbacks.Client = staleReader[*v1alpha1.Postback]{Client: current, object: stale}
	pass()
	b.postbacks.Client = current

	if postbackChanged().Update(event.UpdateEvent{ObjectOld: stale, ObjectNew: b.postback("crm")}) {
		pass()
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	writes := b.faulty.count()
	pass()
	if b.faulty.count() != writes {
		t.Error("the passes do not come to an end")
	}
}

func TestStaleStatusOfAPostbackSecretIsLookedAtAgain(t *testing.T) {
	b := newBench(t)
	request := ctrl.Request{NamespacedName: b.key("vault")}
	pass := func() {
		t.Helper()
		_, err := b.secrets.Reconcile(b.ctx, request)
		b.must(err)
	}
	vault := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vault"}, Data: map[string][]byte{"secret": []byte(keyring.New())}}
	b.create(newPostbackSecret("vault", func(s *v1alpha1.PostbackSecret) { s.Spec.Source = v1alpha1.SecretExternal }))
	b.create(vault.DeepCopy())
	pass()
	stale := b.postbackSecret("vault")
	b.must(b.direct.Delete(b.ctx, b.secret("vault")))
	pass()
	checkConditions(t, b.postbackSecret("vault").Status.Conditions, stateReconciling, v1alpha1.KeyNotFoundReason, "")
	b.create(vault)
	current := b.secrets.Client
	b.secrets.Client = staleReader[*v1alpha1.PostbackSecret]{Client: current, object: stale}
	pass()
	b.secrets.Client = current

	if postbackSecretChanged().Update(event.UpdateEvent{ObjectOld: stale, ObjectNew: b.postbackSecret("vault")}) {
		pass()
	}
	checkConditions(t, b.postbackSecret("vault").Status.Conditions, stateReady, v1alpha1.KeyAvailableReason, "")
}

// Changes of labels and finalizers do not pass the predicate.
func TestOtherChangesAreNotLookedAt(t *testing.T) {
	before := newPostback("crm", nil)
	after := newPostback("crm", func(p *v1alpha1.Postback) {
		p.ResourceVersion, p.Labels, p.Annotations = "2", map[string]string{"a": "b"}, map[string]string{"note": "x"}
		p.Finalizers = []string{v1alpha1.RouteFinalizer}
	})
	if postbackChanged().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("looked at")
	}
}

// While the route cannot be stored, the Postback is Reconciling, not Ready.
func TestStatusWhileTheRouteCannotBeStored(t *testing.T) {
	b := newBench(t)
	b.postbacks.Namespace = "does-not-exist"
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	request := ctrl.Request{NamespacedName: b.key("crm")}
	var failed error
	for range 4 {
		_, failed = b.postbacks.Reconcile(b.ctx, request)
		if _, err := b.secrets.Reconcile(b.ctx, request); err != nil {
			t.Fatal(err)
		}
	}
	if failed == nil {
		t.Error("no error, so no back-off")
	}
	postback := b.postback("crm")
	if postback.Status.ObservedGeneration != postback.Generation {
		t.Errorf("observedGeneration %d", postback.Status.ObservedGeneration)
	}
	if ready := conditionMistake(postback.Status.Conditions, stateReady, v1alpha1.RoutedReason, ""); ready == "" {
		t.Error("it is Ready without a route")
	}
	// The conditions of an old generation say nothing about a new one.
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.DisplayName = "CRM" })
	_, _ = b.postbacks.Reconcile(b.ctx, request)
	b.checkPostback("crm", stateReconciling, v1alpha1.ProgressingReason, "tries again")
}

// In a namespace that is being deleted, the manager makes nothing new and reports no errors.
func TestNamespaceThatIsBeingDeleted(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "holds", Finalizers: []string{"postback.dev/test"}}})
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Finalizers = []string{"postback.dev/test"} })
	b.must(b.direct.Delete(b.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.ns}}))
	stale := b.postback("crm")
	stale.DeletionTimestamp = nil
	b.eventually("the namespace is being deleted", func() bool { return b.postback("crm").DeletionTimestamp != nil })
	b.postbacks.Client = staleReader[*v1alpha1.Postback]{Client: b.postbacks.Client, object: stale}
	stale.ResourceVersion = b.postback("crm").ResourceVersion
	stale.Finalizers = append(stale.Finalizers, v1alpha1.RouteFinalizer)
	result, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
	if err != nil || result.RequeueAfter == 0 || b.routes() != 0 {
		t.Errorf("%v, looks again after %s, %d routes", err, result.RequeueAfter, b.routes())
	}
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Finalizers = nil })
	modify(b, &corev1.ConfigMap{}, "holds", func(c *corev1.ConfigMap) { c.Finalizers = nil })
}
