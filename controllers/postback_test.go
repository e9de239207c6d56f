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

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// loadedEverything is higher than any resourceVersion of a test.
const loadedEverything = "99999999999"

// heartbeat renews the Lease of a dispatcher replica, with the resourceVersion that it has loaded.
func (b *bench) heartbeat(replica, loaded string) {
	b.postbacks.Replicas.set(lease(replica, loaded, b.clock.Now()))
}

func lease(replica, loaded string, renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "postback-dispatcher-" + replica,
			Labels:      map[string]string{v1alpha1.ReplicaLabel: "true"},
			Annotations: map[string]string{v1alpha1.LoadedRoutesAnnotation: loaded},
		},
		Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr.To[int32](15), RenewTime: ptr.To(metav1.NewMicroTime(renewed))},
	}
}

func (b *bench) checkPostback(name string, want state, reason, message string) {
	b.t.Helper()
	postback := b.postback(name)
	checkConditions(b.t, postback.Status.Conditions, want, reason, message)
	if postback.Status.ObservedGeneration != postback.Generation {
		b.t.Errorf("observedGeneration %d of %d", postback.Status.ObservedGeneration, postback.Generation)
	}
}

func TestPostbackIsRouted(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Spec.Headers = []v1alpha1.Header{{Name: "X-Tenant", Value: ptr.To("acme")}}
		p.Spec.Retry = &v1alpha1.RetryPolicy{MaxAttempts: ptr.To[int32](5), GiveUpAfter: &metav1.Duration{Duration: time.Hour}}
		p.Spec.Timeout = &metav1.Duration{Duration: 3 * time.Second}
		p.Spec.Limits = &v1alpha1.Limits{MaxPending: ptr.To[int32](7), MaxConcurrent: ptr.To[int32](2), PerSecond: ptr.To[int32](5)}
		p.Spec.State, p.Spec.Format, p.Spec.Filter = v1alpha1.PostbackPaused, v1alpha1.FormatSlack, "event.id != ''"
		p.Spec.History = &v1alpha1.History{Failed: ptr.To[int32](0)}
	}))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.NoDispatcherReason, "no dispatcher replica")
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "Paused")

	postback, own := b.postback("crm"), b.postbackSecret("crm")
	if !metav1.IsControlledBy(own, postback) || !controllerutil.ContainsFinalizer(postback, v1alpha1.RouteFinalizer) {
		t.Errorf("owners %v, finalizers %v", own.OwnerReferences, postback.Finalizers)
	}
	if postback.Status.SecretName != "crm" || postback.Status.EndpointHost != "crm.example.com" {
		t.Errorf("status %+v", postback.Status)
	}
	got := b.route("crm")
	want := route.Route{
		Namespace: b.ns, Name: "crm", UID: postback.UID, Generation: postback.Generation, EndpointGeneration: postback.Generation,
		URL: postback.Spec.URL, Triggers: []v1alpha1.Trigger{"lead.created", "sale.*"}, State: v1alpha1.PostbackPaused,
		Headers:    []route.Header{{Name: "X-Tenant", Value: "acme"}},
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks},
		Keys:       []string{b.keyring("crm").Current},
		Timeout:    metav1.Duration{Duration: 3 * time.Second}, MaxAttempts: 5, GiveUpAfter: metav1.Duration{Duration: time.Hour}, MaxPending: 7, MaxPendingSet: true,
		MaxConcurrent: 2, PerSecond: 5, Format: v1alpha1.FormatSlack, Filter: "event.id != ''",
		History: route.History{Delivered: v1alpha1.DefaultHistoryDelivered, TTL: metav1.Duration{Duration: 168 * time.Hour}},
	}
	wantSecret, err := want.ToSecret("route")
	b.must(err)
	gotSecret, err := got.ToSecret("route")
	b.must(err)
	if !route.SameData(wantSecret, gotSecret) {
		t.Errorf("got %s\nwant %s", gotSecret.Data, wantSecret.Data)
	}
	for _, text := range append(b.told(), describe(postback.Status.Conditions)) {
		if strings.Contains(text, "t0ken") || strings.Contains(text, "whsec_") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

func TestRotationPassedOn(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Annotations = map[string]string{v1alpha1.RotateSecretAnnotation: "first"}
	}))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	if k := b.keyring("crm"); k.Version != 1 || k.Handled.Passed != "crm/first" || b.postback("crm").Status.LastHandledRotateSecret != "first" {
		t.Errorf("the first key does not answer the request: version %d, handled %+v", k.Version, k.Handled)
	}
	first := b.keyring("crm").Current
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "second")
	b.settle("crm")
	b.restart()
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	if k := b.keyring("crm"); k.Version != 2 || b.postback("crm").Status.LastHandledRotateSecret != "second" {
		t.Errorf("version %d, status %+v", k.Version, b.postback("crm").Status)
	}
	if keys := b.route("crm").Keys; len(keys) != 2 || keys[0] != b.keyring("crm").Current || keys[1] != first {
		t.Errorf("%d keys in the route", len(keys))
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	b.clock.Step(25 * time.Hour)
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	if keys := b.route("crm").Keys; len(keys) != 1 || keys[0] == first {
		t.Errorf("%d keys in the route after the overlap", len(keys))
	}
}

