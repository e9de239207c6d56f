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

// Package lane schedules attempts. Each Postback has a lane to its endpoint, with limits, a circuit breaker and the pause that the endpoint
// asked for. All lanes share a bounded number of slots. It does not make attempts, record them or decide on retries.
package lane

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/heap"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// DefaultMaxInFlight is the number of slots of a replica: its concurrent attempts to all endpoints.
const DefaultMaxInFlight = 512

// ErrDeleted is the cause by which the context of an attempt ends when its Postback is deleted.
var ErrDeleted = errors.New("the Postback was deleted")

// Options of Lanes.
type Options struct {
	// MaxInFlight is the number of slots. The default is DefaultMaxInFlight.
	MaxInFlight int
	// Recovery sets the treatment of troubled endpoints.
	Recovery Recovery
	Clock    clock.WithTicker
	// Report may be nil.
	Report Report
	// Unfinished returns the known unfinished deliveries of the Postback of a route. A new lane learns from them about its endpoint. It may
	// be nil.
	Unfinished func(r *route.Route) []*v1alpha1.PostbackDelivery
}

// Lanes has a lane for each Postback. The peer of a lane is its present endpoint. It is safe for concurrent use.
type Lanes struct {
	options Options
	// stop ends the attempts in flight.
	stop context.Context //nolint:containedctx // It bounds attempts, which outlive the calls that ask for them.
	// changed wakes Run.
	changed chan struct{}
	working sync.WaitGroup

	mu    sync.Mutex
	lanes map[types.UID]*lane
	// inFlight counts the slots in use, troubledInFlight those in use by troubled endpoints.
	inFlight, troubledInFlight int
	// recording counts the attempts that have released their slot and are not on record yet.
	recording int
	// wakes are the lanes that have a wakeAt, the soonest first, so that a scan costs the same however many endpoints wait.
	wakes *heap.Heap[*lane, *lane]
	// starved are lanes that wait for a slot, in order of arrival. starvedTroubled are lanes that wait for a slot of the
	// troubled endpoints' share.
	starved, starvedTroubled []*lane
	closed                   bool
	reports                  []report
}

type report struct {
	route  *route.Route
	health Health
}

// New returns Lanes that begin work in Run. The end of stop cancels attempts in flight.
func New(stop context.Context, o Options) *Lanes {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.Recovery = o.Recovery.withDefaults()
	return &Lanes{
		options: o, stop: stop, changed: make(chan struct{}, 1), lanes: map[types.UID]*lane{},
		wakes: heap.New(func(l *lane) *lane { return l }, func(a, b *lane) bool { return a.wakeAt.Before(b.wakeAt) }),
	}
}

// Submit queues work until its endpoint's lane allows it. New work for a delivery replaces work that waits.
func (l *Lanes) Submit(r *route.Route, w *Work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		w.drop()
		return
	}
	lane := l.of(r)
	l.enter(lane, w)
}

// enter puts work into a lane. The time without a begin counts from the first work that waits.
func (l *Lanes) enter(lane *lane, w *Work) {
	w.entered = l.options.Clock.Now()
	if lane.waiting() == 0 {
		lane.waited, lane.began = 0, w.entered
	}
	lane.put(w)
	l.pump(lane)
}

// Pressure is the load of a lane.
type Pressure struct {
	// Throttled is as Lanes.Throttled returns it.
	Throttled bool
	// Waiting is the number of attempts that wait for the lane, or are admitted and being stored.
	Waiting int
	// Wait estimates the wait of new work. SinceBegin is the time since work of the lane last began, while some waits.
	Wait, SinceBegin time.Duration
}

// Pressure returns the load of the lane of a route.
func (l *Lanes) Pressure(r *route.Route) Pressure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(r).pressure(l.options.Clock.Now())
}

// Admit announces the first attempt of a delivery that is about to be stored. It holds no slot: begin queues the work. The
// caller calls begin once, with the work, or with nil if there is none after all. begin is nil if the lane expects to begin the
// attempt later than in 2 s, or if no slot is free.
func (l *Lanes) Admit(r *route.Route) (begin func(*Work)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	lane := l.of(r)
	if !lane.promises(l.options.Clock.Now()) || !l.room(lane) {
		return nil
	}
	lane.admitted++
	return func(w *Work) {
		l.mu.Lock()
		defer l.mu.Unlock()
		lane.admitted--
		if w != nil && lane.ctx.Err() == nil {
			l.enter(lane, w)
		} else {
			w.drop()
		}
	}
}

