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

package jetstream

import (
	"cmp"
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

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/internal/watched"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

const patience = time.Minute

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

// endpoint answers with a settable status after a delay, and counts requests by event id. With failFirst, the first
// request of every other event fails.
type endpoint struct {
	url       string
	status    atomic.Int32
	failFirst atomic.Bool
	delay     atomic.Int64

	mu     sync.Mutex
	bodies map[string][]string
	// events numbers the events in order of arrival.
	events map[string]int
	at     map[string]time.Time
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := &endpoint{bodies: map[string][]string{}, events: map[string]int{}, at: map[string]time.Time{}}
	e.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("webhook-id")
		e.mu.Lock()
		e.bodies[id] = append(e.bodies[id], string(body))
		e.events[id] = cmp.Or(e.events[id], len(e.events)+1)
		fails := e.failFirst.Load() && len(e.bodies[id]) == 1 && e.events[id]%2 == 0
		if _, ok := e.at[id]; !ok {
			e.at[id] = time.Now()
		}
		e.mu.Unlock()
		select {
		case <-time.After(time.Duration(e.delay.Load())):
		case <-r.Context().Done():
		}
		if fails {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(int(e.status.Load()))
	}))
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *endpoint) count(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.bodies[id])
}

func (e *endpoint) total() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.bodies)
}

// rig is a namespace on a real API server, streams on a real nats-server, and the parts between them.
type rig struct {
	t         *testing.T
	api       client.WithWatch
	namespace string
	routes    *route.Index
	servers   *natsserver.Cluster
	options   Options
}

var namespaces atomic.Int32

func newRig(t *testing.T, servers natsserver.Options, change ...func(*Options)) *rig {
	t.Helper()
	g := NewWithT(t)
	scheme := runtime.NewScheme()
	g.Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	g.Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	api, err := client.NewWithWatch(cp.Config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("stream-%d", namespaces.Add(1))}}
	g.Expect(api.Create(t.Context(), namespace)).To(Succeed())
	r := &rig{t: t, api: api, namespace: namespace.Name, routes: route.NewIndex(), servers: natsserver.New(t, servers)}
	r.options = Options{
		URL: r.servers.URL(), Names: message.DefaultPrefix, Replicas: max(servers.Nodes, 1), DuplicateWindow: DefaultDuplicateWindow,
		MaxBytes: 64 << 20, LogMaxBytes: 64 << 20, LogMaxAge: time.Hour, Identity: "test", Log: logr.Discard(),
	}
	for _, c := range change {
		c(&r.options)
	}
	return r
}

// HoldsLease implements Owner.
func (x *replica) HoldsLease() bool { return x.holdsLease.Load() }

// Begin implements Owner.
func (x *replica) Begin() (end func(), ok bool) {
	if !x.holdsLease.Load() {
		return nil, false
	}
	x.owned.Add(1)
	return func() { x.owned.Add(-1) }, true
}

// Inherited implements Owner.
func (x *replica) Inherited() time.Time { return x.inherited }

// exists asks the API server whether a Postback exists.
func (r *rig) exists(ctx context.Context, namespace, name string, uid types.UID) (bool, error) {
	p := &v1alpha1.Postback{}
	err := r.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, p)
	return err == nil && p.UID == uid, client.IgnoreNotFound(err)
}

// postback creates a Postback and its route.
func (r *rig) postback(name string, e *endpoint) *route.Route {
	r.t.Helper()
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name},
		Spec:       v1alpha1.PostbackSpec{URL: e.url, Triggers: []v1alpha1.Trigger{"*"}},
	}
	if err := r.api.Create(r.t.Context(), p); err != nil {
		r.t.Fatal(err)
	}
	target := &route.Route{
		Namespace: r.namespace, Name: name, UID: p.UID, Generation: 1, URL: e.url, Triggers: p.Spec.Triggers, State: v1alpha1.PostbackEnabled,
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks},
		Keys:       []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
		Timeout:    metav1.Duration{Duration: 20 * time.Second}, MaxPending: 1000,
	}
	r.routes.Set(target)
	return target
}