func TestSharedPostbackSecret(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"one", "two"} {
		b.create(newPostback(name, func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "shared"} }))
	}
	b.heartbeat("east", loadedEverything)
	b.settle("one")
	b.checkPostback("one", stateReconciling, v1alpha1.SecretNotFoundReason, `PostbackSecret "shared"`)
	if b.route("one") != nil {
		t.Error("a route without keys")
	}
	b.create(newPostbackSecret("shared", nil))
	b.settle("one")
	b.checkPostback("one", stateReconciling, v1alpha1.SecretNotReadyReason, `"shared" is not ready`)
	b.settleSecret("shared")
	b.settle("one")
	b.settle("two")
	if a, c := b.route("one").Keys, b.route("two").Keys; !slices.Equal(a, c) || len(a) != 1 {
		t.Error("the routes do not share the key")
	}
	for name, token := range map[string]string{"one": "x", "two": "x"} {
		annotate(b, &v1alpha1.Postback{}, name, v1alpha1.RotateSecretAnnotation, token)
	}
	b.settle("one")
	b.settleSecret("shared")
	b.settle("two")
	b.settleSecret("shared")
	if version := b.keyring("shared").Version; version != 3 {
		t.Errorf("two Postbacks asked with the same token, which rotated %d times", version-1)
	}
}

func TestSecretNameTaken(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("crm", nil))
	b.create(newPostback("crm", nil))
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.SecretNameTakenReason, `set spec.secretRef.name to "crm"`)
	if b.route("crm") != nil || len(b.postbackSecret("crm").OwnerReferences) != 0 {
		t.Error("a foreign PostbackSecret was adopted")
	}
	if told := b.told(); !slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "Warning SecretNameTaken") }) {
		t.Errorf("events %q", told)
	}
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "crm"} })
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

// Without a valid key, the last good route stays, with the last good key.
func TestRouteStaysWhenTheKeyIsGone(t *testing.T) {
	b := newBench(t)
	b.create(newPostbackSecret("vault", func(s *v1alpha1.PostbackSecret) { s.Spec.Source = v1alpha1.SecretExternal }))
	key := keyring.New()
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vault"}, Data: map[string][]byte{"secret": []byte(key)}})
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.SecretRef = &v1alpha1.LocalReference{Name: "vault"} }))
	b.heartbeat("east", loadedEverything)
	b.settleSecret("vault")
	_, result := b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if result.RequeueAfter != time.Minute {
		t.Errorf("an unwatched Secret is looked at after %s", result.RequeueAfter)
	}

	next := keyring.New()
	modify(b, &corev1.Secret{}, "vault", func(s *corev1.Secret) {
		s.Data = map[string][]byte{"secret": []byte(next), "previous": []byte(key)}
	})
	b.settle("crm")
	if keys := b.route("crm").Keys; !slices.Equal(keys, []string{next, key}) {
		t.Errorf("%d keys in the route", len(keys))
	}

	modify(b, &corev1.Secret{}, "vault", func(s *corev1.Secret) { s.Data = map[string][]byte{"secret": []byte("spoiled")} })
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.SecretNotReadyReason, "does not begin with whsec_")
	b.settleSecret("vault")
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.SecretNotReadyReason, "does not begin with whsec_")

	// A change of the state takes effect nevertheless, without the new URL.
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) {
		p.Spec.State, p.Spec.URL = v1alpha1.PostbackDisabled, "https://other.example.com"
	})
	b.settle("crm")
	if r := b.route("crm"); !slices.Equal(r.Keys, []string{next, key}) || r.State != v1alpha1.PostbackDisabled || r.URL != "https://crm.example.com/hooks?token=t0ken" {
		t.Errorf("%d keys, state %s", len(r.Keys), r.State)
	}
	b.must(b.direct.Delete(b.ctx, b.secret("vault")))
	b.must(b.direct.Delete(b.ctx, b.postbackSecret("vault")))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.SecretNotFoundReason, "")
	if r := b.route("crm"); len(r.Keys) != 2 {
		t.Error("the route lost its keys")
	}
}

