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
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// listed returns the waiting deliveries of a Postback by event id, as a replica lists them.
func (x *replica) listed(target *route.Route) map[string]*v1alpha1.PostbackDelivery {
	x.rig.t.Helper()
	p, err := x.connection.Waiting(x.rig.routes).List(x.rig.t.Context(), deliverylog.Query{Namespace: target.Namespace, Postback: target.Name}, 0, deliverylog.MaxLimit)
	if err != nil {
		x.rig.t.Fatal(err)
	}
	byID := map[string]*v1alpha1.PostbackDelivery{}
	for _, d := range p.Deliveries {
		byID[d.Spec.Event.ID] = d
	}
	return byID
}

// act drops or restores a delivery through a replica.
func (x *replica) act(verb deliverylog.Verb, d *v1alpha1.PostbackDelivery) error {
	x.rig.t.Helper()
	sequence, err := strconv.ParseUint(d.ResourceVersion, 10, 64)
	if err != nil {
		x.rig.t.Fatal(err)
	}
	_, err = x.connection.Waiting(x.rig.routes).Act(x.rig.t.Context(), deliverylog.Act{
		Verb: verb, Namespace: d.Namespace, Name: d.Name, Sequence: sequence, User: "jane",
	})
	return err
}

func (x *replica) dropAll(target *route.Route) (deliverylog.Done, error) {
	return x.connection.Waiting(x.rig.routes).Act(x.rig.t.Context(), deliverylog.Act{
		Verb: deliverylog.DropAll, Namespace: target.Namespace, Postback: target.Name, User: "jane",
	})
}

// hasTerm reports whether the replica is in a term.
func (x *replica) hasTerm() bool {
	x.consumer.drain.mu.Lock()
	defer x.consumer.drain.mu.Unlock()
	return x.consumer.drain.term != nil
}

func TestDroppedDeliveriesAreNotSent(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x, y := r.replica(false), r.replica(false)
	y.holdsLease.Store(false)
	x.throttle(crm, 10*time.Second)
	x.putWaiting(crm, 10, time.Now())
	x.consume()
	y.consume()
	// One is in the lane of the elected replica already: it is the probe.
	g.Eventually(func() int { return len(x.consumer.drain.unsettled.all()) }).WithTimeout(patience).Should(Equal(1))
	listed := y.listed(crm)
	g.Expect(listed).To(HaveLen(10))
	for _, id := range []string{"evt_0", "evt_5"} {
		g.Expect(y.act(deliverylog.Drop, listed[id])).To(Succeed(), id)
		g.Expect(y.act(deliverylog.Drop, listed[id])).To(MatchError(deliverylog.ErrNotWaiting), id)
	}
	g.Expect(y.listed(crm)).To(HaveLen(8))
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(8))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	for i := range 10 {
		id, want := fmt.Sprintf("evt_%d", i), 1
		if i == 0 || i == 5 {
			want = 0
		}
		g.Expect(e.count(id)).To(Equal(want), id)
	}
	g.Expect(r.objects()).To(BeEmpty())
}

func TestDeliveriesOfOthersAreUnknown(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.throttle(crm, time.Hour)
	x.putWaiting(crm, 2, time.Now())
	x.consume()
	g.Eventually(x.hasTerm).WithTimeout(patience).Should(BeTrue())
	d := x.listed(crm)["evt_0"].DeepCopy()
	for name, change := range map[string]func(*v1alpha1.PostbackDelivery){
		"another namespace": func(d *v1alpha1.PostbackDelivery) { d.Namespace = "globex" },
		"another name":      func(d *v1alpha1.PostbackDelivery) { d.Name = "crm-other" },
		"another sequence":  func(d *v1alpha1.PostbackDelivery) { d.ResourceVersion = x.listed(crm)["evt_1"].ResourceVersion },
		"no such sequence":  func(d *v1alpha1.PostbackDelivery) { d.ResourceVersion = "4711" },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			other := d.DeepCopy()
			change(other)
			for _, verb := range []deliverylog.Verb{deliverylog.Drop, deliverylog.Restore} {
				g.Expect(x.act(verb, other)).To(MatchError(deliverylog.ErrNotWaiting), verb)
			}
		})
	}
	foreign := *crm
	foreign.Namespace = "globex"
	_, err := x.dropAll(&foreign)
	g.Expect(err).To(MatchError(deliverylog.ErrNotWaiting))
	g.Expect(x.listed(crm)).To(HaveLen(2))
	g.Expect(r.objects()).To(BeEmpty())
}

func TestAnAttemptIsNotDropped(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.delay.Store(int64(3 * time.Second))
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.putWaiting(crm, 1, time.Now())
	listed := x.listed(crm)
	x.consume()
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(1))
	g.Expect(x.act(deliverylog.Drop, listed["evt_0"])).To(MatchError(deliverylog.ErrInFlight))
	g.Expect(x.act(deliverylog.Restore, listed["evt_0"])).To(MatchError(deliverylog.ErrInFlight))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(x.logged(crm, "evt_0")).NotTo(BeNil())
	g.Expect(x.act(deliverylog.Drop, listed["evt_0"])).To(MatchError(deliverylog.ErrNotWaiting))
	g.Expect(e.count("evt_0")).To(Equal(1))
}