// replica is a running replica.
type replica struct {
	rig        *rig
	connection *Connection
	intake     *Intake
	pending    *Pending
	consumer   *Consumer
	lanes      *lane.Lanes
	// holdsLease is whether the replica is elected, at first true.
	holdsLease atomic.Bool
	// owned counts the attempts in flight of the elected replica. inherited is when the replica took over from one
	// that had not released the Lease.
	owned     atomic.Int32
	inherited time.Time
	// consume starts to pull messages.
	consume func()
	// shutDown ends the replica in order. crash stops it like a killed process, as far as others can tell.
	shutDown, crash func()
}

// replica starts a replica. Without consuming, no message leaves the streams.
func (r *rig) replica(consuming bool) *replica {
	r.t.Helper()
	g := NewWithT(r.t)
	ctx, cancel := context.WithCancel(r.t.Context())
	stop, cut := context.WithCancel(context.WithoutCancel(ctx))
	signer, err := sign.New(sign.DefaultDubHeader)
	g.Expect(err).NotTo(HaveOccurred())
	out, err := egress.New(egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
	g.Expect(err).NotTo(HaveOccurred())
	deliveries, err := cache.New(cp.Config, cache.Options{
		Scheme: r.api.Scheme(), Mapper: r.api.RESTMapper(),
		DefaultNamespaces: map[string]cache.Config{r.namespace: {}},
		ByObject:          map[client.Object]cache.ByObject{&v1alpha1.PostbackDelivery{}: unfinished.CacheOptions(watched.Namespaces{})},
	})
	g.Expect(err).NotTo(HaveOccurred())
	x := &replica{rig: r}
	x.holdsLease.Store(true)
	x.connection, err = Connect(r.options)
	g.Expect(err).NotTo(HaveOccurred())
	index, err := unfinished.New(ctx, deliveries, r.options.DuplicateWindow, clock.RealClock{})
	g.Expect(err).NotTo(HaveOccurred())
	x.lanes = lane.New(stop, lane.Options{Clock: clock.RealClock{}})
	x.pending = &Pending{Connection: x.connection, Unfinished: index}
	first := &attempt.First{Routes: r.routes, Lanes: x.lanes, Clock: clock.RealClock{}}
	x.intake = &Intake{Connection: x.connection, Kubernetes: &intake.Kubernetes{API: r.api, FirstAttempts: first}, Unfinished: index, Lanes: x.lanes, Pending: x.pending}
	x.consumer = NewConsumer(ConsumerOptions{
		Connection: x.connection, Routes: r.routes, Lanes: x.lanes, API: r.api, Unfinished: index, Pending: x.pending, Synced: index.HasSynced,
		Attempter: &attempt.Attempter{
			Sender:   send.New(send.Options{Signer: signer, UserAgent: "Postback/test", Clock: clock.RealClock{}, Egress: out}),
			Recorder: &delivery.Recorder{Client: r.api}, Events: events.NewFakeRecorder(100000),
		},
		Owner: x, PostbackExists: r.exists,
		Stop: stop, Clock: clock.RealClock{}, Log: logr.Discard(),
	})
	var running sync.WaitGroup
	run := func(start func(context.Context) error) {
		running.Go(func() {
			if err := start(ctx); err != nil {
				r.t.Error(err)
			}
		})
	}
	run(deliveries.Start)
	run(x.connection.Start)
	run(x.pending.Start)
	running.Go(x.lanes.Run)
	x.consume = func() { run(x.consumer.Start) }
	if consuming {
		x.consume()
	}
	end := sync.OnceFunc(func() {
		cancel()
		x.lanes.Close()
		running.Wait()
		x.connection.Close()
	})
	x.shutDown = end
	x.crash = func() {
		x.connection.nats.Close() // Nothing that it sends reaches anybody any more.
		cut()
		end()
	}
	r.t.Cleanup(func() {
		cut()
		end()
	})
	g.Eventually(x.connection.Available).WithTimeout(patience).Should(Succeed())
	g.Expect(deliveries.WaitForCacheSync(ctx)).To(BeTrue())
	return x
}

func data(n int) string { return fmt.Sprintf(`{"n": %d, "big": 12345678901234567890}`, n) }

// make returns the delivery of an event.
func (r *rig) make(target *route.Route, id, data string) *intake.Delivery {
	r.t.Helper()
	e := &event.Posted{Event: event.Event{ID: id, Type: "lead.created", CreatedAt: time.Now().Truncate(time.Millisecond), Data: []byte(data)}}
	d, err := delivery.New(r.namespace, v1alpha1.PostbackReference{Name: target.Name, UID: target.UID}, target.Format, &e.Event)
	if err != nil {
		r.t.Error(err)
	}
	return &intake.Delivery{Object: d, Event: e, Route: target}
}

func (x *replica) store(target *route.Route, id, data string) intake.Outcome {
	ctx, cancel := context.WithTimeout(x.rig.t.Context(), 10*time.Second)
	defer cancel()
	return x.intake.Store(ctx, x.rig.make(target, id, data))
}

// knows checks that the same event posted again is a Duplicate, and another event with its id a Conflict.
func (x *replica) knows(d *intake.Delivery) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	g.Expect(x.intake.Store(x.rig.t.Context(), d).Result).To(Equal(intake.Duplicate))
	g.Expect(x.store(d.Route, d.Event.ID, data(-1)).Result).To(Equal(intake.Conflict))
}

