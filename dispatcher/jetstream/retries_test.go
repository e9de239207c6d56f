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
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// failed returns a delivery with this many failed attempts, whose next attempt is due at a time.
func (r *rig) failed(target *route.Route, id string, attempts int, due time.Time) *intake.Delivery {
	r.t.Helper()
	d := r.make(target, id, data(1))
	d.Object.Generation = 1
	for i := range attempts {
		began := due.Add(-time.Hour + time.Duration(i)*time.Second)
		delivery.Apply(d.Object, target, v1alpha1.Attempt{Time: metav1.NewMicroTime(began), Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](503)}, delivery.Request{})
	}
	d.Object.Status.NextAttemptTime = ptr.To(metav1.NewMicroTime(due))
	return d
}

// putRetry puts a failed delivery into the waiting stream.
func (x *replica) putRetry(d *intake.Delivery, stored time.Time) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	m, err := x.connection.names.Retry(d.Object, stored)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = x.connection.intoWaiting.publish(x.rig.t.Context(), m)
	g.Expect(err).NotTo(HaveOccurred())
}

func TestFailuresBeyondSomeObjectsRetryInTheStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.failFirst.Store(true)
	crm := r.postback("crm", e)
	x := r.replica(true)
	const many = 5 * maxObjects
	for i := range many {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(many))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(x.inWaiting()).NotTo(BeZero())
	objects := r.objects()
	g.Expect(len(objects)).To(And(BeNumerically(">", 0), BeNumerically("<=", maxObjects+maxMaking)))

	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	for i := range many {
		id := fmt.Sprintf("evt_%d", i)
		if objects[id] != nil { // The rig does not retry PostbackDeliveries.
			continue
		}
		d := x.logged(crm, id)
		g.Expect(d).NotTo(BeNil(), id)
		g.Expect(e.count(id)).To(BeEquivalentTo(d.Status.AttemptCount), id)
		if e.events[id]%2 != 0 {
			continue
		}
		g.Expect(d.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
		g.Expect(d.Status.AttemptCount).To(BeEquivalentTo(2))
		g.Expect(d.Status.Attempts).To(HaveLen(2))
		first, second := &d.Status.Attempts[0], &d.Status.Attempts[1]
		g.Expect(first.Outcome).To(Equal(v1alpha1.OutcomeFailed5xx))
		g.Expect(second.Outcome).To(Equal(v1alpha1.OutcomeSucceeded))
		g.Expect(second.Time.Sub(first.Time.Time)).To(BeNumerically(">=", delivery.Delay(1)))
	}
	g.Expect(r.objects()).To(HaveLen(len(objects)))
}

func TestRetriesClimbTheSchedule(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(503)
	crm := r.postback("crm", e)
	crm.MaxAttempts = 4
	x := r.replica(false)
	x.putRetry(r.failed(crm, "evt_0", 1, time.Now()), time.Now())
	x.putRetry(r.failed(crm, "evt_last", 3, time.Now()), time.Now())
	x.consume()
	g.Eventually(func() *v1alpha1.PostbackDelivery { return r.objects()["evt_last"] }).WithTimeout(patience).ShouldNot(BeNil())
	g.Eventually(func() v1alpha1.DeliveryPhase { return r.objects()["evt_last"].Status.Phase }).WithTimeout(patience).Should(Equal(v1alpha1.DeliveryFailed))
	g.Expect(r.objects()["evt_last"].Status.Attempts).To(HaveLen(4))

	subject := x.connection.names.RetrySubject(r.namespace, crm.UID, 2)
	var m *jetstream.RawStreamMsg
	g.Eventually(func() (err error) {
		m, err = x.connection.first(t.Context(), subject)
		if err == nil && m == nil {
			err = fmt.Errorf("nothing on %s", subject)
		}
		return err
	}).WithTimeout(patience).Should(Succeed())
	d, _, err := x.connection.names.ParseWaiting(m.Subject, m.Header, m.Data)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(d.Status.AttemptCount).To(BeEquivalentTo(2))
	newest := delivery.Newest(d)
	g.Expect(d.Status.NextAttemptTime.Sub(newest.Time.Add(newest.Duration.Duration))).To(Equal(delivery.Delay(2)))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(1))
	g.Expect(r.objects()).To(HaveLen(1))
}

