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
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// refuse makes one kind of write fail for objects of one type, as an admission plugin or a missing right does.
func refuse[T client.Object](b *bench, verb string) {
	b.faulty.refuse = func(what string, object client.Object) error {
		if _, ok := object.(T); !ok || what != verb {
			return nil
		}
		return apierrors.NewForbidden(corev1.Resource("secrets"), object.GetName(), errFault)
	}
}

// failingPass runs the Postback reconciler once, which must fail.
func (b *bench) failingPass(name string) {
	b.t.Helper()
	if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key(name)}); err == nil {
		b.t.Error("no error, so no back-off")
	}
}

// routed makes a Postback that is ready, and returns its route Secret.
func (b *bench) routed(name string) *corev1.Secret {
	b.t.Helper()
	b.create(newPostback(name, nil))
	b.heartbeat("east", loadedEverything)
	b.settle(name)
	b.checkPostback(name, stateReady, v1alpha1.RoutedReason, "")
	return b.routeSecret(name)
}

func (b *bench) routeSecret(name string) *corev1.Secret {
	b.t.Helper()
	secret, err := getSecret(b.ctx, b.direct, b.postbacks.routeKey(b.postback(name)))
	b.must(err)
	return secret
}

func TestNotReadyWhileALostRouteCannotBeMade(t *testing.T) {
	b := newBench(t)
	b.must(b.direct.Delete(b.ctx, b.routed("crm")))
	refuse[*corev1.Secret](b, "create")
	b.failingPass("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.PolicyDeniedReason, "made to fail")
	writes := b.faulty.count()
	b.failingPass("crm")
	if again := b.faulty.count() - writes; again != 1 {
		t.Errorf("%d writes in a pass that fails again, want 1: the one that is refused", again)
	}
	b.faulty.refuse = nil
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

func TestNotReadyWhileASpoiledRouteCannotBeMended(t *testing.T) {
	for name, spoil := range map[string]func(*bench, *corev1.Secret){
		"not a route": func(b *bench, s *corev1.Secret) {
			s.Data = nil
			b.must(b.direct.Update(b.ctx, s))
		},
		"other triggers": func(b *bench, s *corev1.Secret) {
			r, err := route.FromSecret(s)
			b.must(err)
			r.Triggers = []v1alpha1.Trigger{"never"}
			changed, err := r.ToSecret(s.Namespace)
			b.must(err)
			s.Data = changed.Data
			b.must(b.direct.Update(b.ctx, s))
		},
		"another type": func(b *bench, s *corev1.Secret) {
			b.must(b.direct.Delete(b.ctx, s))
			b.must(b.direct.Create(b.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			spoil(b, b.routed("crm"))
			b.faulty.refuse = func(_ string, object client.Object) error {
				if _, ok := object.(*corev1.Secret); ok {
					return errFault
				}
				return nil
			}
			b.failingPass("crm")
			b.checkPostback("crm", stateReconciling, v1alpha1.ProgressingReason, "not published")
			b.faulty.refuse = nil
			b.settle("crm")
			b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
		})
	}
}

// After an error in an early phase, an old conclusion stays only if the route still exists.
func TestNotReadyWhileALostRouteIsNotReached(t *testing.T) {
	b := newBench(t)
	lost := b.routed("crm")
	b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm")))
	b.eventually("the PostbackSecret is gone", func() bool { return b.gone(&v1alpha1.PostbackSecret{}, "crm") })
	b.faulty.refuse = func(what string, object client.Object) error {
		if _, ok := object.(*v1alpha1.PostbackSecret); ok && what == "create" {
			return errFault
		}
		return nil
	}
	b.failingPass("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	b.must(b.direct.Delete(b.ctx, lost))
	b.failingPass("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.ProgressingReason, "not published")
}

// A change of the state needs nothing but the route Secret.
func TestStateIsPublishedDespiteAnError(t *testing.T) {
	for name, arrange := range map[string]func(*bench){
		"the PostbackSecret cannot be made": func(b *bench) {
			b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm")))
			b.eventually("the PostbackSecret is gone", func() bool { return b.gone(&v1alpha1.PostbackSecret{}, "crm") })
			refuse[*v1alpha1.PostbackSecret](b, "create")
		},
		"a rotation cannot be passed on": func(b *bench) {
			annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "now")
			refuse[*v1alpha1.PostbackSecret](b, "patch")
		},
		"the finalizer cannot be put back": func(b *bench) {
			modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Finalizers = nil })
			refuse[*v1alpha1.Postback](b, "patch")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.routed("crm")
			arrange(b)
			modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) {
				p.Spec.State, p.Spec.URL = v1alpha1.PostbackDisabled, "https://other.example.com"
			})
			b.failingPass("crm")
			if r := b.route("crm"); r.State != v1alpha1.PostbackDisabled || r.URL == "https://other.example.com" {
				t.Errorf("state %s, URL %s", r.State, r.URL)
			}
			b.faulty.refuse = nil
			b.settle("crm")
			b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "Disabled")
		})
	}
}