// inDeliveries returns the number of messages in the deliveries stream.
func (x *replica) inDeliveries() (uint64, error) {
	stream, err := x.connection.js.Stream(x.rig.t.Context(), x.connection.names.DeliveriesStream())
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

// inWaiting returns the number of messages in the waiting stream.
func (x *replica) inWaiting() (uint64, error) {
	stream, err := x.connection.js.Stream(x.rig.t.Context(), x.connection.names.WaitingStream())
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

// fetch pulls n messages of the deliveries stream, as a consuming replica would.
func (x *replica) fetch(n int) (taken []jetstream.Msg) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	var consumer jetstream.Consumer
	// A recreated stream gets its consumer a moment later.
	g.Eventually(func() (err error) {
		consumer, err = x.connection.consumer(x.rig.t.Context(), x.connection.names.DeliveriesStream())
		return err
	}).WithTimeout(patience).Should(Succeed())
	batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
	g.Expect(err).NotTo(HaveOccurred())
	for m := range batch.Messages() {
		taken = append(taken, m)
	}
	g.Expect(taken).To(HaveLen(n))
	return taken
}

// log publishes an entry that a delivery, stored at a time, has succeeded.
func (x *replica) log(d *intake.Delivery, stored time.Time) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	m, err := x.connection.names.Log(d.Object, stored, v1alpha1.Attempt{
		Time: metav1.NewMicroTime(stored), Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](200),
	})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = x.connection.intoLog.publish(x.rig.t.Context(), m)
	g.Expect(err).NotTo(HaveOccurred())
}

func (x *replica) logged(target *route.Route, id string) *v1alpha1.PostbackDelivery {
	x.rig.t.Helper()
	d, err := x.connection.logged(x.rig.t.Context(), x.rig.make(target, id, "{}").Object)
	if err != nil {
		x.rig.t.Fatal(err)
	}
	return d
}

// objects returns the PostbackDeliveries of the namespace by event id.
func (r *rig) objects() map[string]*v1alpha1.PostbackDelivery {
	r.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := r.api.List(r.t.Context(), list, client.InNamespace(r.namespace)); err != nil {
		r.t.Fatal(err)
	}
	byID := map[string]*v1alpha1.PostbackDelivery{}
	for i := range list.Items {
		byID[list.Items[i].Spec.Event.ID] = &list.Items[i]
	}
	return byID
}
