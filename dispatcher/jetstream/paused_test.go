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
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// with returns a changed copy of a route, and puts it into force.
func (r *rig) with(before *route.Route, change func(*route.Route)) *route.Route {
	changed := *before
	change(&changed)
	r.routes.Set(&changed)
	return &changed
}

func (r *rig) in(state v1alpha1.PostbackState, before *route.Route) *route.Route {
	return r.with(before, func(changed *route.Route) { changed.State = state })
}

// Deliveries of a paused Postback wait in the stream, whether it was paused before or after their acceptance. No
// PostbackDelivery is made, and each arrives once after the resume.
func TestPausedDeliveriesWaitInTheStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x, y := r.replica(false), r.replica(false)
	y.holdsLease.Store(false)
	const early, many = 20, 300
	for i := range early {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	paused := r.in(v1alpha1.PostbackPaused, crm)
	x.consume()
	y.consume()
	for i := early; i < many; i++ {
		by := []*replica{x, y}[i%2]
		g.Expect(by.store(paused, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(many))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(r.objects()).To(BeEmpty())
	g.Expect(e.total()).To(BeZero())
	g.Eventually(func() int64 {
		counts, _ := y.pending.Waiting()
		return counts[crm.UID]
	}).WithTimeout(patience).Should(BeEquivalentTo(many))

	r.routes.Set(crm)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(many))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, many)
	g.Expect(r.objects()).To(BeEmpty())
}

// A Postback that is paused while its deliveries are in the lane keeps them in the stream.
func TestPausedWhileInALane(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.delay.Store(int64(time.Second))
	crm := r.postback("crm", e)
	x := r.replica(true)
	const many = 100
	for i := range many {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(e.total).WithTimeout(patience).ShouldNot(BeZero())
	r.in(v1alpha1.PostbackPaused, crm)
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(x.inWaiting()).NotTo(BeZero())
	g.Expect(r.objects()).To(BeEmpty())
	e.delay.Store(0)
	r.routes.Set(crm)
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.total()).To(Equal(many))
	e.gotOnce(g, many)
}

// A delivery whose Postback a replica does not know waits. It is not lost if the replica was late to load the
// Postback.
func TestDeliveryWithoutARouteWaits(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	g.Expect(x.store(crm, "evt_0", data(0)).Result).To(Equal(intake.Stored))
	r.routes.Delete(crm.UID)
	x.consume()
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(1))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(r.objects()).To(BeEmpty())
	r.routes.Set(crm)
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, 1)
}

// Only the elected replica attempts the deliveries of a limited Postback, so its limit holds over all replicas.
func TestLimitHoldsOverReplicas(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	const rate, many = 20, 60
	crm := r.with(r.postback("crm", e), func(changed *route.Route) { changed.PerSecond = rate })
	x, y := r.replica(true), r.replica(true)
	y.holdsLease.Store(false)
	began := time.Now()
	for i := range many {
		by := []*replica{x, y}[i%2]
		g.Expect(by.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(many))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, many)
	g.Expect(r.objects()).To(BeEmpty())
	var times []time.Time
	for _, at := range e.at {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	// Two replicas with this rate each would need half the time.
	g.Expect(times[many-1].Sub(began)).To(BeNumerically(">=", (many-1)*time.Second/rate))
	t.Logf("%d deliveries at %d a second took %s", many, rate, times[many-1].Sub(times[0]))
}

// A replica that moves a delivery of a limited Postback tells the elected one, which would otherwise wait for its
// next poll.
func TestMovesAreAnnounced(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.with(r.postback("crm", e), func(changed *route.Route) { changed.PerSecond = 1000 })
	x, y := r.replica(false), r.replica(false)
	y.holdsLease.Store(false)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { x.consumer.drain.run(ctx, func() bool { return true }) })
	running.Go(func() { x.consumer.drain.hearMoves(ctx) })
	g.Eventually(x.hasTerm).WithTimeout(patience).Should(BeTrue())
	g.Eventually(x.connection.nats.NumSubscriptions).WithTimeout(patience).Should(BeNumerically(">=", 2)) // One is for answers.
	g.Expect(x.connection.nats.Flush()).To(Succeed())
	y.consume()
	for i := range 3 {
		id := fmt.Sprintf("evt_%d", i)
		g.Expect(y.store(crm, id, data(i)).Result).To(Equal(intake.Stored))
		g.Eventually(func() int {
			x.pending.mu.Lock()
			x.pending.nextPoll = time.Now().Add(time.Hour)
			x.pending.mu.Unlock()
			return e.count(id)
		}).WithTimeout(patience).Should(Equal(1))
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	e.gotOnce(g, 3)
}

// Many Postbacks that are resumed at once do not delay the events of another one until they are drained.
func TestResumedAtOnce(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	busy, healthy := newEndpoint(t), newEndpoint(t)
	busy.delay.Store(int64(20 * time.Millisecond))
	const postbacks, each = 100, 20
	x := r.replica(true)
	good := r.postback("good", healthy)
	var resumed []*route.Route
	for i := range postbacks {
		enabled := r.postback(fmt.Sprintf("resumed-%d", i), busy)
		resumed = append(resumed, enabled)
		paused := r.in(v1alpha1.PostbackPaused, enabled)
		for k := range each {
			g.Expect(x.store(paused, fmt.Sprintf("evt_%d_%d", i, k), data(k)).Result).To(Equal(intake.Stored))
		}
	}
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(postbacks * each))
	for _, enabled := range resumed {
		r.routes.Set(enabled)
	}
	g.Eventually(busy.total).WithTimeout(patience).Should(BeNumerically(">", postbacks))
	g.Expect(x.store(good, "evt_good", data(1)).Result).To(Equal(intake.Stored))
	g.Eventually(healthy.total).WithTimeout(patience).Should(Equal(1))
	t.Logf("%d of %d were drained when the other event arrived", busy.total(), postbacks*each)
	g.Eventually(busy.total).WithTimeout(patience).Should(Equal(postbacks * each))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	for i := range postbacks {
		for k := range each {
			g.Expect(busy.count(fmt.Sprintf("evt_%d_%d", i, k))).To(Equal(1))
		}
	}
	g.Expect(r.objects()).To(BeEmpty())
}

func TestShare(t *testing.T) {
	for name, test := range map[string]struct {
		perSecond int32
		want      int
	}{
		"no limit": {0, laneShare}, "a low one": {1, 1}, "some": {30, 30}, "a high one": {5000, laneShare},
	} {
		t.Run(name, func(t *testing.T) {
			if got := share(&route.Route{PerSecond: test.perSecond}); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}
