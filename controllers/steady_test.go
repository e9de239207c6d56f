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
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestReadyFollowsTheDispatcher(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
	version := func() string {
		secret, err := getSecret(b.ctx, b.direct, b.postbacks.routeKey(b.postback("crm")))
		b.must(err)
		return secret.ResourceVersion
	}
	b.heartbeat("east", "1")
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "0 of 1")
	b.heartbeat("east", version())
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")

	// A second replica joins, and has loaded nothing.
	b.heartbeat("north", "")
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "1 of 2")
	b.heartbeat("north", version())
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")

	// New keys do not make the Postback unready; a new generation does.
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "x")
	old := version()
	b.settle("crm")
	if version() == old {
		t.Fatal("the route did not get the new key")
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.Triggers = []v1alpha1.Trigger{"*"} })
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "0 of 2")
	b.heartbeat("east", version())
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.WaitingForDispatcherReason, "1 of 2")

	// The second replica dies: its Lease expires.
	b.clock.Step(10 * time.Second)
	b.heartbeat("east", version())
	b.clock.Step(6 * time.Second)
	if changed, _ := b.postbacks.Replicas.expire(); !changed {
		t.Error("the Lease did not run out")
	}
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	b.postbacks.Replicas.delete(lease("east", "", time.Time{}))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "")
}

func TestSteadyStateMakesNoWrites(t *testing.T) {
	b := newBench(t)
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tokens"}, Data: map[string][]byte{"auth": []byte("x")}})
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Annotations = map[string]string{v1alpha1.SendTestAnnotation: "lead.created/1", v1alpha1.RotateSecretAnnotation: "1"}
		p.Spec.Headers = []v1alpha1.Header{{Name: "X-Key", ValueFrom: &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "tokens", Key: "auth"}}}}
	}))
	crt, key := certificate(t, b.clock.Now().Add(-2*time.Hour), b.clock.Now().Add(-time.Hour))
	b.create(secretOf("client", map[string]string{"tls.crt": crt, "tls.key": key, "ca.crt": crt, "token": "x"}))
	b.create(newPostback("guarded", func(p *v1alpha1.Postback) {
		p.Spec.Filter, p.Spec.Auth, p.Spec.TLS = "event.data.amount > 1", bearer("client", "token"), tlsOf("client", "client")
	}))
	b.create(newPostback("misfiltered", func(p *v1alpha1.Postback) { p.Spec.Filter = "event.data.amount >" }))
	b.tellHealth("guarded", metav1.ConditionFalse, "it fails")
	b.create(newPostbackSecret("scheduled", func(s *v1alpha1.PostbackSecret) { s.Spec.Rotation = rotation(2*time.Hour, time.Hour) }))
	b.create(newPostbackSecret("external", func(s *v1alpha1.PostbackSecret) { s.Spec.Source = v1alpha1.SecretExternal }))
	b.create(newPostbackSecret("tokens", nil))
	b.create(newPostback("plain", func(p *v1alpha1.Postback) { p.Spec.URL = "http://x.example.com" }))
	names := []string{"crm", "scheduled", "external", "tokens", "plain", "guarded", "misfiltered"}
	b.heartbeat("east", loadedEverything)
	for _, name := range names {
		b.settle(name)
	}
	annotate(b, &v1alpha1.PostbackSecret{}, "scheduled", v1alpha1.RotateSecretAnnotation, "1")
	b.settle("scheduled")

	before := b.faulty.count()
	b.told()
	for range 100 {
		b.clock.Step(7*time.Second + 123*time.Millisecond)
		b.heartbeat("east", loadedEverything)
		for _, name := range names {
			b.settle(name)
		}
	}
	if writes := b.faulty.count() - before; writes != 0 {
		t.Errorf("%d writes in a steady state: %v", writes, b.faulty.kinds)
	}
	if told := b.told(); len(told) != 0 {
		t.Errorf("events in a steady state: %q", told)
	}
}
