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

// Package lane keeps one endpoint from harming another. Every attempt goes through the lane of its endpoint, which bounds
// how many are made at a time and in a second, lets them wait while the endpoint is in trouble or has asked for a pause,
// and begins them in the order in which they are due. All lanes together have a bound, of which none can take so much
// that nothing is left for the others.
package lane

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// DefaultMaxInFlight is how many attempts a replica makes at a time, to all endpoints.
const DefaultMaxInFlight = 512

// unknown stands for what another replica may have reported of an endpoint.
const unknown = "Unknown"

// ErrDeleted is why the context of an attempt ends when its Postback is deleted.
var ErrDeleted = errors.New("the Postback was deleted")

// Options of Lanes.
type Options struct {
	// MaxInFlight is how many attempts are made at a time. The default is DefaultMaxInFlight.
	MaxInFlight int
	// Recovery is how endpoints in trouble are treated.
	Recovery Recovery
	Clock    clock.WithTicker
	// Report may be nil.
	Report Report
	// Unfinished returns the unfinished deliveries of a Postback that are known, for what they tell about its endpoint when
	// its lane is made. It may be nil.
	Unfinished func(postback types.UID) []*v1alpha1.PostbackDelivery
}

// Lanes are the ways to all endpoints. They are safe for concurrent use.
type Lanes struct {
	options Options
	// stop ends what is in flight.
	stop context.Context //nolint:containedctx // It bounds attempts, which outlive the calls that ask for them.
	// changed tells Run that something happened.
	changed chan struct{}
	working sync.WaitGroup

	mu    sync.Mutex
	lanes map[types.UID]*lane
	// inFlight counts the places that are taken, inDoubt those of them that endpoints in doubt hold.
	inFlight, inDoubt int
	// recording is how many attempts were sent and gave back their place, and are not on record yet.
	recording int
	wakes     wakes
	// starved are lanes that wait for a place among all, in the order in which they came, and doubted those that wait for
	// one of the share of endpoints in doubt.
	starved, doubted []*lane
	closed           bool
	reports          []report
}

type report struct {
	route  *route.Route
	health Health
}

// New returns Lanes in which nothing is made before Run. Attempts in flight are cut short when stop ends.
func New(stop context.Context, o Options) *Lanes {
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	o.Recovery = o.Recovery.withDefaults()
	return &Lanes{options: o, stop: stop, changed: make(chan struct{}, 1), lanes: map[types.UID]*lane{}}
}

// Submit has work done when its endpoint's lane allows it. Work for a delivery that waits already replaces it.
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

// enter puts work into a lane. How long nothing has begun there counts from the first that waits.
func (l *Lanes) enter(lane *lane, w *Work) {
	w.entered = l.options.Clock.Now()
	if lane.waiting() == 0 {
		lane.waited, lane.began = 0, w.entered
	}
	lane.put(w)
	l.pump(lane)
}

// Pressure is how a lane fares.
type Pressure struct {
	// HeldBack is as Lanes.HeldBack returns it.
	HeldBack bool
	// Waiting is the number of attempts that wait for the lane, or have a place reserved.
	Waiting int
	// Wait is about how long one would wait that comes now, and Still for how long none of those that wait has begun.
	Wait, Still time.Duration
}

// Pressure returns how the lane of a route fares.
func (l *Lanes) Pressure(r *route.Route) Pressure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(r).pressure(l.options.Clock.Now())
}

// Reserve takes a place for a first attempt of a delivery that is about to be stored, and returns what has to be called
// once, with the work, or with nil if there is none after all. It returns nil if the lane could not begin the attempt at
// once, or nearly so.
func (l *Lanes) Reserve(r *route.Route) (begin func(*Work)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	lane := l.of(r)
	if !lane.promises(l.options.Clock.Now()) || !l.room(lane) {
		return nil
	}
	lane.reserved++
	return func(w *Work) {
		l.mu.Lock()
		defer l.mu.Unlock()
		lane.reserved--
		if w != nil && lane.ctx.Err() == nil {
			l.enter(lane, w)
		} else {
			w.drop()
		}
	}
}

