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
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
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

func (lookup) HasSynced() bool                               { return true }
func (lookup) Of(*route.Route) []*v1alpha1.PostbackDelivery  { return nil }
func (lookup) All() []*v1alpha1.PostbackDelivery             { return nil }
func (lookup) Follow(func(*v1alpha1.PostbackDelivery, bool)) {}

// atOnce lanes begin work at once.
type atOnce struct{ ctx context.Context }

func (atOnce) Observe(*route.Route, *v1alpha1.Attempt) {}

func (a atOnce) Submit(_ *route.Route, w *lane.Work) { w.Do(a.ctx, func(*v1alpha1.Attempt) {}) }

// The whole schedule, on a fake clock: the test reconciles exactly when the Reconciler asks for it.
func TestScheduleOfTwentyAttempts(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	r := newRig(t, c)
	r.endpoint.status.Store(http.StatusServiceUnavailable)
	d := r.store(t, "evt_schedule")
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())

	reconciler := r.reconciler(t, c)
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	for len(r.endpoint.got()) < 20 {
		made := len(r.endpoint.got())
		due := r.read(t, d).Status.NextAttemptTime.Time
		for due.Sub(c.Now()) > time.Microsecond {
			result, err := reconciler.Reconcile(t.Context(), request)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(r.endpoint.got()).To(HaveLen(made), "an attempt was made before its time")
			g.Expect(result.RequeueAfter).To(BeNumerically(">", 0))
			c.Step(min(result.RequeueAfter, due.Sub(c.Now())-time.Microsecond))
		}
		early, err := reconciler.Reconcile(t.Context(), request)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.endpoint.got()).To(HaveLen(made), "an attempt was made a microsecond before its time")
		c.Step(early.RequeueAfter)
		_, err = reconciler.Reconcile(t.Context(), request)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(r.endpoint.got()).To(HaveLen(made+1), "an attempt was not made at its time")
	}

	published := []time.Duration{
		12 * time.Second, 2*time.Minute + 28*time.Second, 30*time.Minute + 8*time.Second, 6*time.Hour + 7*time.Minute + 6*time.Second,
	}
	requests := r.endpoint.got()
	log := r.read(t, d)
	g.Expect(log.Status.AttemptCount).To(Equal(int32(20)))
	g.Expect(log.Status.Attempts).To(HaveLen(20))
	for i := 1; i < len(requests); i++ {
		want := 24 * time.Hour
		if i <= len(published) {
			want = published[i-1]
		}
		took := log.Status.Attempts[i-1].Duration.Duration
		gap := requests[i].at.Sub(requests[i-1].at)
		g.Expect(gap).To(BeNumerically(">=", want), "before attempt %d", i+1)
		g.Expect(gap).To(BeNumerically("<=", want+took+time.Second), "before attempt %d", i+1)
		g.Expect(requests[i].id).To(Equal("evt_schedule"))
		g.Expect(requests[i].body).To(Equal(d.Spec.Body), "every attempt sends the same bytes")
		g.Expect(log.Status.Attempts[i].Time.Time).To(BeTemporally("==", requests[i].at))
	}

	r.endpoint.status.Store(http.StatusOK)
	c.Step(48 * time.Hour)
	result, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(ctrl.Result{}))
	g.Expect(r.read(t, d).Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
}

func TestFirstAttemptThatWasNeverRecordedIsTakenOver(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	d := r.store(t, "evt_takeover")
	reconciler := r.reconciler(t, c)
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(d)}
	result, err := reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result.RequeueAfter).To(Equal(attempt.FirstAttemptWindow+10*time.Second), "window, timeout of 5s, grace of 5s")
	g.Expect(r.endpoint.got()).To(BeEmpty(), "the replica that stored it has its time first")
	c.Step(result.RequeueAfter)
	_, err = reconciler.Reconcile(t.Context(), request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
	log := r.read(t, d).Status
	g.Expect(log.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(log.Attempts[0].Message).To(ContainSubstring("may have received the event before"), "the log says what it cannot know")
}

func TestStaleCopyMakesNoSecondAttempt(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	stale := r.store(t, "evt_stale")
	stale.Spec.Test = true // A test delivery is due at once.
	_, err := r.attempter.Attempt(t.Context(), r.read(t, stale), r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	reconciler := r.reconciler(t, c)
	reconciler.Unfinished = lookup(func(context.Context, types.NamespacedName) (*v1alpha1.PostbackDelivery, error) { return stale, nil })
	_, err = reconciler.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(stale)})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

func TestRecordSurvivesAConflict(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_conflict")
	r.endpoint.during = func() {
		other := r.read(t, d)
		other.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: "during"}
		g.Expect(r.client.Update(t.Context(), other)).To(Succeed())
		r.endpoint.during = nil
	}
	recorded, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(recorded.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(recorded.Annotations).To(HaveKeyWithValue(v1alpha1.RedeliverAnnotation, "during"), "the other's change stays")
	g.Expect(recorded.Status.LastHandledRedeliver).To(BeEmpty(), "what was asked for during the attempt is still to be done")
}

func TestDeletedDuringAnAttempt(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_deleted")
	r.endpoint.during = func() { g.Expect(r.client.Delete(t.Context(), d)).To(Succeed()) }
	_, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).To(MatchError(delivery.ErrGone))
}

