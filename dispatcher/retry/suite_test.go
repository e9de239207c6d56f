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

package retry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

var namespaces atomic.Int32

// rig is a Postback on a real API server, its endpoint, and the parts that deliver to it.
type rig struct {
	client    client.WithWatch
	postback  *v1alpha1.Postback
	routes    *route.Index
	attempter *attempt.Attempter
	endpoint  *endpoint
}

// endpoint answers with a settable status and keeps the requests.
type endpoint struct {
	url    string
	status atomic.Int32
	// during, if not nil, is called during each request.
	during func()
	now    func() time.Time

	mu       sync.Mutex
	requests []received
}

type received struct {
	at   time.Time
	id   string
	body string
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if e.during != nil {
		e.during()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, received{at: e.now(), id: r.Header.Get("webhook-id"), body: string(body)})
	w.WriteHeader(int(e.status.Load()))
}

func (e *endpoint) got() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]received(nil), e.requests...)
}

func newRig(t *testing.T, c clock.PassiveClock) *rig {
	t.Helper()
	g := NewWithT(t)
	scheme := runtime.NewScheme()
	g.Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	g.Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	live, err := client.NewWithWatch(cp.Config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())

	signer, err := sign.New(sign.DefaultDubHeader)
	g.Expect(err).NotTo(HaveOccurred())
	out, err := egress.New(egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
	g.Expect(err).NotTo(HaveOccurred())
	e := &endpoint{now: c.Now}
	e.status.Store(http.StatusOK)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("retry-%d", namespaces.Add(1))}}
	g.Expect(live.Create(t.Context(), namespace)).To(Succeed())
	postback := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "crm"},
		Spec:       v1alpha1.PostbackSpec{URL: server.URL, Triggers: []v1alpha1.Trigger{"*"}},
	}
	g.Expect(live.Create(t.Context(), postback)).To(Succeed())
	r := &rig{
		client: live, postback: postback, routes: route.NewIndex(), endpoint: e,
		attempter: &attempt.Attempter{
			Sender:   send.New(send.Options{Signer: signer, UserAgent: "Postback/test", Clock: c, Egress: out}),
			Recorder: &delivery.Recorder{Client: live},
			Events:   events.NewFakeRecorder(1000),
		},
	}
	r.setRoute(func(*route.Route) {})
	return r
}

func (r *rig) setRoute(change func(*route.Route)) {
	target := &route.Route{
		Namespace: r.postback.Namespace, Name: r.postback.Name, UID: r.postback.UID, URL: r.endpoint.url,
		Triggers: r.postback.Spec.Triggers, State: v1alpha1.PostbackEnabled,
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks},
		Keys:       []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
		Timeout:    metav1.Duration{Duration: 5 * time.Second}, MaxPending: 100,
	}
	change(target)
	r.routes.Set(target)
}

func (r *rig) route() *route.Route {
	return r.routes.Of(r.postback.Namespace, v1alpha1.PostbackReference{Name: r.postback.Name, UID: r.postback.UID})
}

func (r *rig) store(t *testing.T, id string) *v1alpha1.PostbackDelivery {
	t.Helper()
	d, err := delivery.New(r.postback.Namespace, v1alpha1.PostbackReference{Name: r.postback.Name, UID: r.postback.UID},
		v1alpha1.FormatJSON,
		&event.Event{ID: id, Type: "lead.created", CreatedAt: time.Now(), Data: []byte(`{"n":12345678901234567890}`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.client.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *rig) storeDeferred(t *testing.T, id string) *v1alpha1.PostbackDelivery {
	t.Helper()
	d := r.store(t, id)
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, v1alpha1.DeferredAnnotation))
	if err := r.client.Patch(t.Context(), d, patch); err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *rig) read(t *testing.T, d *v1alpha1.PostbackDelivery) *v1alpha1.PostbackDelivery {
	t.Helper()
	fresh := &v1alpha1.PostbackDelivery{}
	if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(d), fresh); err != nil {
		t.Fatal(err)
	}
	return fresh
}

func (r *rig) reconciler(t *testing.T, c clock.PassiveClock) *retry.Reconciler {
	return &retry.Reconciler{
		Unfinished: lookup(r.find), Live: r.client, Routes: r.routes, Lanes: atOnce{t.Context()}, Attempter: r.attempter, Clock: c,
		Elected: func() bool { return true }, HoldsLease: func() bool { return true },
	}
}

// find returns a delivery from the API server, or nil.
func (r *rig) find(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	if err := r.client.Get(ctx, key, d); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return d, nil
}

// lookup is an index that finds deliveries by name but lists none.
type lookup func(context.Context, types.NamespacedName) (*v1alpha1.PostbackDelivery, error)

// nothing finds no delivery, as if every delivery were finished.
func nothing(context.Context, types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	return nil, nil
}

func (l lookup) Get(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	return l(ctx, key)
}

func (lookup) HasSynced() bool { return true }

func (lookup) Of(*route.Route) []*v1alpha1.PostbackDelivery { return nil }

func (lookup) All() []*v1alpha1.PostbackDelivery { return nil }

func (lookup) Follow(func(*v1alpha1.PostbackDelivery, bool)) {}

// atOnce lanes begin work at once.
type atOnce struct{ ctx context.Context }

func (atOnce) Observe(*route.Route, *v1alpha1.Attempt) {}

func (a atOnce) Submit(_ *route.Route, w *lane.Work) { w.Do(a.ctx, func(*v1alpha1.Attempt) {}) }