// Observe takes in what an attempt of another replica says about an endpoint.
func (l *Lanes) Observe(postback types.UID, a *v1alpha1.Attempt) {
	if !telling(a) {
		return // as most, for nothing
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[postback]; lane != nil {
		lane.observe(a)
		l.noteGone(lane)
	}
}

// SetRoute takes over a route that has changed, and lets what waits go if that is a reason to.
func (l *Lanes) SetRoute(r *route.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[r.UID]; lane != nil {
		lane.setRoute(l.options.Clock.Now(), r)
		l.pump(lane)
	}
}

// Delete ends everything about an endpoint whose Postback is gone.
func (l *Lanes) Delete(postback types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane := l.lanes[postback]; lane != nil {
		lane.due.dropAll()
		lane.asked.dropAll()
		lane.cancel(ErrDeleted)
		delete(l.lanes, postback)
		lane.wakeAt = time.Time{}
		l.wakes.set(lane)
	}
}

// Close takes no further work. What waits for an endpoint rather than for a place is dropped.
func (l *Lanes) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, lane := range l.lanes {
		l.pump(lane)
	}
	l.tell()
}

// Run lets work begin whose time has come, until Close and the end of what is left, or until stop ends.
func (l *Lanes) Run() {
	defer l.working.Wait()
	for {
		wait, done := l.look()
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

// longestLook bounds the time between two looks at the lanes.
const longestLook = time.Minute

// look lets go what may go, and returns the time until the next look.
func (l *Lanes) look() (wait time.Duration, done bool) {
	l.mu.Lock()
	now := l.options.Clock.Now()
	wait = longestLook
	for len(l.wakes) > 0 {
		soonest := l.wakes[0]
		if left := soonest.wakeAt.Sub(now); left > 0 {
			wait = min(wait, left)
			break
		}
		l.pump(soonest)
	}
	done = l.closed && l.left() == 0 || l.stop.Err() != nil
	reports := l.reports
	l.reports = nil
	l.mu.Unlock()
	for _, r := range reports {
		l.options.Report(r.route, r.health)
	}
	return max(wait, time.Millisecond), done
}

// left counts what is being made and what waits.
func (l *Lanes) left() int {
	left := l.inFlight
	for _, lane := range l.lanes {
		left += lane.waiting()
	}
	return left
}

// tell wakes Run.
func (l *Lanes) tell() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// of returns the lane of a route, and makes it if it is not there.
func (l *Lanes) of(r *route.Route) *lane {
	now := l.options.Clock.Now()
	if found := l.lanes[r.UID]; found != nil {
		if found.route != r && found.route.Generation <= r.Generation {
			found.setRoute(now, r)
		}
		return found
	}
	made := newLane(l.stop, r, l.options.Recovery)
	made.pace.setLimit(now, r.PerSecond)
	l.lanes[r.UID] = made
	if l.options.Unfinished != nil {
		for _, d := range l.options.Unfinished(r.UID) {
			if newest := delivery.Newest(d); newest != nil {
				made.observe(newest)
				// It has failed, and who owned the retries before may have told so: tell when it succeeds.
				made.reported = unknown
				made.doubted = made.doubted || trouble(newest)
			}
		}
		l.noteGone(made)
	}
	if made.doubted {
		made.breaker.doubt()
	}
	return made
}

// noteGone has it reported that an endpoint is gone of which another replica was told so: nothing is sent to it from here that
// would find out.
func (l *Lanes) noteGone(lane *lane) {
	if lane.gone != 0 {
		l.note(lane, &v1alpha1.Attempt{Outcome: v1alpha1.OutcomeGone})
	}
}

// note has a change of an endpoint's health reported.
func (l *Lanes) note(lane *lane, a *v1alpha1.Attempt) {
	h, known := lane.health(a.Outcome)
	if !known || l.options.Report == nil || h.Reason == lane.reported || h.Healthy && lane.reported == "" {
		return
	}
	lane.reported = h.Reason
	l.reports = append(l.reports, report{lane.route, h})
	l.tell()
}

// HeldBack reports whether what is due waits for the endpoint of a Postback: its circuit is open or it recovers from that,
// it is gone, or it asked to be left alone.
func (l *Lanes) HeldBack(postback types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lane, ok := l.lanes[postback]
	return ok && lane.heldBack(l.options.Clock.Now())
}

// Stats are counts over all lanes.
type Stats struct {
	// InFlight are attempts that are being made, Waiting are due and wait for their endpoint or for a place.
	InFlight, Waiting int
	// HeldBack are endpoints to which nothing goes but a probe: the circuit is open, or they are gone.
	HeldBack int
}

// Stats counts.
func (l *Lanes) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{InFlight: l.inFlight}
	for _, lane := range l.lanes {
		s.Waiting += lane.waiting()
		if lane.gone != 0 || !lane.breaker.closed() {
			s.HeldBack++
		}
	}
	return s
}