func TestRouteEditedToAHigherGenerationIsMended(t *testing.T) {
	b := newBench(t)
	secret := b.routed("crm")
	edit := func() {
		t.Helper()
		r := b.route("crm")
		r.Generation, r.URL = r.Generation+100, "https://elsewhere.example.com"
		changed, err := r.ToSecret(secret.Namespace)
		b.must(err)
		secret = b.routeSecret("crm")
		secret.Data = changed.Data
		b.must(b.direct.Update(b.ctx, secret))
	}
	edit()
	b.settle("crm")
	if r, postback := b.route("crm"), b.postback("crm"); r.Generation != postback.Generation || r.URL != postback.Spec.URL {
		t.Errorf("generation %d, URL %s", r.Generation, r.URL)
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")

	// Without a signing key, the state is still published.
	edit()
	b.must(b.direct.Delete(b.ctx, b.secret("crm")))
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.State = v1alpha1.PostbackPaused })
	_, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
	b.must(err)
	if r := b.route("crm"); r.State != v1alpha1.PostbackPaused {
		t.Errorf("state %s", r.State)
	}
}

// A route in which only the state was updated keeps its old generation. Only a live read shows that a pass is stale.
func TestStaleCacheDoesNotBringBackAnOldState(t *testing.T) {
	b := newBench(t)
	b.routed("crm")
	stale := b.postback("crm")
	b.must(b.direct.Delete(b.ctx, b.secret("crm")))
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.State = v1alpha1.PostbackDisabled })
	pass := func() {
		t.Helper()
		_, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
		b.must(err)
		if r := b.route("crm"); r.State != v1alpha1.PostbackDisabled {
			t.Errorf("state %s", r.State)
		}
	}
	pass()
	b.postbacks.Client = staleReader[*v1alpha1.Postback]{Client: b.postbacks.Client, object: stale}
	pass()
}

// The dispatcher distinguishes endpoints by the generation in which the URL last changed.
func TestRouteKeepsTheGenerationOfItsEndpoint(t *testing.T) {
	b := newBench(t)
	b.routed("crm")
	check := func(why string, generation, endpoint int64) {
		t.Helper()
		b.settle("crm")
		if r := b.route("crm"); r.Generation != generation || r.EndpointGeneration != endpoint {
			t.Errorf("%s: the route is of generation %d, its endpoint of %d; want %d and %d", why, r.Generation, r.EndpointGeneration, generation, endpoint)
		}
	}
	check("at first", 1, 1)
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.Triggers = []v1alpha1.Trigger{"sale.*"} })
	check("other triggers", 2, 1)
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.URL = "https://other.example.com/hooks" })
	check("another URL", 3, 3)
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.State = v1alpha1.PostbackPaused })
	check("paused", 4, 3)
	b.must(b.direct.Delete(b.ctx, b.routeSecret("crm")))
	check("a route that was lost", 4, 4)
}
