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

// peer is the knowledge of one endpoint that attempts gave. A new URL is a new endpoint: its lane gets a new peer.
type peer struct {
	// since is the generation of the Postback at which the endpoint began. Attempts of an earlier one went elsewhere.
	since   int64
	breaker *breaker
	// retryAfter is the pause that the endpoint asked for.
	retryAfter pause
	// gone is the generation of the Postback whose endpoint answered 410, or 0.
	gone int64
	// took is the average duration of the last few attempts, or 0.
	took time.Duration
	// troubled is set while the last attempt found the endpoint in trouble.
	troubled bool
	streak   streak
	// reported is the last reported health. mayBeOnRecord is set if the condition EndpointHealthy may exist although this replica
	// reported none. ofPredecessor is set if that health is of the previous endpoint.
	reported                     Health
	mayBeOnRecord, ofPredecessor bool
	// counted is the number of failures in the message that was reported last.
	counted int
}

// pause is a time until which an endpoint asked for no attempt, and the generation of the Postback that it answered.
type pause struct {
	until      time.Time
	generation int64
}

func newPeer(since int64, recovery Recovery) *peer {
	return &peer{since: since, breaker: newBreaker(recovery)}
}

// successor returns the peer of the endpoint that replaces another one at a generation. It keeps the knowledge from attempts
// of that generation: another replica may have made them before the route came here.
func (p *peer) successor(since int64, recovery Recovery) *peer {
	next := newPeer(since, recovery)
	if p.retryAfter.generation >= since {
		next.retryAfter = p.retryAfter
	}
	if p.gone >= since {
		next.gone = p.gone
	}
	if !p.breaker.closed() {
		// Much work may wait: a probe shows first whether this endpoint is better.
		next.breaker.open()
	}
	// The health of the previous endpoint may be on record.
	next.mayBeOnRecord, next.ofPredecessor = p.mayBeOnRecord || p.reported != Health{}, true
	return next
}

// madeHere reports whether an attempt was made at this endpoint.
func (p *peer) madeHere(a *v1alpha1.Attempt) bool { return a.PostbackGeneration >= p.since }

// observe learns from an attempt on record, of this replica or another. current is the generation that the lane knows.
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

// learn adds the duration of an attempt to the average.
func (p *peer) learn(took time.Duration) {
	const weight = 8
	if p.took == 0 {
		p.took = took
	}
	p.took += (took - p.took) / weight
}