// Observe learns from an attempt on record, perhaps of another replica, about the endpoint of a route.
func (l *Lanes) Observe(r *route.Route, a *v1alpha1.Attempt) {
	if a.RetryAfterTime == nil && a.Outcome != v1alpha1.OutcomeGone {
		return // as most
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	lane := l.of(r)
	lane.peer.observe(a, lane.route.Generation)
	l.pump(lane) // It wakes the lane at the end of a pause.
	l.note(lane)
}

// SetRoute applies a changed route, and begins the work that it allows.
func (l *Lanes) SetRoute(r *route.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[r.UID]; lane != nil {
		l.setRoute(lane, r)
		l.pump(lane)
		l.note(lane)
	}
}

// setRoute applies a route to a lane. A new endpoint is not troubled.
func (l *Lanes) setRoute(lane *lane, r *route.Route) {
	wasTroubled, counted := lane.peer.troubled, lane.troubledSlots()
	lane.setRoute(l.options.Clock.Now(), r)
	l.troubledInFlight += lane.troubledSlots() - counted
	if lane.peer.troubled != wasTroubled {
		lane.starved = false
	}
}

// Delete ends everything about an endpoint whose Postback is gone.
func (l *Lanes) Delete(postback types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[postback]; lane != nil {
		lane.due.dropAll()
		lane.manual.dropAll()
		lane.cancel(ErrDeleted)
		delete(l.lanes, postback)
		lane.wakeAt = time.Time{}
		l.setWake(lane)
	}
}

// Close refuses further work. It drops work that waits for its endpoint, and keeps work that waits for a slot.
func (l *Lanes) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, lane := range l.lanes {
		l.pump(lane)
	}
	l.signal()
}

// Run begins work when its time comes. It returns after Close when no work is left, or when stop ends.
func (l *Lanes) Run() {
	defer l.working.Wait()
	for {
		wait, done := l.scan()
		if done {
			return
		}
		timer := l.options.Clock.NewTimer(wait)
		select {
		case <-l.stop.Done():
		case <-l.changed:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// longestScan bounds the time between two scans of the lanes.
const longestScan = time.Minute

// scan begins the work that may begin, and returns the time until the next scan.
func (l *Lanes) scan() (wait time.Duration, done bool) {
	l.mu.Lock()
	now := l.options.Clock.Now()
	wait = longestScan
	for {
		soonest, ok := l.wakes.Peek()
		if !ok {
			break
		}
		if left := soonest.wakeAt.Sub(now); left > 0 {
			wait = min(wait, left)
			break
		}
		l.pump(soonest)
		if soonest.sending == 0 {
			l.note(soonest) // The pause may be over although no work waited for its end.
		}
	}
	done = l.closed && l.remaining() == 0 || l.stop.Err() != nil
	reports := l.reports
	l.reports = nil
	l.mu.Unlock()
	for _, r := range reports {
		l.options.Report(r.route, r.health)
	}
	return max(wait, time.Millisecond), done
}

// setWake takes over a change of a lane's wakeAt.
func (l *Lanes) setWake(lane *lane) {
	if lane.wakeAt.IsZero() {
		l.wakes.Remove(lane)
	} else {
		l.wakes.Put(lane)
	}
}

// remaining counts the attempts in flight and the work that waits.
func (l *Lanes) remaining() int {
	n := l.inFlight
	for _, lane := range l.lanes {
		n += lane.waiting()
	}
	return n
}

// signal wakes Run.
func (l *Lanes) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// of returns the lane of a route. It makes one if there is none.
func (l *Lanes) of(r *route.Route) *lane {
	if found := l.lanes[r.UID]; found != nil {
		if found.route != r && found.route.Generation <= r.Generation {
			l.setRoute(found, r)
		}
		return found
	}
	made := newLane(l.stop, r, l.options.Recovery)
	made.pace.setLimit(l.options.Clock.Now(), r.PerSecond)
	l.lanes[r.UID] = made
	if l.options.Unfinished != nil {
		for _, d := range l.options.Unfinished(r) {
			newest := delivery.Newest(d)
			if newest == nil {
				continue
			}
			// It has failed, and the owner of the retries before may have reported that: report the next success.
			made.peer.mayBeOnRecord = true
			if made.peer.madeHere(newest) {
				made.peer.observe(newest, r.Generation)
				made.peer.troubled = made.peer.troubled || trouble(newest)
			}
		}
	}
	if made.peer.troubled {
		made.peer.breaker.open()
	}
	l.note(made)
	return made
}

// note queues a report if an endpoint's health has changed.
func (l *Lanes) note(lane *lane) {
	if l.options.Report == nil {
		return
	}
	if h, changed := lane.health(l.options.Clock.Now()); changed {
		lane.peer.reported, lane.peer.mayBeOnRecord = h, true
		l.reports = append(l.reports, report{lane.route, h})
		l.signal()
	}
}

// Throttled reports whether due work waits for the endpoint of a Postback: its circuit is open or in the slow start, it answered
// 410, or it asked for a pause.
func (l *Lanes) Throttled(postback types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lane, ok := l.lanes[postback]
	return ok && lane.throttled(l.options.Clock.Now())
}

// Stats are counts over all lanes.
type Stats struct {
	// InFlight counts attempts in flight. Waiting counts due attempts that wait for their endpoint or for a slot.
	InFlight, Waiting int
	// Throttled counts the endpoints for which Lanes.Throttled is true.
	Throttled int
}

// Stats counts.
func (l *Lanes) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.options.Clock.Now()
	s := Stats{InFlight: l.inFlight}
	for _, lane := range l.lanes {
		s.Waiting += lane.waiting()
		if lane.throttled(now) {
			s.Throttled++
		}
	}
	return s
}
