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
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// throttle makes a replica throttle an endpoint, as if it had asked to wait.
func (x *replica) throttle(target *route.Route, d time.Duration) {
	until := metav1.NewMicroTime(time.Now().Add(d))
	x.lanes.Observe(target, &v1alpha1.Attempt{
		Time: metav1.NowMicro(), Outcome: v1alpha1.OutcomeFailed5xx, RetryAfterTime: &until, PostbackGeneration: target.Generation,
	})
}

// putWaiting puts deliveries with the ids evt_0 to evt_n-1 into the waiting stream.
func (x *replica) putWaiting(target *route.Route, n int, stored time.Time) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	for i := range n {
		d := x.rig.make(target, fmt.Sprintf("evt_%d", i), data(i))
		_, err := x.connection.intoWaiting.publish(x.rig.t.Context(), x.connection.names.Waiting(d.Object, stored))
		g.Expect(err).NotTo(HaveOccurred())
	}
}

// gotOnce checks that each of the events evt_0 to evt_n-1 arrived once.
func (e *endpoint) gotOnce(g *WithT, n int) {
	for i := range n {
		id := fmt.Sprintf("evt_%d", i)
		g.ExpectWithOffset(1, e.count(id)).To(Equal(1), id)
	}
}

func TestThrottledDeliveriesWaitInTheStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	const pause, many = 10 * time.Second, 300
	until := time.Now().Add(pause)
	x.throttle(crm, pause)
	x.consume()
	for i := range many {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).ShouldNot(BeZero())
	g.Expect(x.store(crm, "evt_0", data(0)).Result).To(Equal(intake.Duplicate))

	g.Eventually(e.total).WithTimeout(patience).Should(Equal(many))
	for i := range many {
		id := fmt.Sprintf("evt_%d", i)
		g.Expect(e.count(id)).To(Equal(1), id)
		g.Expect(e.at[id]).NotTo(BeTemporally("<", until.Add(-time.Millisecond)), id)
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(r.objects()).To(BeEmpty())
	d := x.logged(crm, "evt_7")
	g.Expect(d).NotTo(BeNil())
	g.Expect(d.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
}

func TestFailureFromTheWaitingStreamBecomesAnObject(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(503)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.putWaiting(crm, 1, time.Now())
	x.consume()
	g.Eventually(r.objects).WithTimeout(patience).Should(HaveKey("evt_0"))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_0")).To(Equal(1))
}

func TestOnlyTheElectedReplicaDrains(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x, y := r.replica(false), r.replica(false)
	x.holdsLease.Store(false)
	y.holdsLease.Store(false)
	x.putWaiting(crm, 50, time.Now())
	x.consume()
	y.consume()
	g.Consistently(e.total).WithTimeout(2 * time.Second).Should(BeZero())
	y.holdsLease.Store(true)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(50))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, 50)
}

func TestPausedPostbackIsNotDrained(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	paused := *crm
	paused.State = v1alpha1.PostbackPaused
	r.routes.Set(&paused)
	x := r.replica(false)
	x.putWaiting(crm, 5, time.Now())
	x.consume()
	g.Eventually(func() int { return x.pending.waitingOf(postbackKey{r.namespace, crm.UID}) }).WithTimeout(patience).Should(Equal(5))
	g.Consistently(e.total).WithTimeout(time.Second).Should(BeZero())
	r.routes.Set(crm)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(5))
}

// A replica may die between any two of these steps: copy, acknowledgement, record and removal.
func TestCrashesOnTheWayThroughTheWaitingStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)

	// The copy exists, but the original is not acknowledged.
	copied := r.make(crm, "evt_copied", data(1))
	g.Expect(x.intake.Store(t.Context(), copied).Result).To(Equal(intake.Stored))
	taken := x.fetch(1)
	metadata, err := taken[0].Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	_, err = x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(copied.Object, metadata.Timestamp))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(taken[0].Nak()).To(Succeed())

	// The record exists, but the message is not removed.
	stored := time.Now().Add(-time.Minute)
	recorded := r.make(crm, "evt_recorded", data(2))
	_, err = x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(recorded.Object, stored))
	g.Expect(err).NotTo(HaveOccurred())
	x.log(recorded, stored)
	failed := r.make(crm, "evt_failed", data(3))
	_, err = x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(failed.Object, stored))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.api.Create(t.Context(), failed.Object.DeepCopy())).To(Succeed())
	x.shutDown()

	y := r.replica(true)
	g.Eventually(y.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Eventually(y.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_copied")).To(Equal(1))
	g.Expect(e.total()).To(Equal(1))
}

func TestWaitingDeliveriesOutliveReplicaAndServer(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.throttle(crm, time.Hour)
	x.consume()
	for i := range 20 {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(20))
	x.crash()
	g.Expect(r.servers.Kill()).To(Succeed())
	g.Expect(r.servers.StartAll(t.Context())).To(Succeed())
	y := r.replica(true)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(20))
	g.Eventually(y.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, 20)
}

