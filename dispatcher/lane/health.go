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

// Health is the health of an endpoint, as in the condition EndpointHealthy, and the reason for which deliveries wait for it.
type Health struct {
	Status  metav1.ConditionStatus
	Reason  string
	Message string
	// Since is when Status changed.
	Since time.Time
	Wait  Wait
	// News is set if Status or Reason changed since the last report.
	News bool
}

// Wait is the reason for which deliveries wait for an endpoint. With the zero value they do not wait.
type Wait struct {
	Reason v1alpha1.EndpointWaitReason
	// Until is the earliest time of the next attempt, or zero.
	Until time.Time
}

// Second returns Until rounded up to a second, the precision of the API.
func (w Wait) Second() time.Time {
	if w.Until.IsZero() {
		return w.Until
	}
	return w.Until.Add(time.Second - 1).UTC().Truncate(time.Second)
}

// Report is called with each change of an endpoint's health. It must not block, and must not call Lanes.
type Report func(r *route.Route, h Health)

const (
	// healthyAfter is the number of successes in a row that make it healthy again while other deliveries wait.
	healthyAfter = 3
	// causeAfter is the number of failures by one new cause that replace the cause in the reason.
	causeAfter = 3
	// leastPause is the shortest pause that is worth a report: many endpoints ask for a second now and then.
	leastPause = 30 * time.Second
)

// trouble reports whether an attempt shows that the endpoint cannot take events now. Only such attempts open the circuit: an
// endpoint that rejects some events must still get the others.
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

// streak is the newest run of attempts with one result.
type streak struct {
	successes, failures int
	// succeeded is when the newest attempt that succeeded ended.
	succeeded time.Time
	// cause is the reason of the failures. rival is another one that came rivals times without the cause in between.
	cause, rival string
	rivals       int
	// last describes the last failure. retryAfter is set if the endpoint sent Retry-After.
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
		s.cause = "" // Another outage.
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
	// A message that counts is renewed when the count has doubled.
	counted := h.Status == metav1.ConditionFalse && l.peer.streak.failures > l.peer.counted && l.peer.streak.failures >= 2*l.peer.counted
	if !h.News && h.Wait == before.Wait && !counted {
		return h, false
	}
	l.peer.counted = l.peer.streak.failures
	return h, true
}

// assess returns the health of an endpoint as far as it is known.
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

// down reports whether the circuit is open because attempts failed.
func (p *peer) down() bool { return !p.breaker.closed() && p.streak.failures > 0 }

// pause returns the health of an endpoint that asked for a pause, and whether its deliveries wait for the end of that.
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

// failing returns the health of an endpoint whose last attempts failed.
func (s *streak) failing(wait Wait) Health {
	return Health{Status: metav1.ConditionFalse, Reason: s.cause, Message: s.message(), Wait: wait}
}

// unproven returns the health after a pause has ended, or after the endpoint changed, and whether there is one to report.
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
