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
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

func TestWhatSucceedsIsLoggedAndNeverAnObject(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)

	g.Expect(x.store(crm, "evt_1", data(1))).To(Equal(intake.Outcome{Result: intake.Stored}))
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	d := x.logged(crm, "evt_1")
	g.Expect(d).NotTo(BeNil())
	g.Expect(d.Spec.Body).To(Equal(e.bodies["evt_1"][0]))
	g.Expect(d.Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	g.Expect(*d.Status.Attempts[0].StatusCode).To(BeEquivalentTo(http.StatusOK))
	g.Expect(r.objects()).To(BeEmpty())

	// The same event, and another one with its id, are posted after the delivery has left the stream.
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Duplicate))
	g.Expect(x.store(crm, "evt_1", data(2)).Result).To(Equal(intake.Conflict))
	g.Consistently(func() int { return e.count("evt_1") }).Should(Equal(1))
}

func TestSameEventBeforeItIsAttempted(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	first := r.make(crm, "evt_1", data(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored))
	x.knows(first)
}

func TestWhatFailsBecomesAPostbackDelivery(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(http.StatusServiceUnavailable)
	crm := r.postback("crm", e)
	x := r.replica(true)
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Stored))
	g.Eventually(func() int32 {
		if d := r.objects()["evt_1"]; d != nil {
			return d.Status.AttemptCount
		}
		return 0
	}).WithTimeout(patience).Should(BeEquivalentTo(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	d := r.objects()["evt_1"]
	g.Expect(d.Status.Phase).To(Equal(v1alpha1.DeliveryRetrying))
	failed := d.Status.Attempts[0]
	g.Expect(d.Status.NextAttemptTime.Sub(failed.Time.Add(failed.Duration.Duration))).To(Equal(delivery.Delay(1)), "it waits from the end of the attempt")
	g.Expect(failed.Outcome).To(Equal(v1alpha1.OutcomeFailed5xx))
	g.Expect(d.Annotations).NotTo(HaveKey(v1alpha1.DeferredAnnotation))
	g.Expect(d.OwnerReferences[0].UID).To(Equal(crm.UID))
	g.Expect(x.logged(crm, "evt_1")).To(BeNil())

	again := r.make(crm, "evt_1", data(1))
	x.knows(again)
}

// An event that was delivered from the stream is not sent again as a PostbackDelivery.
func TestDeliveredThenPaused(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	first := r.make(crm, "evt_1", data(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored))
	g.Eventually(func() *v1alpha1.PostbackDelivery { return x.logged(crm, "evt_1") }).WithTimeout(patience).ShouldNot(BeNil())
	paused := *crm
	paused.State = v1alpha1.PostbackPaused
	r.routes.Set(&paused)
	first.Route = &paused
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Duplicate))
	g.Expect(r.objects()).To(BeEmpty())
}

// A replica that died after the record of an attempt, before the acknowledgement, leaves a message. Its event is not
// sent again.
func TestRedeliveredAfterTheRecord(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	logged, kept, fresh := r.make(crm, "evt_logged", data(1)), r.make(crm, "evt_kept", data(2)), r.make(crm, "evt_fresh", data(3))
	// The delivery log has this id from before the deduplication window, for another event.
	again, before := r.make(crm, "evt_again", data(4)), r.make(crm, "evt_again", data(5))
	for _, d := range []*intake.Delivery{logged, kept, fresh, again} {
		g.Expect(x.intake.Store(t.Context(), d).Result).To(Equal(intake.Stored))
	}
	taken := x.fetch(4)
	metadata, err := taken[0].Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	for d, stored := range map[*intake.Delivery]time.Time{logged: metadata.Timestamp, before: metadata.Timestamp.Add(-time.Hour)} {
		x.log(d, stored)
	}
	g.Expect(r.api.Create(t.Context(), kept.Object.DeepCopy())).To(Succeed())
	for _, m := range taken {
		g.Expect(m.Nak()).To(Succeed())
	}
	r.replica(true)
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_fresh")).To(Equal(1))
	g.Expect(e.count("evt_again")).To(Equal(1))
	g.Expect(e.total()).To(Equal(2))
}