func TestRetryIsNotEarly(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	due := time.Now().Add(3 * time.Second)
	delayed := r.failed(crm, "evt_delayed", 1, due.Add(3*time.Second))
	delivery.Newest(delayed.Object).RetryAfterTime = delayed.Object.Status.NextAttemptTime
	x.putRetry(delayed, time.Now())
	x.putRetry(r.failed(crm, "evt_0", 1, due), time.Now())
	x.consume()
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(2))
	g.Expect(e.at["evt_0"]).To(BeTemporally(">=", due))
	g.Expect(e.at["evt_0"]).To(BeTemporally("<", e.at["evt_delayed"]), "the one behind a delayed one")
	g.Expect(e.at["evt_delayed"]).To(BeTemporally(">=", due.Add(3*time.Second)))
}

// A replica may die between any two of these steps: retry, removal of the previous message, and record.
func TestCrashesBetweenRetries(t *testing.T) {
	stored := time.Now().Add(-time.Minute)
	for name, test := range map[string]struct {
		before func(g *WithT, x *replica, crm *route.Route)
		// attempts is the number of recorded attempts; 0 means that there is no delivery.
		attempts int32
	}{
		"the retry of a first attempt from the waiting stream is there, and its message": {attempts: 2, before: func(g *WithT, x *replica, crm *route.Route) {
			_, err := x.connection.intoWaiting.publish(x.rig.t.Context(), x.connection.names.Waiting(x.rig.make(crm, "evt_0", data(1)).Object, stored))
			g.Expect(err).NotTo(HaveOccurred())
			x.putRetry(x.rig.failed(crm, "evt_0", 1, time.Now()), stored)
		}},
		"the retry of a retry is there, and its message": {attempts: 3, before: func(_ *WithT, x *replica, crm *route.Route) {
			x.putRetry(x.rig.failed(crm, "evt_0", 1, time.Now()), stored)
			x.putRetry(x.rig.failed(crm, "evt_0", 2, time.Now()), stored)
		}},
		"the retry of a first attempt is there, and is not acknowledged": {attempts: 2, before: func(g *WithT, x *replica, crm *route.Route) {
			metadata, m := x.storeAndFetch(crm, "evt_0")
			retry, err := x.connection.names.Retry(x.rig.failed(crm, "evt_0", 1, time.Now()).Object, metadata.Timestamp)
			g.Expect(err).NotTo(HaveOccurred())
			retry.Header.Set(jetstream.MsgIDHeader, message.ID(x.rig.make(crm, "evt_0", data(1)).Object))
			_, err = x.connection.intoWaiting.publish(x.rig.t.Context(), retry)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(m.Nak()).To(Succeed())
		}},
		"the second retry is there, and the first attempt is not acknowledged": {attempts: 3, before: func(g *WithT, x *replica, crm *route.Route) {
			metadata, m := x.storeAndFetch(crm, "evt_0")
			x.putRetry(x.rig.failed(crm, "evt_0", 2, time.Now()), metadata.Timestamp)
			g.Expect(m.Nak()).To(Succeed())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := newRig(t, natsserver.Options{})
			e := newEndpoint(t)
			crm := r.postback("crm", e)
			x := r.replica(false)
			test.before(g, x, crm)
			x.shutDown()
			y := r.replica(true)
			g.Eventually(y.inWaiting).WithTimeout(patience).Should(BeZero())
			g.Eventually(y.inDeliveries).WithTimeout(patience).Should(BeZero())
			g.Expect(e.count("evt_0")).To(Equal(1))
			d := y.logged(crm, "evt_0")
			g.Expect(d).NotTo(BeNil())
			g.Expect(d.Status.AttemptCount).To(Equal(test.attempts))
		})
	}
}

// storeAndFetch stores an event and pulls its message from the deliveries stream.
func (x *replica) storeAndFetch(crm *route.Route, id string) (*jetstream.MsgMetadata, jetstream.Msg) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	g.Expect(x.store(crm, id, data(1)).Result).To(Equal(intake.Stored))
	m := x.fetch(1)[0]
	metadata, err := m.Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	return metadata, m
}

