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
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Health is the health of an endpoint, as in the condition EndpointHealthy, and the reason why deliveries wait for
// it.
type Health struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
	// Since is the time at which Status changed.
	Since time.Time
	Wait  Wait
	// News is true if Status or Reason changed since the last report.
	News bool
}

// Wait is the reason why deliveries wait for an endpoint. The zero value means that they do not.
type Wait struct {
	Reason v1alpha1.EndpointWaitReason
	// Until is the earliest time of the next attempt; zero means unknown.
	Until time.Time
}

// Second returns Until rounded up to the precision of the API, a second.
func (w Wait) Second() time.Time {
	if w.Until.IsZero() {
		return w.Until
	}
	return w.Until.Add(time.Second - 1).UTC().Truncate(time.Second)
}

// Report receives each change of an endpoint's health. It must not block, and must not call Lanes.
type Report func(r *route.Route, h Health)

const (
	// healthyAfter is the number of successes in a row that make an endpoint healthy while deliveries wait. Otherwise
	// one is enough.
	healthyAfter = 3
	// causeAfter is the number of failures by a new cause after which it becomes the reason.
	causeAfter = 3
	// leastPause is the shortest Retry-After that is reported: many endpoints ask for a second now and then.
	leastPause = 30 * time.Second
)

// trouble reports whether the outcome of an attempt counts for the circuit. An endpoint that rejects some events must
// still get the others, so most rejections do not count.
func trouble(a *v1alpha1.Attempt) bool {
	switch a.Outcome {
	case v1alpha1.OutcomeRejected4xx:
		code := ptr.Deref(a.StatusCode, 0)
		return code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
	case v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeRedirected, v1alpha1.OutcomeGone, v1alpha1.OutcomeUnexpectedStatus,
		v1alpha1.OutcomeInvalidRequest, v1alpha1.OutcomeInterrupted:
		return false
	default:
		return true
	}
}

// streak is the newest run of successes or failures.
type streak struct {
	successes, failures int
	// succeeded is the time of the newest success.
	succeeded time.Time
	// cause is the reason of the failures. rival is another one, seen rivals times since the cause was last seen.
	cause, rival string
	rivals       int
	// last describes the newest failure. retryAfter is true if its response had a Retry-After.
	last       string
	retryAfter bool
}

func (s *streak) add(now time.Time, a *v1alpha1.Attempt) {
	if a.Outcome == v1alpha1.OutcomeInterrupted {
		return
	}
	if a.Outcome == v1alpha1.OutcomeSucceeded {
		s.successes++
		s.failures, s.succeeded = 0, now
		return
	}
	code := ptr.Deref(a.StatusCode, 0)
	cause := delivery.Cause(a.Outcome, code, a.RetryAfterTime != nil)
	if s.failures == 0 && s.successes >= healthyAfter {
		s.cause = "" // A new outage begins.
	}
	s.failures++
	s.successes = 0
	s.last, s.retryAfter = delivery.Result(a.Outcome, code), a.RetryAfterTime != nil
	switch {
	case s.cause == "", s.cause == cause:
		s.cause, s.rival, s.rivals = cause, "", 0
	case s.rival == cause:
		s.rivals++
	default:
		s.rival, s.rivals = cause, 1
	}
	if s.rivals >= causeAfter {
		s.cause, s.rival, s.rivals = cause, "", 0
	}
}

func (s *streak) message() string {
	if s.failures == 1 {
		return "The last attempt failed: " + s.last + "."
	}
	return fmt.Sprintf("The last %d attempts failed; most recent: %s.", s.failures, s.last)
}

// health returns the health of an endpoint, and whether it differs from the last report.
func (l *lane) health(now time.Time) (h Health, changed bool) {
	h, known := l.assess(now)
	before := l.peer.reported
	if !known || h.Status == metav1.ConditionTrue && before.Status == "" && !l.peer.mayBeOnRecord {
		return h, false
	}
	h.News = h.Status != before.Status || h.Reason != before.Reason
	h.Since = before.Since
	if h.Status != before.Status {
		h.Since = now
	}
	// A message with a number of failures is reported again when the number has doubled.
	counted := h.Status == metav1.ConditionFalse && l.peer.streak.failures > l.peer.counted && l.peer.streak.failures >= 2*l.peer.counted
	if !h.News && h.Wait == before.Wait && !counted {
		return h, false
	}
	l.peer.counted = l.peer.streak.failures
	return h, true
}

// assess returns the health of an endpoint; known is false if too little is known of it.
func (l *lane) assess(now time.Time) (h Health, known bool) {
	p, s := l.peer, &l.peer.streak
	if l.gone() {
		return Health{
			Status: metav1.ConditionFalse, Reason: string(v1alpha1.OutcomeGone), Wait: Wait{Reason: v1alpha1.WaitGone},
			Message: fmt.Sprintf("The endpoint answered 410 (Gone): deliveries wait. Change spec, or annotate a PostbackDelivery with %s, to try again.",
				v1alpha1.RedeliverAnnotation),
		}, true
	}
	if h, paused := p.pause(now); paused {
		return h, true
	}
	switch {
	case p.down():
		return s.failing(Wait{v1alpha1.WaitCircuitOpen, p.breaker.probeAt}), true
	case p.breaker.recovery.beyondChance(s.failures, now.Sub(s.succeeded)):
		return s.failing(Wait{}), true
	case s.successes > 0 && (p.reported.Status == metav1.ConditionTrue || s.successes >= healthyAfter || l.waiting() == 0):
		return Health{Status: metav1.ConditionTrue, Reason: v1alpha1.EndpointRespondingReason, Message: "The endpoint accepts events."}, true
	}
	return p.unproven()
}

// down reports whether failed attempts keep the circuit open.
func (p *peer) down() bool { return !p.breaker.closed() && p.streak.failures > 0 }

// pause returns the health of an endpoint that asked to wait. paused is false if it did not, or if the wait is not
// worth a report.
func (p *peer) pause(now time.Time) (h Health, paused bool) {
	until := p.retryAfter.until
	wait := Wait{v1alpha1.WaitRetryAfter, until}
	probedLater := p.down() && p.breaker.probeAt.After(until)
	reported := p.reported.Wait == wait || until.Sub(now) >= leastPause
	if !now.Before(until) || probedLater || !reported {
		return Health{}, false
	}
	return Health{
		Status: metav1.ConditionFalse, Reason: v1alpha1.ThrottledReason, Wait: wait,
		Message: "The endpoint asked to wait until " + wait.Second().Format(time.RFC3339) + " (Retry-After).",
	}, true
}

// failing returns the health of an endpoint whose newest attempts failed.
func (s *streak) failing(wait Wait) Health {
	return Health{Status: metav1.ConditionFalse, Reason: s.cause, Message: s.message(), Wait: wait}
}

// unproven returns the health after the end of a Retry-After or after a change of the endpoint, until an attempt
// succeeds. known is false in other cases.
func (p *peer) unproven() (h Health, known bool) {
	since := "spec.url changed"
	switch paused := p.reported.Wait.Reason == v1alpha1.WaitRetryAfter; {
	case paused && p.streak.failures > 0 && !p.streak.retryAfter:
		return p.streak.failing(Wait{}), true
	case paused:
		since = "the pause that the endpoint asked for"
	case !p.ofPredecessor || !p.mayBeOnRecord || p.reported.Status != "" || p.streak.failures > 0:
		return Health{}, false
	}
	return Health{Status: metav1.ConditionUnknown, Reason: v1alpha1.UnprovenReason, Message: "No attempt succeeded since " + since + "."}, true
}