// A killed server delivers messages again, as if for the first time, that it delivered in its last moments.
func TestGivenOutAgainByAForgetfulServer(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	logged, fresh := r.make(crm, "evt_logged", data(1)), r.make(crm, "evt_fresh", data(2))
	for _, d := range []*intake.Delivery{logged, fresh} {
		g.Expect(x.intake.Store(t.Context(), d).Result).To(Equal(intake.Stored))
	}
	stream, err := x.connection.js.Stream(t.Context(), x.connection.names.DeliveriesStream())
	g.Expect(err).NotTo(HaveOccurred())
	first, err := stream.GetMsg(t.Context(), 1)
	g.Expect(err).NotTo(HaveOccurred())
	x.log(logged, first.Time)
	x.connection.memory.lost()
	x.consume()
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_fresh")).To(Equal(1))
	g.Expect(e.count("evt_logged")).To(BeZero())
}

func TestFullStreamRefusesAndLosesNothing(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{}, func(o *Options) { o.MaxBytes = 1 << 20 })
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	large := `{"x":"` + strings.Repeat("x", 100<<10) + `"}`
	stored := 0
	var outcome intake.Outcome
	for i := range 20 {
		if outcome = x.store(crm, "evt_"+string(rune('a'+i)), large); outcome.Result != intake.Stored {
			break
		}
		stored++
	}
	g.Expect(outcome.Result).To(Equal(intake.Unstored))
	g.Expect(outcome.Reason).To(Equal(intake.StreamFull))
	g.Expect(stored).To(BeNumerically(">", 5))
	r.replica(true)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(stored))
	g.Eventually(func() intake.Result { return x.store(crm, "evt_last", large).Result }).WithTimeout(patience).Should(Equal(intake.Stored))
}

// A body that is too large for a message, including its failed attempts and the log entry, is stored at the API server.
func TestLargeBody(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(true)
	g.Expect(x.store(crm, "evt_2", `{"x":"`+strings.Repeat("x", 1010<<10)+`"}`).Result).To(Equal(intake.Stored))
	g.Expect(x.store(crm, "evt_3", `{"x":"`+strings.Repeat("x", 980<<10)+`"}`).Result).To(Equal(intake.Stored))
	g.Expect(r.objects()).To(And(HaveKey("evt_2"), HaveKey("evt_3")))
}

// pressed are lanes with a given pressure.
type pressed lane.Pressure

func (p pressed) Pressure(*route.Route) lane.Pressure { return lane.Pressure(p) }

// A producer's answer is delayed about as long as its deliveries wait.
func TestWhoPostsIsHeld(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	x, e := r.replica(false), newEndpoint(t)
	x.intake.Lanes = pressed{Waiting: fewWaiting, Wait: time.Millisecond}
	target := r.postback("endpoint", e)
	g.Expect(x.store(target, "evt_1", data(1))).To(Equal(intake.Outcome{Result: intake.Stored, Delay: time.Millisecond}))
	g.Expect(x.store(target, "evt_1", data(1))).To(Equal(intake.Outcome{Result: intake.Duplicate}))
	x.pending.given(pullMessages+1, time.Now().Add(time.Hour))
	g.Expect(x.store(target, "evt_2", data(2))).To(Equal(intake.Outcome{Result: intake.Stored, Delay: longestHold}))
}

// pullAgain repeats the search for a missing stream, and later for its consumer.
func TestPullAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks, pulls := 0, 0
	var failures []error
	pullAgain(ctx, func() bool { looks++; return looks > 2 }, func(context.Context) error {
		if pulls++; pulls == 2 {
			cancel()
		}
		return errEnded
	}, func(err error) { failures = append(failures, err) })
	if looks != 4 || pulls != 2 || len(failures) != 1 {
		t.Errorf("%d looks, %d pulls, failures %v", looks, pulls, failures)
	}
}