// After a restart, NATS has forgotten the ids of messages that left the stream.
func TestSameEventWhileItWaitsAfterARestart(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	x.throttle(crm, time.Hour)
	x.consume()
	g.Expect(x.store(crm, "evt_0", data(0)).Result).To(Equal(intake.Stored))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(r.servers.Kill()).To(Succeed())
	g.Expect(r.servers.StartAll(t.Context())).To(Succeed())
	g.Eventually(func() intake.Result { return x.store(crm, "evt_0", data(0)).Result }).WithTimeout(patience).Should(Equal(intake.Duplicate))
	g.Consistently(x.inWaiting).WithTimeout(2 * time.Second).Should(BeEquivalentTo(1))
}

func TestDeletedPostbackIsPurged(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm, other := r.postback("crm", e), r.postback("other", e)
	x := r.replica(false)
	now := clocktesting.NewFakeClock(time.Now())
	x.consumer.Clock = now
	x.putWaiting(crm, 3, time.Now())
	x.putWaiting(other, 2, time.Now())
	key := postbackKey{r.namespace, crm.UID}

	// A replica that has not loaded the Postback asks the API server, and leaves the deliveries alone.
	for range 2 {
		g.Expect(x.consumer.drain.mayAsk(key)).To(BeTrue())
		g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
		g.Expect(x.consumer.drain.mayAsk(key)).To(BeFalse())
		now.Step(2 * orphanAge)
	}
	g.Expect(x.inWaiting()).To(BeEquivalentTo(5))

	g.Expect(r.api.Delete(t.Context(), &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "crm"}})).To(Succeed())
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	now.Step(orphanAge - time.Second)
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(5))
	now.Step(time.Second)
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(2))
}

func TestFullWaitingStreamRefusesThrottledPostbacksAlone(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{}, func(o *Options) { o.MaxBytes = 1 << 20 })
	e := newEndpoint(t)
	down, up := r.postback("down", e), r.postback("up", e)
	x := r.replica(false)
	x.throttle(down, time.Hour)
	large := fmt.Sprintf("%0*d", 100<<10, 1)
	for i := range 10 {
		d := r.make(down, fmt.Sprintf("evt_%d", i), `{"n": "`+large+`"}`)
		_, err := x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(d.Object, time.Now()))
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Eventually(func() float64 { return x.pending.Crowding().Used }).WithTimeout(patience).Should(BeNumerically(">", fullRatio))
	refused := x.store(down, "evt_refused", data(1))
	g.Expect(refused.Result).To(Equal(intake.Unstored))
	g.Expect(refused.Reason).To(Equal(intake.StreamFull))
	g.Expect(x.store(up, "evt_up", data(1)).Result).To(Equal(intake.Stored))
}

func TestMaxPendingCountsTheWaitingStreamIfItIsSet(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	crm.MaxPending = 4
	x := r.replica(false)
	x.putWaiting(crm, 5, time.Now())
	g.Eventually(func() int { return x.pending.waitingOf(postbackKey{r.namespace, crm.UID}) }).WithTimeout(patience).Should(Equal(5))
	g.Expect(x.pending.Full(crm)).To(BeFalse())
	crm.MaxPendingSet = true
	g.Expect(x.pending.Full(crm)).To(BeTrue())
}

