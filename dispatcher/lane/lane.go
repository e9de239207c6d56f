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
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// defaultMaxConcurrent is the bound on a replica's concurrent attempts at an endpoint if the Postback sets none.
const defaultMaxConcurrent = 16

// A lane lets as many first attempts wait as the endpoint handles within promised, at the pace of its recent
// attempts. Before the first attempt ends, the bound is firstWaiting. leastWaiting and mostWaiting limit it, because
// the bodies are in memory.
const (
	promised     = 2 * time.Second
	firstWaiting = 4 * defaultMaxConcurrent
	leastWaiting = defaultMaxConcurrent
	mostWaiting  = 16 * defaultMaxConcurrent
)

// lane is the way to the endpoint of one Postback. The mutex of Lanes guards it.
type lane struct {
	route *route.Route
	// ctx ends when the Postback is deleted.
	ctx    context.Context //nolint:containedctx // It is the lane's lifetime, not that of a call.
	cancel context.CancelCauseFunc

	due, manual *queue
	// running has the work that has begun, by delivery.
	running map[types.NamespacedName]*running
	// sending counts the running deliveries with a slot. The others are being recorded, which puts no load on the
	// endpoint.
	sending int
	// admitted counts the admitted first attempts whose deliveries are being stored.
	admitted int

	pace pace
	// peer is the present endpoint.
	peer *peer

	// began is when the newest work began, waited how long that work had waited.
	waited time.Duration
	began  time.Time

	// wakeAt is when the lane has to be scanned again; zero means never.
	wakeAt time.Time
	// starved is true while the lane waits for one of the slots that all lanes share.
	starved bool
}

func newLane(ctx context.Context, r *route.Route, recovery Recovery) *lane {
	l := &lane{route: r, due: newQueue(), manual: newQueue(), running: map[types.NamespacedName]*running{}, peer: newPeer(r.EndpointSince(), recovery)}
	l.pace.recovery = recovery
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	return l
}

// setRoute applies a route. A new endpoint gets a new peer. A change of the spec or the credentials ends the wait for
// the next probe, and a 410.
func (l *lane) setRoute(now time.Time, r *route.Route) {
	if l.route.URL != r.URL || l.peer.since != r.EndpointSince() && r.EndpointGeneration != 0 {
		l.peer = l.peer.successor(r.EndpointSince(), l.pace.recovery)
		l.pace.ramp = nil
	}
	if l.route.Generation != r.Generation || !sameCredentials(l.route, r) {
		l.peer.breaker.probeNow()
	}
	if l.peer.gone < r.Generation {
		l.peer.gone = 0
	}
	l.route = r
	l.pace.setLimit(now, r.PerSecond)
}

// sameCredentials reports whether two routes authenticate equally and trust the same authorities.
func sameCredentials(a, b *route.Route) bool {
	return reflect.DeepEqual(a.Auth, b.Auth) && reflect.DeepEqual(a.TLS, b.TLS) && reflect.DeepEqual(a.Headers, b.Headers)
}

func (l *lane) maxConcurrent() int {
	if l.route.MaxConcurrent > 0 {
		return int(l.route.MaxConcurrent)
	}
	return defaultMaxConcurrent
}

func (l *lane) waiting() int { return l.due.len() + l.manual.len() }

// enqueue adds work to a queue. While work for the same delivery is running, the new work waits for its end.
func (l *lane) enqueue(w *Work) {
	if present := l.running[w.Key]; present != nil {
		present.newer.drop()
		present.newer = w
		return
	}
	switch {
	case w.Manual:
		l.due.remove(w.Key)
		l.manual.put(w)
	case l.manual.has(w.Key):
		w.drop()
	default:
		l.due.put(w)
	}
}

// noteBegin records the begin of work, for pressure.
func (l *lane) noteBegin(now time.Time, w *Work) { l.waited, l.began = now.Sub(w.entered), now }

// pressure returns the number of waiting attempts and an estimate of their wait: how long the newest work that began
// had waited, or the time since then if that is longer.
func (l *lane) pressure(now time.Time) Pressure {
	p := Pressure{Throttled: l.throttled(now), Waiting: l.admitted + l.waiting()}
	if l.waiting() > 0 {
		p.SinceBegin = now.Sub(l.began)
		p.Wait = max(l.waited, p.SinceBegin)
	}
	return p
}

func (l *lane) throttled(now time.Time) bool { return l.stopped(now) || l.pace.recovering(now) }

// stopped reports whether the endpoint gets no attempts, except one probe at a time.
func (l *lane) stopped(now time.Time) bool {
	return l.gone() || !l.peer.breaker.closed() || now.Before(l.peer.retryAfter.until)
}

// gone reports whether the endpoint answered 410 to the present generation.
func (l *lane) gone() bool { return l.peer.gone == l.route.Generation && l.peer.gone != 0 }

// promises reports whether a first attempt of a delivery stored now would probably begin within promised.
func (l *lane) promises(now time.Time) bool {
	if l.gone() || now.Before(l.peer.retryAfter.until) || l.pace.recovering(now) || l.admitted+l.waiting() >= l.maxWaiting() {
		return false
	}
	if l.peer.breaker.closed() {
		return true
	}
	ok, _ := l.peer.breaker.allows(now)
	return ok && l.admitted == 0 // Only one probe is allowed.
}

func (l *lane) maxWaiting() int {
	if l.peer.took <= 0 {
		return firstWaiting
	}
	return min(max(int(promised/l.peer.took)*l.maxConcurrent(), leastWaiting), mostWaiting)
}

// next pops the work that may begin now. If none may, it returns nil and sets wakeAt to the time when some may, if
// that is known.
func (l *lane) next(now time.Time) *Work {
	from := l.manual
	if l.manual.len() == 0 {
		from = l.due
	}
	if from.len() == 0 {
		return nil
	}
	if now.Before(l.peer.retryAfter.until) {
		l.wakeAt = l.peer.retryAfter.until
		return nil
	}
	if from == l.due {
		if l.gone() {
			return nil
		}
		if ok, at := l.peer.breaker.allows(now); !ok {
			l.wakeAt = at
			return nil
		}
	}
	if wait := l.pace.acquire(now); wait > 0 {
		l.wakeAt = now.Add(wait)
		return nil
	}
	return from.pop()
}

// troubledSlots returns the number of the lane's slots that count for Recovery.Share.
func (l *lane) troubledSlots() int {
	if l.peer.troubled {
		return l.sending
	}
	return 0
}

// end applies the result of an attempt. from was the lane's peer when it began: an attempt at an earlier endpoint
// says nothing about the present one.
func (l *lane) end(now time.Time, from *peer, probe bool, a *v1alpha1.Attempt) {
	p := l.peer
	probe = probe && from == p
	if a == nil || !p.madeHere(a) {
		p.breaker.end(now, probe, false, false)
		return
	}
	wasClosed, troubled := p.breaker.closed(), trouble(a)
	if a.Outcome != v1alpha1.OutcomeInterrupted {
		p.troubled = troubled
	}
	p.breaker.end(now, probe, a.Outcome != v1alpha1.OutcomeInterrupted, troubled)
	p.observe(a, l.route.Generation)
	p.learn(a.Duration.Duration)
	p.streak.add(now, a)
	if a.Outcome == v1alpha1.OutcomeSucceeded && l.gone() {
		p.gone = 0
		l.pace.recover(now)
	}
	if a.Outcome != v1alpha1.OutcomeInterrupted {
		l.pace.learn(now, troubled)
	}
	if !wasClosed && p.breaker.closed() {
		l.pace.recover(now)
	}
}