// The elected replica died after it recorded the success, before it removed the message.
func TestADeliveredOneIsNotDropped(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	x.throttle(crm, time.Hour)
	stored := time.Now()
	x.putWaiting(crm, 1, stored)
	x.log(r.make(crm, "evt_0", data(0)), stored)
	listed := x.listed(crm)
	x.consume()
	g.Eventually(x.hasTerm).WithTimeout(patience).Should(BeTrue())
	g.Expect(x.act(deliverylog.Drop, listed["evt_0"])).To(MatchError(deliverylog.ErrNotWaiting))
	g.Expect(x.act(deliverylog.Restore, listed["evt_0"])).To(MatchError(deliverylog.ErrNotWaiting))
	g.Expect(r.objects()).To(BeEmpty())
}

func TestAllOfAPostbackAreDropped(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm, shop := r.postback("crm", e), r.postback("shop", newEndpoint(t))
	x, y := r.replica(false), r.replica(false)
	y.holdsLease.Store(false)
	x.throttle(crm, 10*time.Second)
	x.throttle(shop, time.Hour)
	x.putWaiting(crm, 500, time.Now())
	x.putWaiting(shop, 3, time.Now())
	x.consume()
	y.consume()
	g.Eventually(x.hasTerm).WithTimeout(patience).Should(BeTrue())
	done, err := y.dropAll(crm)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(done).To(Equal(deliverylog.Done{Deliveries: 500}))
	g.Expect(y.listed(crm)).To(BeEmpty())
	g.Expect(y.listed(shop)).To(HaveLen(3))
	// Later events are sent.
	d := r.make(crm, "evt_later", data(1))
	_, err = x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(d.Object, time.Now()))
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(1))
	g.Expect(e.count("evt_later")).To(Equal(1))
}

func TestARestoredDeliveryIsSentOnce(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x, y := r.replica(false), r.replica(false)
	y.holdsLease.Store(false)
	x.throttle(crm, 10*time.Second)
	x.putWaiting(crm, 3, time.Now())
	x.consume()
	y.consume()
	g.Eventually(func() int { return len(x.consumer.drain.unsettled.all()) }).WithTimeout(patience).Should(Equal(1))
	listed := y.listed(crm)
	for _, id := range []string{"evt_0", "evt_2"} {
		g.Expect(y.act(deliverylog.Restore, listed[id])).To(Succeed(), id)
		g.Expect(r.objects()).To(HaveKey(id))
	}
	g.Expect(r.objects()["evt_0"].Annotations).To(HaveKey(v1alpha1.DeferredAnnotation))
	// Nobody in the rig attempts PostbackDeliveries.
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.total()).To(Equal(1))
	g.Expect(e.count("evt_1")).To(Equal(1))
}

// A delivery with failed attempts keeps them when it becomes an object, and is dropped like the others.
func TestRetriesAreRestoredAndDropped(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	for i := range 3 {
		d := r.make(crm, fmt.Sprintf("evt_%d", i), data(i)).Object
		delivery.Apply(d, crm, v1alpha1.Attempt{Time: metav1.NowMicro(), Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](503)}, delivery.Request{})
		m, err := x.connection.names.Retry(d, time.Now().Add(-time.Second))
		g.Expect(err).NotTo(HaveOccurred())
		_, err = x.connection.intoWaiting.publish(t.Context(), m)
		g.Expect(err).NotTo(HaveOccurred())
	}
	x.consume()
	g.Eventually(x.hasTerm).WithTimeout(patience).Should(BeTrue())
	listed := x.listed(crm)
	g.Expect(listed["evt_1"].Status.Phase).To(Equal(v1alpha1.DeliveryRetrying))
	g.Expect(x.act(deliverylog.Drop, listed["evt_0"])).To(Succeed())
	g.Expect(x.act(deliverylog.Restore, listed["evt_1"])).To(Succeed())
	restored := r.objects()["evt_1"]
	g.Expect(restored.Status.AttemptCount).To(BeEquivalentTo(1))
	g.Expect(restored.Status.Attempts).To(HaveLen(1))
	g.Expect(x.listed(crm)).To(HaveLen(1))
	done, err := x.dropAll(crm)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(done.Deliveries).To(Equal(1))
	g.Expect(x.inWaiting()).To(BeZero())
	g.Expect(e.total()).To(BeZero())
}

func TestWithoutAnOwnerNothingIsDone(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	x.holdsLease.Store(false)
	x.putWaiting(crm, 1, time.Now())
	x.consume()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := x.connection.Waiting(r.routes).Act(ctx, deliverylog.Act{Verb: deliverylog.DropAll, Namespace: r.namespace, Postback: "crm"})
	g.Expect(err).To(MatchError(deliverylog.ErrNoOwner))
	g.Expect(x.listed(crm)).To(HaveLen(1))
}
