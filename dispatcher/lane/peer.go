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
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// peer is the state of one endpoint, learned from attempts. A new URL is a new endpoint: its lane gets a new peer.
type peer struct {
	// since is the generation of the Postback from which on it has this endpoint. Attempts of earlier generations
	// went elsewhere.
	since   int64
	breaker *breaker
	// retryAfter is the wait that the endpoint asked for.
	retryAfter pause
	// gone is the generation of the Postback to which the endpoint answered 410, or 0.
	gone int64
	// took is the moving average of the attempts' durations; 0 means none has ended.
	took time.Duration
	// troubled is true if the newest attempt ended in trouble.
	troubled bool
	streak   streak
	// reported is the last reported health. mayBeOnRecord is true if the Postback may have a condition
	// EndpointHealthy, perhaps by an earlier elected replica. ofPredecessor is true if this peer replaced another,
	// which that condition may describe.
	reported                     Health
	mayBeOnRecord, ofPredecessor bool
	// counted is the number of failures in the last reported message.
	counted int
}

// pause is the time until which an endpoint asked to wait, and the generation of the Postback that it answered.
type pause struct {
	until      time.Time
	generation int64
}

func newPeer(since int64, recovery Recovery) *peer {
	return &peer{since: since, breaker: newBreaker(recovery)}
}

// successor returns the peer of the next endpoint, which begins at a generation. It keeps a Retry-After or 410 of
// that generation: another replica may have received it before this one got the route.
func (p *peer) successor(since int64, recovery Recovery) *peer {
	next := newPeer(since, recovery)
	if p.retryAfter.generation >= since {
		next.retryAfter = p.retryAfter
	}
	if p.gone >= since {
		next.gone = p.gone
	}
	if !p.breaker.closed() {
		// Much work may wait, so a probe first tests the new endpoint.
		next.breaker.open()
	}
	// The condition of the Postback may still describe the previous endpoint.
	next.mayBeOnRecord, next.ofPredecessor = p.mayBeOnRecord || p.reported != Health{}, true
	return next
}

// madeHere reports whether an attempt was made at this endpoint.
func (p *peer) madeHere(a *v1alpha1.Attempt) bool { return a.PostbackGeneration >= p.since }

// observe applies the Retry-After or 410 of a recorded attempt, of this replica or another. current is the generation
// of the lane's route.
func (p *peer) observe(a *v1alpha1.Attempt, current int64) {
	if !p.madeHere(a) {
		return
	}
	if at := a.RetryAfterTime; at != nil && (at.After(p.retryAfter.until) || a.PostbackGeneration > max(current, p.retryAfter.generation)) {
		p.retryAfter = pause{at.Time, a.PostbackGeneration}
	}
	if a.Outcome == v1alpha1.OutcomeGone && a.PostbackGeneration >= current {
		p.gone = a.PostbackGeneration
	}
}

// learn adds the duration of an attempt to the moving average.
func (p *peer) learn(took time.Duration) {
	const weight = 8
	if p.took == 0 {
		p.took = took
	}
	p.took += (took - p.took) / weight
}
