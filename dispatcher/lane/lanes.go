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

// Package lane schedules attempts. Each Postback has a lane to its endpoint, with limits, a circuit breaker and the
// Retry-After of the endpoint. All lanes share a bounded number of slots. Other packages make the attempts, record
// them and decide on retries.
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

// DefaultMaxInFlight is the default number of slots of a replica: its concurrent attempts at all endpoints.
const DefaultMaxInFlight = 512

// ErrDeleted is the cause of the context of an attempt whose Postback is deleted.
var ErrDeleted = errors.New("the Postback was deleted")

// Options configure Lanes.
type Options struct {
	// MaxInFlight is the number of slots. The default is DefaultMaxInFlight.
	MaxInFlight int
	// Recovery configures the treatment of troubled endpoints.
	Recovery Recovery
	Clock    clock.WithTicker
	// Report receives changes of health. It may be nil.
	Report Report
	// Unfinished returns the unfinished deliveries of a route's Postback, whose attempts tell a new lane about its
	// endpoint. It may be nil.
	Unfinished func(r *route.Route) []*v1alpha1.PostbackDelivery
}

// Lanes has the lanes of all Postbacks. It is safe for concurrent use.
type Lanes struct {
	options Options
	// stop ends when attempts in flight have to be interrupted.
	stop context.Context //nolint:containedctx // It bounds attempts, which outlive the calls that ask for them.
	// changed wakes Run.
	changed chan struct{}
	working sync.WaitGroup

	mu    sync.Mutex
	lanes map[types.UID]*lane
	// inFlight counts the slots in use, troubledInFlight those in use for troubled endpoints.
	inFlight, troubledInFlight int
	// recording counts the attempts that have released their slot and are not recorded yet.
	recording int
	// wakes has the lanes with a wakeAt, soonest first, so that a scan reads only those whose time has come.
	wakes *heap.Heap[*lane, *lane]
	// starved has the lanes that wait for a slot, in order of arrival; starvedTroubled those that wait for a slot of
	// Recovery.Share.
	starved, starvedTroubled []*lane
	closed                   bool
	reports                  []report
}

type report struct {
	route  *route.Route
	health Health
}

// New returns Lanes that Run serves. The end of stop interrupts attempts in flight.
func New(stop context.Context, o Options) *Lanes {
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.Recovery = o.Recovery.withDefaults()
	return &Lanes{
		options: o, stop: stop, changed: make(chan struct{}, 1), lanes: map[types.UID]*lane{},
		wakes: heap.New(func(l *lane) *lane { return l }, func(a, b *lane) bool { return a.wakeAt.Before(b.wakeAt) }),
	}
}

// Submit queues work until its lane allows it. It replaces waiting work for the same delivery.
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

// enter adds work to a lane. If nothing waits yet, the estimates of pressure start anew.
func (l *Lanes) enter(lane *lane, w *Work) {
	w.entered = l.options.Clock.Now()
	if lane.waiting() == 0 {
		lane.waited, lane.began = 0, w.entered
	}
	lane.enqueue(w)
	l.pump(lane)
}

// Pressure describes the load of a lane.
type Pressure struct {
	// Throttled is the result of Lanes.Throttled.
	Throttled bool
	// Waiting counts the attempts that wait in the lane, and the admitted ones whose deliveries are being stored.
	Waiting int
	// Wait estimates how long new work waits. SinceBegin is the time since work of the lane last began, or 0 if none
	// waits.
	Wait, SinceBegin time.Duration
}

// Pressure returns the load of the lane of a route.
func (l *Lanes) Pressure(r *route.Route) Pressure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(r).pressure(l.options.Clock.Now())
}

// Gone reports whether the endpoint of a route answered 410.
func (l *Lanes) Gone(r *route.Route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(r).gone()
}

// Admit announces the first attempt of a delivery that is about to be stored; it takes no slot. The caller must call
// submit once: with the work, which it queues, or with nil if the delivery is not stored. submit is nil if no slot is
// free, or if the attempt would probably begin later than in 2 s.
func (l *Lanes) Admit(r *route.Route) (submit func(*Work)) {
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

// Observe applies the Retry-After or 410 of a recorded attempt, perhaps of another replica, to a lane.
func (l *Lanes) Observe(r *route.Route, a *v1alpha1.Attempt) {
	if a.RetryAfterTime == nil && a.Outcome != v1alpha1.OutcomeGone {
		return // Most attempts have neither.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	lane := l.of(r)
	lane.peer.observe(a, lane.route.Generation)
	l.pump(lane) // It sets wakeAt to the end of a pause.
	l.note(lane)
}

// SetRoute applies a changed route to its lane, and begins the work that may begin now.
func (l *Lanes) SetRoute(r *route.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[r.UID]; lane != nil {
		l.setRoute(lane, r)
		l.pump(lane)
		l.note(lane)
	}
}

// setRoute applies a route to a lane and corrects the counts of troubled slots, because a new peer is not troubled.
func (l *Lanes) setRoute(lane *lane, r *route.Route) {
	wasTroubled, counted := lane.peer.troubled, lane.troubledSlots()
	lane.setRoute(l.options.Clock.Now(), r)
	l.troubledInFlight += lane.troubledSlots() - counted
	if lane.peer.troubled != wasTroubled {
		lane.starved = false
	}
}

// Delete drops the waiting work of a deleted Postback and interrupts its attempts in flight.
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

// Close refuses further work and drops work that waits for its endpoint. Work that waits for a slot still begins.
func (l *Lanes) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, lane := range l.lanes {
		l.pump(lane)
	}
	l.signal()
}

// Run begins work when its time comes. It returns when stop ends, or after Close once no work is left.
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

// scan begins the work that may begin now, sends the queued reports, and returns the time until the next scan.
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
			l.note(soonest) // The end of a Retry-After changes the health even if no work waits for it.
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

// setWake updates wakes after a change of a lane's wakeAt.
func (l *Lanes) setWake(lane *lane) {
	if lane.wakeAt.IsZero() {
		l.wakes.Remove(lane)
	} else {
		l.wakes.Put(lane)
	}
}

// remaining counts the attempts in flight and the waiting work.
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

// of returns the lane of a route, and creates it if it does not exist.
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
			// A failed attempt, which an earlier elected replica may have reported: the next success has to be
			// reported, too.
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

// note queues a report if the health of a lane's endpoint has changed.
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

// Throttled reports whether due work waits for the endpoint of a Postback: its circuit is not closed, it is in the
// slow start, it answered 410, or it asked to wait.
func (l *Lanes) Throttled(postback types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lane, ok := l.lanes[postback]
	return ok && lane.throttled(l.options.Clock.Now())
}

// Stats has counts over all lanes.
type Stats struct {
	// InFlight counts attempts in flight. Waiting counts due attempts that wait for their endpoint or for a slot.
	InFlight, Waiting int
	// Throttled counts the endpoints for which Lanes.Throttled is true.
	Throttled int
}

// Stats returns the present counts.
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