// Ids in the waiting stream are those of events. Another event with the same id, or one that is posted again, must
// not count as the same message.
func TestIDsInTheWaitingStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.throttle(crm, 10*time.Second)
	first := r.make(crm, "evt_0", data(0))
	_, err := x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(first.Object, time.Now()))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored)) // The deliveries stream has forgotten the id.
	x.consume()
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))

	other := r.postback("other", e)
	x.throttle(other, 10*time.Second)
	_, err = x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(r.make(other, "evt_1", data(1)).Object, time.Now().Add(-time.Hour)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(x.store(other, "evt_1", data(2)).Result).To(Equal(intake.Stored))
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(2))
	g.Eventually(func() int { return e.count("evt_0") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_0")).To(Equal(1))
}

// A failed removal leaves a message whose record is in the delivery log. The message is read again, but not sent
// again.
func TestRemovalIsTriedAgain(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	stored := time.Now()
	x.putWaiting(crm, 1, stored)
	x.consume()
	g.Eventually(func() *v1alpha1.PostbackDelivery { return x.logged(crm, "evt_0") }).WithTimeout(patience).ShouldNot(BeNil())
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())

	again := r.make(crm, "evt_0", data(0))
	m := x.connection.names.Waiting(again.Object, stored)
	m.Header.Set(nats.MsgIdHdr, "again")
	ack, err := x.connection.js.PublishMsg(t.Context(), m)
	g.Expect(err).NotTo(HaveOccurred())
	d := x.consumer.drain
	g.Eventually(func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		c := d.term.cursors[cursorKey{postbackKey{r.namespace, crm.UID}, 0}]
		if c == nil {
			return false
		}
		c.next = ack.Sequence + 1
		c.readAgain(ack.Sequence, reread{tries: 1})
		return true
	}).WithTimeout(patience).WithPolling(time.Millisecond).Should(BeTrue())
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_0")).To(Equal(1))
}

// A replica that lost the Lease and regained it does not send the work in its lanes, because another replica may have
// sent it.
func TestWorkOfAnEarlierTermIsNotSent(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.putWaiting(crm, 1, time.Now())
	x.throttle(crm, 15*time.Second)
	x.consume()
	g.Eventually(x.consumer.drain.unsettled.all).WithTimeout(patience).Should(HaveLen(1))
	x.holdsLease.Store(false)
	g.Eventually(func() *term {
		x.consumer.drain.mu.Lock()
		defer x.consumer.drain.mu.Unlock()
		return x.consumer.drain.term
	}).WithTimeout(patience).Should(BeNil())
	// Another replica delivers the event meanwhile.
	stream, err := x.connection.js.Stream(t.Context(), x.connection.names.WaitingStream())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stream.Purge(t.Context())).To(Succeed())
	x.holdsLease.Store(true)
	g.Eventually(x.consumer.drain.unsettled.all).WithTimeout(patience).Should(BeEmpty())
	g.Expect(e.total()).To(BeZero())
	g.Expect(x.owned.Load()).To(BeZero())
}

// If an elected replica did not release the Lease, the next one waits until attempts in flight have ended.
func TestInheritedDeliveriesWaitForTheirAttempts(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	crm.Timeout.Duration = time.Second
	x := r.replica(false)
	x.inherited = time.Now()
	x.putWaiting(crm, 3, time.Now())
	x.consume()
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(3))
	for _, at := range e.at {
		g.Expect(at).To(BeTemporally(">=", x.inherited.Add(time.Second+inheritGrace)))
	}
}

// A failed look-up does not lose any message.
func TestRepeatedKeepsTrack(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	x.putWaiting(crm, 3, time.Now())
	d, key := x.consumer.drain, cursorKey{postbackKey{r.namespace, crm.UID}, 0}
	now, err := d.currentTerm(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	c := &cursor{}
	now.cursors[key] = c
	for sequence := range uint64(3) {
		c.readAgain(sequence+1, reread{tries: 1})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = d.repeated(ended, now, key, laneShare)
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(c.again).To(HaveLen(3))
	messages, err := d.repeated(t.Context(), now, key, 2)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(messages).To(HaveLen(2))
	g.Expect(messages[0].Sequence).To(BeEquivalentTo(1))
	g.Expect(c.again).To(HaveLen(1))
}

// An invalid message in the waiting stream delays no other message.
func TestGarbageIsRemovedFromTheWaitingStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	_, err := x.connection.js.Publish(t.Context(), x.connection.names.WaitingSubject(r.namespace, crm.UID), []byte("garbage"), jetstream.WithMsgID("x"))
	g.Expect(err).NotTo(HaveOccurred())
	x.putWaiting(crm, 1, time.Now())
	x.consume()
	g.Eventually(func() int { return e.count("evt_0") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
}
