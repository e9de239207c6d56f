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
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// producer stores events until it is stopped, and repeats each until it is stored, as producers should.
type producer struct {
	stored atomic.Int64
	// longest is the longest time until an event was stored, in nanoseconds.
	longest atomic.Int64
	end     chan struct{}
	done    sync.WaitGroup
}

func (r *rig) produce(target *route.Route, replicas func() *replica, workers int) *producer {
	p := &producer{end: make(chan struct{})}
	for worker := range workers {
		p.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-p.end:
					return
				default:
				}
				id, began := fmt.Sprintf("evt_%d_%d", worker, i), time.Now()
				for {
					outcome := replicas().store(target, id, data(i))
					if outcome.Result == intake.Stored || outcome.Result == intake.Duplicate {
						break
					}
					if outcome.Result != intake.Unstored {
						r.t.Errorf("event %s: %+v", id, outcome)
						return
					}
					select {
					case <-p.end:
						return // No producer got an answer that it is stored.
					case <-time.After(20 * time.Millisecond):
					}
				}
				p.stored.Add(1)
				if took := int64(time.Since(began)); took > p.longest.Load() {
					p.longest.Store(took)
				}
			}
		})
	}
	return p
}

// goOn waits until this many more events are stored.
func (r *rig) goOn(p *producer, events int) {
	r.t.Helper()
	NewWithT(r.t).Eventually(p.stored.Load).WithTimeout(patience).Should(BeNumerically(">=", p.stored.Load()+int64(events)))
}

func (p *producer) stop() {
	close(p.end)
	p.done.Wait()
}

// checkNothingLost waits until every stored event has arrived, or is a PostbackDelivery. There is no elected replica
// to attempt these. It returns the number of duplicates, whose bodies must be equal.
func (r *rig) checkNothingLost(x *replica, p *producer, e *endpoint) (duplicates int) {
	r.t.Helper()
	g := NewWithT(r.t)
	g.Eventually(x.inDeliveries).WithTimeout(2 * patience).Should(BeZero())
	g.Eventually(x.inWaiting).WithTimeout(2 * patience).Should(BeZero()) // On a slow machine, lanes may be slow.
	objects := r.objects()
	e.mu.Lock()
	defer e.mu.Unlock()
	deferred := 0
	for id := range objects {
		if len(e.bodies[id]) == 0 {
			deferred++
		} else {
			duplicates++ // The elected replica would attempt it again.
		}
	}
	if have := len(e.bodies) + deferred; have < int(p.stored.Load()) {
		r.t.Errorf("%d of %d events arrived or wait to", have, p.stored.Load())
	}
	for id, bodies := range e.bodies {
		duplicates += len(bodies) - 1
		for _, body := range bodies {
			if body != bodies[0] {
				r.t.Errorf("event %s arrived as %s and as %s", id, bodies[0], body)
			}
		}
	}
	r.t.Logf("%d events stored, of which %d became PostbackDeliveries, %d duplicates, the slowest took %s to store",
		p.stored.Load(), deferred, duplicates, time.Duration(p.longest.Load()))
	return duplicates
}

// A single server with SyncAlways that is killed repeatedly loses no acknowledged message, and causes few duplicates.
func TestKilledServer(t *testing.T) {
	for name, grouped := range map[string]bool{"one by one": false, "in groups": true} {
		t.Run(name, func(t *testing.T) { killServers(t, grouped) })
	}
}

