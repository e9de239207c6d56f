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
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// routes returns the number of Secrets in the namespace of the installation.
func (b *bench) routes() int {
	b.t.Helper()
	list := &corev1.SecretList{}
	b.must(b.direct.List(b.ctx, list, client.InNamespace(b.install)))
	return len(list.Items)
}

func TestDeleteLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Annotations = map[string]string{v1alpha1.SendTestAnnotation: "lead.created"}
	}))
	b.settle("crm")
	if b.routes() != 1 || len(b.deliveries()) != 1 {
		t.Fatalf("%d routes, %d deliveries", b.routes(), len(b.deliveries()))
	}
	stale := b.postback("crm")
	b.must(b.direct.Delete(b.ctx, b.postback("crm")))
	b.settle("crm")
	if !b.gone(&v1alpha1.Postback{}, "crm") || b.routes() != 0 {
		t.Errorf("%d routes are left", b.routes())
	}
	b.eventually("everything is collected", func() bool {
		return b.gone(&v1alpha1.PostbackSecret{}, "crm") && b.gone(&corev1.Secret{}, "crm") && len(b.deliveries()) == 0
	})

	// A stale cache must not bring the route back.
	b.postbacks.Client = staleReader[*v1alpha1.Postback]{Client: b.postbacks.Client, object: stale}
	for range 3 {
		if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err != nil {
			t.Logf("refused: %v", err)
		}
	}
	if b.routes() != 0 {
		t.Error("a route was made for a Postback that is gone")
	}
}

// A deletion of a Postback completes, whichever of its objects was deleted before.
func TestDeleteWithMissingSecret(t *testing.T) {
	tests := map[string]func(*bench){
		"the core Secret":    func(b *bench) { b.must(b.direct.Delete(b.ctx, b.secret("crm"))) },
		"the PostbackSecret": func(b *bench) { b.must(b.direct.Delete(b.ctx, b.postbackSecret("crm"))) },
		"the route": func(b *bench) {
			secret, err := getSecret(b.ctx, b.direct, b.postbacks.routeKey(b.postback("crm")))
			b.must(err)
			b.must(b.direct.Delete(b.ctx, secret))
		},
		"the namespace of the installation": func(b *bench) {
			b.must(b.direct.Delete(b.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.install}}))
			b.eventually("the namespace is gone", func() bool {
				return client.IgnoreNotFound(b.direct.Get(b.ctx, client.ObjectKey{Name: b.install}, &corev1.Namespace{})) == nil && b.routes() == 0
			})
		},
	}
	for name, remove := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.create(newPostback("crm", nil))
			b.settle("crm")
			remove(b)
			b.must(b.direct.Delete(b.ctx, b.postback("crm")))
			b.settle("crm")
			if !b.gone(&v1alpha1.Postback{}, "crm") || b.routes() != 0 {
				t.Errorf("%d routes are left, or the Postback", b.routes())
			}
			b.eventually("everything is collected", func() bool {
				return b.gone(&v1alpha1.PostbackSecret{}, "crm") && b.gone(&corev1.Secret{}, "crm")
			})
		})
	}
}

func TestDeleteSurvivesACrashAtEachStep(t *testing.T) {
	for moment, after := range map[string]bool{"before": false, "after": true} {
		for n := 1; n <= 2; n++ {
			t.Run(fmt.Sprintf("%s write %d", moment, n), func(t *testing.T) {
				b := newBench(t)
				b.create(newPostback("crm", nil))
				b.settle("crm")
				b.must(b.direct.Delete(b.ctx, b.postback("crm")))
				b.faulty.arm(n, after)
				if _, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")}); err == nil {
					t.Error("the write did not fail")
				}
				b.restart()
				b.settle("crm")
				if !b.gone(&v1alpha1.Postback{}, "crm") || b.routes() != 0 {
					t.Errorf("%d routes are left, or the Postback", b.routes())
				}
			})
		}
	}
}

// A Postback that is deleted and at once applied again gets a new key and a new route.
func TestRecreateAtOnce(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	old := b.keyring("crm").Current
	b.must(b.direct.Delete(b.ctx, b.postback("crm")))
	b.settle("crm")
	b.create(newPostback("crm", nil))
	b.eventually("the new one is ready", func() bool {
		b.settle("crm")
		r := b.route("crm")
		return r != nil && r.Keys[0] != old && conditionMistake(b.postback("crm").Status.Conditions, stateReady, v1alpha1.RoutedReason, "") == ""
	})
	if b.routes() != 1 {
		t.Errorf("%d routes", b.routes())
	}
}
