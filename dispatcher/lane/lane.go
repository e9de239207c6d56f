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

package lane

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// DefaultMaxConcurrent is how many attempts of an endpoint a replica makes at a time if its Postback asks for no limit.
const DefaultMaxConcurrent = 16

// First attempts may wait in a lane beyond those that can begin at once, as many as the endpoint takes within promised at
// the pace at which it has answered; each will begin in time, or the lane is no place for it. Before it has answered there
// is room for firstWaiting, and never for fewer than leastWaiting or more than mostWaiting, for their bodies are in memory.
const (
	promised     = 2 * time.Second
	firstWaiting = 4 * DefaultMaxConcurrent
	leastWaiting = DefaultMaxConcurrent
	mostWaiting  = 16 * DefaultMaxConcurrent
)

// lane is the way to one endpoint. Lanes guards it.
type lane struct {
	route *route.Route
	// ctx ends when the Postback is deleted.
	ctx    context.Context //nolint:containedctx // It is the lane's lifetime, not that of a call.
	cancel context.CancelCauseFunc

	due, asked *queue
	// running holds what is being done, with the work of the same delivery that came meanwhile, or nil.
	running map[types.NamespacedName]*Work
	// sending is how many of these have a place. Others are being recorded, which is not the endpoint's concern.
	sending int
	// reserved are places for first attempts that are being stored.
	reserved int

	breaker *breaker
	pace    pace
	// holdUntil is when the endpoint asked to be left alone until.
	holdUntil time.Time
	// gone is the generation of the Postback whose endpoint answered 410, or 0.
	gone int64
	// took is how long the endpoint takes for an answer, on average over the last few, or 0.
	took time.Duration
	// doubted says that the last attempt found the endpoint in trouble.
	doubted bool
	// failures are those in a row.
	failures int
	// reported is the reason that was reported last, or "".
	reported string

	// waited is how long the work had waited that began last, and began is when it did.
	waited time.Duration
	began  time.Time

	// wakeAt is when the lane has to be looked at again, or zero; wakePlace is its place among those that have to, counted
	// from 1, or 0. starved says that it waits for a place among all lanes.
	wakeAt    time.Time
	wakePlace int
	starved   bool
}

func newLane(ctx context.Context, r *route.Route, recovery Recovery) *lane {
	l := &lane{route: r, due: newQueue(), asked: newQueue(), running: map[types.NamespacedName]*Work{}, breaker: newBreaker(recovery)}
	l.pace.recovery = recovery
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	return l
}

// setRoute takes over a route. A change of the spec is a reason to try an endpoint that was set aside, and another
// endpoint has asked for nothing.
func (l *lane) setRoute(now time.Time, r *route.Route) {
	if l.route.Generation != r.Generation {
		l.gone = 0
		l.breaker.probeNow()
	}
	if l.route.URL != r.URL {
		l.holdUntil = time.Time{}
	}
	l.route = r
	l.pace.setLimit(now, r.PerSecond)
}

func (l *lane) maxConcurrent() int {
	if l.route.MaxConcurrent > 0 {
		return int(l.route.MaxConcurrent)
	}
	return DefaultMaxConcurrent
}

func (l *lane) waiting() int { return l.due.Len() + l.asked.Len() }

// put adds work.
func (l *lane) put(w *Work) {
	if again, running := l.running[w.Key]; running {
		again.drop()
		l.running[w.Key] = w
		return
	}
	switch {
	case w.Asked:
		l.due.remove(w.Key)
		l.asked.put(w)
	case l.asked.has(w.Key):
		w.drop()
	default:
		l.due.put(w)
	}
}

// begins takes in that work begins.
func (l *lane) begins(now time.Time, w *Work) { l.waited, l.began = now.Sub(w.entered), now }

// pressure returns how much waits in the lane, and for how long about the newest of it will: not less than what began last
// has waited, or than nothing has begun.
func (l *lane) pressure(now time.Time) Pressure {
	p := Pressure{HeldBack: l.heldBack(now), Waiting: l.reserved + l.waiting()}
	if l.waiting() > 0 {
		p.Still = now.Sub(l.began)
		p.Wait = max(l.waited, p.Still)
	}
	return p
}

func (l *lane) heldBack(now time.Time) bool {
	return l.gone != 0 || !l.breaker.closed() || l.pace.recovering(now) || now.Before(l.holdUntil)
}

// promises reports whether a first attempt that is stored now would begin at once, or nearly so.
func (l *lane) promises(now time.Time) bool {
	if l.gone != 0 || now.Before(l.holdUntil) || l.pace.recovering(now) || l.reserved+l.waiting() >= l.maxWaiting() {
		return false
	}
	if l.breaker.closed() {
		return true
	}
	ok, _ := l.breaker.allows(now)
	return ok && l.reserved == 0 // one probe
}

func (l *lane) maxWaiting() int {
	if l.took <= 0 {
		return firstWaiting
	}
	return min(max(int(promised/l.took)*l.maxConcurrent(), leastWaiting), mostWaiting)
}

// learn takes in how long an attempt took.
func (l *lane) learn(took time.Duration) {
	const weight = 8
	if l.took == 0 {
		l.took = took
	}
	l.took += (took - l.took) / weight
}

// next takes the work that may begin now, or nil. Then wakeAt says when to look again, unless something else has to
// happen first.
func (l *lane) next(now time.Time) *Work {
	from := l.asked
	if l.asked.empty() {
		from = l.due
	}
	if from.empty() {
		return nil
	}
	if now.Before(l.holdUntil) {
		l.wakeAt = l.holdUntil
		return nil
	}
	if from == l.due {
		if l.gone != 0 {
			return nil
		}
		if ok, at := l.breaker.allows(now); !ok {
			l.wakeAt = at
			return nil
		}
	}
	if wait := l.pace.take(now); wait > 0 {
		l.wakeAt = now.Add(wait)
		return nil
	}
	return from.take()
}

// telling reports whether observe has anything to take in.
func telling(a *v1alpha1.Attempt) bool {
	return a.RetryAfterTime != nil || a.Outcome == v1alpha1.OutcomeGone
}

// observe takes in what an attempt says about the endpoint, whoever made it.
func (l *lane) observe(a *v1alpha1.Attempt) {
	if at := a.RetryAfterTime; at != nil && at.After(l.holdUntil) {
		l.holdUntil = at.Time
	}
	if a.Outcome == v1alpha1.OutcomeGone && a.PostbackGeneration == l.route.Generation {
		l.gone = a.PostbackGeneration
	}
}

// inDoubt returns how many places the lane holds that count for the share of endpoints in doubt.
func (l *lane) inDoubt() int {
	if l.doubted {
		return l.sending
	}
	return 0
}

// end takes in how work of this lane ended.
func (l *lane) end(now time.Time, probe bool, a *v1alpha1.Attempt) {
	if a == nil {
		l.breaker.end(now, probe, false, false)
		return
	}
	wasClosed, troubled := l.breaker.closed(), trouble(a)
	if a.Outcome != v1alpha1.OutcomeInterrupted {
		l.doubted = troubled
	}
	l.breaker.end(now, probe, a.Outcome != v1alpha1.OutcomeInterrupted, troubled)
	l.observe(a)
	l.learn(a.Duration.Duration)
	switch {
	case a.Outcome == v1alpha1.OutcomeSucceeded:
		l.failures = 0
		if l.gone != 0 {
			l.gone = 0
			l.pace.recover(now)
		}
	case !a.Outcome.Ours():
		l.failures++
	}
	if troubled {
		l.pace.trouble(now)
	}
	if !wasClosed && l.breaker.closed() {
		l.pace.recover(now)
	}
}
