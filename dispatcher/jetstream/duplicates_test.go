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
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// An event that is posted again while its delivery is in the stream is a Duplicate, whatever the state of its
// endpoint.
func TestPostedAgainWhileHeld(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	first := r.make(crm, "evt_1", data(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored))
	paused := *crm
	paused.State = v1alpha1.PostbackPaused
	r.routes.Set(&paused)
	first.Route = &paused
	x.knows(first)
	g.Expect(r.objects()).To(BeEmpty())

	// The delivery moves to the waiting stream. Within the window, the event is still a duplicate.
	r.replica(true)
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Duplicate))
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))
	g.Expect(x.inDeliveries()).To(BeZero())
	g.Expect(r.objects()).To(BeEmpty())
	g.Expect(e.total()).To(BeZero())
}

// slow are lanes that count as slow.
type slow struct{}

func (slow) Pressure(*route.Route) lane.Pressure { return lane.Pressure{Wait: 2 * slowLane} }

func TestPostedAgainWhileSlow(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	first := r.make(crm, "evt_1", data(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored))
	x.intake.Lanes = slow{}
	x.knows(first)
	r.replica(true)
	g.Eventually(func() *v1alpha1.PostbackDelivery { return x.logged(crm, "evt_1") }).WithTimeout(patience).ShouldNot(BeNil())
	x.knows(first)
	g.Expect(r.objects()).To(BeEmpty())
	g.Expect(e.count("evt_1")).To(Equal(1))
}

// A delivery that waits for longer than the deduplication window is also in the stream only once.
func TestPostedAgainAfterTheWindow(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	first := r.make(crm, "evt_1", data(1))
	m := x.connection.names.Delivery(first.Object)
	m.Header.Del(nats.MsgIdHdr) // Without an id, as if the window had passed.
	_, err := x.connection.intoDeliveries.publish(t.Context(), m)
	g.Expect(err).NotTo(HaveOccurred())
	x.knows(first)
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(1))
	r.replica(true)
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_1")).To(Equal(1))
}

// If an event becomes a PostbackDelivery by another way, its message is not attempted as well, whether that
// PostbackDelivery is finished or not.
func TestStoredBothWays(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	for id, phase := range map[string]v1alpha1.DeliveryPhase{"evt_unfinished": "", "evt_delivered": v1alpha1.DeliveryDelivered} {
		d := r.make(crm, id, data(1))
		g.Expect(x.intake.Store(t.Context(), d).Result).To(Equal(intake.Stored))
		y := d.Object.DeepCopy()
		g.Expect(r.api.Create(t.Context(), y)).To(Succeed())
		unfinished := func() bool {
			return slices.ContainsFunc(x.intake.Unfinished.Of(crm), func(d *v1alpha1.PostbackDelivery) bool { return d.Name == y.Name })
		}
		g.Eventually(unfinished).WithTimeout(patience).Should(BeTrue())
		if phase != "" {
			y.Status.Phase = phase
			g.Expect(r.api.Status().Update(t.Context(), y)).To(Succeed())
			g.Eventually(unfinished).WithTimeout(patience).Should(BeFalse())
		}
	}
	x.consume()
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.total()).To(BeZero())
}

// A restarted server has forgotten the ids of messages that left the stream. The delivery log has these events. The
// server knows the ids of messages in the stream.
func TestPostedAgainAfterARestart(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{SyncAlways: true})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Stored))
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	x.shutDown()
	y := r.replica(false)
	g.Expect(y.connection.memory.short()).To(BeTrue()) // It does not know yet when the server started.
	waits := r.make(crm, "evt_2", data(2))
	g.Expect(y.intake.Store(t.Context(), waits).Result).To(Equal(intake.Stored))
	y.connection.memory.begins.Store(0) // The server started long ago.
	g.Expect(y.connection.memory.short()).To(BeFalse())
	g.Expect(r.servers.Nodes[0].Kill()).To(Succeed())
	g.Eventually(y.connection.Available).WithTimeout(patience).ShouldNot(Succeed())
	g.Expect(r.servers.StartAll(t.Context())).To(Succeed())
	g.Eventually(y.connection.Available).WithTimeout(patience).Should(Succeed())
	g.Expect(y.connection.memory.short()).To(BeTrue())
	g.Expect(y.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Duplicate))
	g.Expect(y.store(crm, "evt_1", data(2)).Result).To(Equal(intake.Conflict))
	y.knows(waits)
	r.replica(true)
	g.Eventually(func() int { return e.count("evt_2") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(y.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_1")).To(Equal(1))
}

// A new leader of the stream may have been restarted before, without a change of the connection.
func TestAnotherLeaderMayHaveForgotten(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{Nodes: 3})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	g.Expect(x.connection.memory.short()).To(BeFalse())
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Stored))
	_, err := x.connection.nats.RequestWithContext(t.Context(), jetstream.DefaultAPIPrefix+"STREAM.LEADER.STEPDOWN."+x.connection.names.DeliveriesStream(), nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(x.connection.memory.short).WithTimeout(patience).Should(BeTrue())
	g.Expect(x.connection.nats.Stats().Reconnects).To(BeZero())
	g.Eventually(func() intake.Result { return x.store(crm, "evt_1", data(1)).Result }).WithTimeout(patience).Should(Equal(intake.Duplicate))
}

// An existing stream without a bound per subject gets the bound.
func TestStreamFromBefore(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	js, err := jetstream.New(r.servers.Connect(t))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "POSTBACK_DELIVERIES", Subjects: []string{"postback.deliveries.>"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxBytes: 64 << 20, Duplicates: time.Minute,
	})
	g.Expect(err).NotTo(HaveOccurred())
	x := r.replica(false)
	stream, err := js.Stream(t.Context(), "POSTBACK_DELIVERIES")
	g.Expect(err).NotTo(HaveOccurred())
	have := stream.CachedInfo().Config
	g.Expect(have.Subjects).To(Equal([]string{"postback.deliveries.*.*.*"}))
	g.Expect(have.MaxMsgsPerSubject).To(BeEquivalentTo(1))
	g.Expect(have.DiscardNewPerSubject).To(BeTrue())
	g.Expect(have.AllowDirect).To(BeTrue())
	want := x.connection.streams()[0]
	g.Expect(withNeeds(have, want)).To(Equal(have))
}

// A replica that has just connected cannot rely on the ids that NATS remembers. It also finds an event that waits for
// its first attempt, while another delivery of the Postback is in the waiting stream.
func TestPostedAgainToANewReplica(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	x.putRetry(r.failed(crm, "evt_other", 1, time.Now().Add(time.Hour)), time.Now())
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Stored))
	g.Expect(r.replica(false).store(crm, "evt_1", data(1)).Result).To(Equal(intake.Duplicate))
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(1))
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))
}