func killServers(t *testing.T, grouped bool) {
	r := newRig(t, natsserver.Options{SyncAlways: true}, func(o *Options) { o.GroupCommit = grouped })
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	p := r.produce(crm, func() *replica { return x }, 8)
	const kills = 5
	for range kills {
		r.goOn(p, 150)
		if err := r.servers.Nodes[0].Kill(); err != nil {
			t.Fatal(err)
		}
		NewWithT(t).Eventually(x.connection.Available).WithTimeout(patience).ShouldNot(Succeed())
		if err := r.servers.StartAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.goOn(p, 150)
	p.stop()
	// The server may have forgotten its deliveries, but this replica remembers its attempts. Without that, there are
	// 37 duplicates and more.
	if duplicates := r.checkNothingLost(x, p, e); duplicates > kills {
		t.Errorf("%d duplicates", duplicates)
	}
}

// A cluster continues while any one of its servers is killed, even the leaders of the streams.
func TestKilledServersOfACluster(t *testing.T) {
	r := newRig(t, natsserver.Options{Nodes: 3})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	y := r.replica(true)
	y.holdsLease.Store(false)
	var turn atomic.Int64
	p := r.produce(crm, func() *replica { return []*replica{x, y}[turn.Add(1)%2] }, 8)
	for range 3 {
		r.goOn(p, 500)
		leader := r.servers.Node(r.leader(x))
		if leader == nil {
			t.Fatal("the stream has no leader")
		}
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		r.goOn(p, 500) // One server is missing.
		if err := leader.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.goOn(p, 500)
	p.stop()
	r.checkNothingLost(x, p, e)
}

func (r *rig) leader(x *replica) (name string) {
	r.t.Helper()
	NewWithT(r.t).Eventually(func() string {
		if stream, err := x.connection.js.Stream(r.t.Context(), x.connection.names.DeliveriesStream()); err == nil {
			name = stream.CachedInfo().Cluster.Leader
		}
		return name
	}).WithTimeout(patience).ShouldNot(BeEmpty())
	return name
}

// A replica that dies leaves its unsettled messages to the others.
func TestKilledReplica(t *testing.T) {
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	victim, heir := r.replica(true), r.replica(true)
	victim.holdsLease.Store(false)
	p := r.produce(crm, func() *replica { return heir }, 8)
	r.goOn(p, 3000)
	NewWithT(t).Eventually(victim.consumer.unsettled.all).WithTimeout(patience).WithPolling(time.Millisecond).ShouldNot(BeEmpty())
	victim.crash()
	r.goOn(p, 3000)
	p.stop()
	// Its messages in flight are delivered again after ackWait.
	if duplicates := r.checkNothingLost(heir, p, e); duplicates > maxUnsettled {
		t.Errorf("%d duplicates", duplicates)
	}
}

// A replica that ends in order finishes its attempts and gives the other messages back at once. No event arrives
// twice.
func TestShutdownInOrder(t *testing.T) {
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.delay.Store(int64(20 * time.Millisecond))
	crm := r.postback("crm", e)
	first, second := r.replica(true), r.replica(true)
	first.holdsLease.Store(false)
	p := r.produce(crm, func() *replica { return second }, 4)
	r.goOn(p, 1500)
	began := time.Now()
	first.shutDown()
	if took := time.Since(began); took > ackWait/2 {
		t.Errorf("the end took %s", took)
	}
	r.goOn(p, 1500)
	p.stop()
	if duplicates := r.checkNothingLost(second, p, e); duplicates > 0 {
		t.Errorf("%d duplicates", duplicates)
	}
}

// A hanging endpoint does not delay the events of another one.
func TestHangingNeighbour(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	healthy, hanging := newEndpoint(t), newEndpoint(t)
	const hangs = 12 * time.Second
	hanging.delay.Store(int64(hangs))
	good, bad := r.postback("good", healthy), r.postback("bad", hanging)
	x := r.replica(true)
	stored := map[string]time.Time{}
	for i := range 1500 {
		g.Expect(x.store(bad, fmt.Sprintf("bad_%d", i), data(i)).Result).To(Equal(intake.Stored))
		if i%5 == 0 {
			id := fmt.Sprintf("good_%d", i)
			stored[id] = time.Now()
			g.Expect(x.store(good, id, data(i)).Result).To(Equal(intake.Stored))
		}
	}
	g.Eventually(healthy.total).WithTimeout(patience).Should(Equal(len(stored)))
	objects := len(r.objects())
	g.Expect(objects).To(BeNumerically("<=", maxObjects))
	var slowest time.Duration
	healthy.mu.Lock()
	for id, at := range healthy.at {
		slowest = max(slowest, at.Sub(stored[id]))
	}
	healthy.mu.Unlock()
	t.Logf("beside 1500 events for an endpoint that hangs, the slowest of %d took %s, and %d became PostbackDeliveries", len(stored), slowest, objects)
	g.Expect(slowest).To(BeNumerically("<", hangs)) // It does not wait for the hanging endpoint.
	// The remaining deliveries, for the hanging endpoint, wait or are in flight.
	g.Eventually(x.inDeliveries).WithTimeout(2 * patience).Should(BeNumerically("<=", 2*lanePlaces))
}

// The endpoint gets one attempt, however its failure is recorded.
func TestRejectedInNumbers(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(http.StatusBadRequest)
	crm := r.postback("crm", e)
	x := r.replica(true)
	for i := range 100 {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(Equal(intake.Stored))
	}
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	objects := r.objects()
	for id, d := range objects {
		g.Expect(d.Status.AttemptCount).To(BeEquivalentTo(1), id)
		g.Expect(e.count(id)).To(Equal(1), id)
	}
	retries, err := x.inWaiting()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(len(objects) + int(retries)).To(Equal(100))
}