func TestPolicyBreachRemovesTheRoute(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.Headers = []v1alpha1.Header{{Name: "X-Brand", Value: ptr.To("1")}} }))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")

	b.postbacks.Policy.SignatureHeader = "x-brand"
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.InvalidHeaderReason, `"X-Brand"`)
	if b.route("crm") != nil || b.postback("crm").Status.EndpointHost != "" {
		t.Error("the route is still there")
	}
	b.postbacks.Policy.SignatureHeader = "Dub-Signature"
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.URL = "http://crm.example.com/?token=t0ken" })
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.PlainHTTPNotAllowedReason, "--allow-plain-http")
	if b.route("crm") != nil || strings.Contains(describe(b.postback("crm").Status.Conditions), "t0ken") {
		t.Error("the route is still there, or the message shows the URL")
	}
	b.postbacks.Policy.AllowPlainHTTP = true
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}

func TestHeadersFromSecrets(t *testing.T) {
	b := newBench(t)
	ref := func(key string) *v1alpha1.HeaderSource {
		return &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "tokens", Key: key}}
	}
	b.create(newPostback("crm", func(p *v1alpha1.Postback) {
		p.Spec.Headers = []v1alpha1.Header{{Name: "Authorization", ValueFrom: ref("auth")}, {Name: "X-Key", ValueFrom: ref("key")}}
	}))
	b.heartbeat("east", loadedEverything)
	_, result := b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.HeaderSecretNotFoundReason, `Secret "tokens"`)
	if result.RequeueAfter != time.Minute || b.route("crm") != nil {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	b.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "tokens"}, Data: map[string][]byte{"auth": []byte("Bearer s3cret")}})
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.HeaderSecretNotFoundReason, `no data key "key"`)
	modify(b, &corev1.Secret{}, "tokens", func(s *corev1.Secret) { s.Data["key"] = []byte("k1") })
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if h := b.route("crm").Headers; len(h) != 2 || h[0].Value != "Bearer s3cret" || h[1].Value != "k1" {
		t.Errorf("headers %v", h)
	}
	modify(b, &corev1.Secret{}, "tokens", func(s *corev1.Secret) { s.Data["auth"] = []byte("Bearer s3cret2\n") })
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.InvalidHeaderReason, "line break")
	if strings.Contains(describe(b.postback("crm").Status.Conditions), "s3cret") {
		t.Error("a condition shows the value")
	}
	if h := b.route("crm").Headers; h[0].Value != "Bearer s3cret" {
		t.Error("the last good route did not stay")
	}
}

func TestRouteIsRepaired(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	want := b.route("crm")
	key := b.postbacks.routeKey(b.postback("crm"))
	spoil := func(change func(*corev1.Secret)) {
		b.t.Helper()
		secret, err := getSecret(b.ctx, b.direct, key)
		b.must(err)
		change(secret)
		b.must(b.direct.Update(b.ctx, secret))
		b.settle("crm")
	}
	spoil(func(s *corev1.Secret) { s.Data = map[string][]byte{"route.json": []byte("{}")} })
	spoil(func(s *corev1.Secret) { s.Labels = nil })
	if got := b.route("crm"); !slices.Equal(got.Keys, want.Keys) {
		t.Error("the route was not mended")
	}
	secret, err := getSecret(b.ctx, b.direct, key)
	b.must(err)
	if !hasWatchLabel(secret) {
		t.Error("the labels were not mended")
	}
	// A Secret of another type is replaced.
	b.must(b.direct.Delete(b.ctx, secret))
	b.must(b.direct.Create(b.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}))
	b.settle("crm")
	if secret, err = getSecret(b.ctx, b.direct, key); err != nil || secret.Type != route.SecretType {
		t.Errorf("type %s, %v", secret.Type, err)
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
}