func TestCrashAfterTheRecordOfARetry(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	crm.MaxAttempts = 5
	x := r.replica(false)
	stored := time.Now().Add(-time.Minute)
	delivered, final, bare := r.failed(crm, "evt_delivered", 1, time.Now()), r.failed(crm, "evt_final", 4, time.Now()), r.failed(crm, "evt_bare", 2, time.Now())
	for _, d := range []*intake.Delivery{delivered, final, bare} {
		x.putRetry(d, stored)
	}
	x.log(delivered, stored)
	g.Expect(r.api.Create(t.Context(), bare.Object.DeepCopy())).To(Succeed())
	object := final.Object.DeepCopy()
	g.Expect(r.api.Create(t.Context(), object)).To(Succeed())
	object.Status = *final.Object.Status.DeepCopy()
	delivery.Apply(object, crm, v1alpha1.Attempt{Time: metav1.NowMicro(), Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](503)}, delivery.Request{})
	g.Expect(object.Status.Phase).To(Equal(v1alpha1.DeliveryFailed))
	g.Expect(r.api.Status().Update(t.Context(), object)).To(Succeed())
	x.shutDown()

	y := r.replica(true)
	g.Eventually(y.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.total()).To(BeZero())
	g.Expect(r.objects()["evt_bare"].Status.Attempts).To(HaveLen(2), "its maker died before it wrote the attempts")
	g.Expect(r.objects()["evt_final"].Status.Attempts).To(HaveLen(5))
}

func TestRetriesRestWhilePausedAndAreCounted(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	paused := *crm
	paused.State = v1alpha1.PostbackPaused
	r.routes.Set(&paused)
	x := r.replica(false)
	oldest := time.Now().Add(-time.Hour).Truncate(time.Second)
	due := time.Now().Add(-time.Minute)
	x.putRetry(r.failed(crm, "evt_0", 1, time.Now()), time.Now())
	x.putRetry(r.failed(crm, "evt_1", 3, due), oldest)
	x.consume()
	g.Eventually(func() int { return x.pending.waitingOf(postbackKey{r.namespace, crm.UID}) }).WithTimeout(patience).Should(Equal(2))
	head, err := x.pending.WaitingHead(t.Context(), crm)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(head.Oldest).To(BeTemporally("==", oldest))
	g.Expect(head.Next).To(BeTemporally("~", due, time.Second))
	g.Consistently(e.total).WithTimeout(time.Second).Should(BeZero())
	r.routes.Set(crm)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(2))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
}

func TestRetriesOfADeletedPostbackArePurged(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm, other := r.postback("crm", e), r.postback("other", e)
	x := r.replica(false)
	now := clocktesting.NewFakeClock(time.Now())
	x.consumer.Clock = now
	for level := range delivery.Levels {
		x.putRetry(r.failed(crm, fmt.Sprintf("evt_%d", level), level+1, time.Now()), time.Now())
	}
	x.putRetry(r.failed(other, "evt_0", 1, time.Now()), time.Now())
	g.Expect(r.api.Delete(t.Context(), &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "crm"}})).To(Succeed())
	key := postbackKey{r.namespace, crm.UID}
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	now.Step(orphanAge)
	g.Expect(x.consumer.drain.purgeOrphan(t.Context(), key)).To(Succeed())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))
}

// A stream of an earlier build has no subjects for retries.
func TestWaitingStreamOfAnEarlierBuild(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.putWaiting(crm, 3, time.Now())
	stream, err := x.connection.js.Stream(t.Context(), x.connection.names.WaitingStream())
	g.Expect(err).NotTo(HaveOccurred())
	earlier := stream.CachedInfo().Config
	earlier.Subjects = []string{"postback.waiting.*.*"}
	x.shutDown()
	js, err := jetstream.New(r.servers.Connect(t))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = js.UpdateStream(t.Context(), earlier)
	g.Expect(err).NotTo(HaveOccurred())

	y := r.replica(true)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(3))
	g.Eventually(y.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, 3)
	y.putRetry(r.failed(crm, "evt_retry", 1, time.Now()), time.Now())
	g.Eventually(func() int { return e.count("evt_retry") }).WithTimeout(patience).Should(Equal(1))
}

// A message of an earlier build may be so large that its record does not fit.
func TestRetryThatIsTooLargeForTheStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	d := r.failed(crm, "evt_0", 1, time.Now()).Object
	d.Spec.Body = strings.Repeat("x", 1010<<10)
	g.Expect(x.consumer.retryLater(t.Context(), &unsettled{d: d, stored: time.Now()}, d)).To(MatchError(errNoRoom))
	g.Expect(x.inWaiting()).To(BeZero())
}