func TestOneAttemptAtATime(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_once")
	target := r.route()
	r.endpoint.during = func() {
		_, err := r.attempter.Attempt(t.Context(), d, target, attempt.Cause{}, func(*v1alpha1.Attempt) {})
		g.Expect(err).To(MatchError(attempt.ErrInFlight))
	}
	_, err := r.attempter.Attempt(t.Context(), d, target, attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.endpoint.got()).To(HaveLen(1))
}

func TestFirstAttempts(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	lanes := lane.New(t.Context(), lane.Options{Clock: c})
	first := &attempt.First{Attempter: r.attempter, Routes: r.routes, Lanes: lanes, Clock: c}
	for i := range 50 {
		begin := first.Admit(r.route())
		g.Expect(begin).NotTo(BeNil())
		begin(r.store(t, fmt.Sprintf("evt_first%d", i)))
	}
	late := r.store(t, "evt_late")
	lanes.Close()
	g.Expect(first.Admit(r.route())).To(BeNil())
	lanes.Run()
	g.Expect(r.endpoint.got()).To(HaveLen(50), "what was offered before Close is attempted, once")
	g.Expect(r.read(t, late).Status.Phase).To(Equal(v1alpha1.DeliveryPending), "the rest is the elected replica's")
}

func TestFirstAttemptsLeaveWhatIsNotTheirs(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	lanes := lane.New(t.Context(), lane.Options{Clock: c})
	first := &attempt.First{Attempter: r.attempter, Routes: r.routes, Lanes: lanes, Clock: c}
	old, paused := first.Admit(r.route()), first.Admit(r.route())
	c.Step(attempt.FirstAttemptWindow + time.Second)
	old(r.store(t, "evt_old"))
	for name, change := range map[string]func(*route.Route){
		"paused":        func(r *route.Route) { r.State = v1alpha1.PostbackPaused },
		"perSecond":     func(r *route.Route) { r.PerSecond = 1 },
		"maxConcurrent": func(r *route.Route) { r.MaxConcurrent = 1 },
	} {
		r.setRoute(change)
		g.Expect(first.Admit(r.route())).To(BeNil(), name)
	}
	r.setRoute(func(r *route.Route) { r.State = v1alpha1.PostbackPaused })
	paused(r.store(t, "evt_paused"))
	lanes.Close()
	lanes.Run()
	g.Expect(r.endpoint.got()).To(BeEmpty())
}

func TestPausedWaitsAndWakes(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	r.setRoute(func(r *route.Route) { r.State = v1alpha1.PostbackPaused })
	d := r.storeDeferred(t, "evt_paused")
	replica := newReplica(t, r, "paused")
	replica.start(t)
	g.Eventually(replica.election.Elected).WithTimeout(30 * time.Second).Should(BeTrue())
	g.Consistently(r.endpoint.got).WithTimeout(2 * time.Second).Should(BeEmpty())
	r.setRoute(func(*route.Route) {})
	replica.election.Reconciler.Wake(r.route())
	// The attempt comes at once, without waiting for another replica and without a note about one.
	g.Eventually(r.endpoint.got).WithTimeout(8 * time.Second).Should(HaveLen(1))
	g.Eventually(func() v1alpha1.DeliveryPhase { return r.read(t, d).Status.Phase }).WithTimeout(30 * time.Second).Should(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(r.read(t, d).Status.Attempts[0].Message).To(BeEmpty())
}
