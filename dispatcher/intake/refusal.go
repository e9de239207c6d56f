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

package intake

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

// OutcomeOf classifies an error of the API server. A temporary or unknown error gives Unstored, so the producer posts
// the event again. A missing right also gives Unstored, until MissingRights has seen it last.
func OutcomeOf(err error) Outcome {
	kind, message := refusal.Of(err)
	switch kind {
	case refusal.None:
		return Outcome{Result: Unstored, Err: err}
	case refusal.Forbidden:
		return Outcome{Result: Unstored, Reason: Forbidden, Message: message, Err: err}
	case refusal.Terminating, refusal.NotFound:
		return Outcome{Result: Skipped, Reason: Reason(kind)}
	default:
		return Outcome{Result: Refused, Reason: Reason(kind), Message: message}
	}
}

// Lasting reports whether a repeat fails until somebody changes a policy, a quota, a right or the event.
func (r Reason) Lasting() bool {
	return r == PolicyDenied || r == Forbidden || r == Invalid || r == TooLarge
}

// Announce emits a Kubernetes Event on a Postback whose delivery the API server refuses. The answer reaches only the
// producer, but others have to change the policy, the quota or the right. TooLarge has no Event, because only the
// producer can change the size.
func (o *Outcome) Announce(recorder events.EventRecorder, r *route.Route) {
	if recorder == nil || r == nil || o.Result != Refused || o.Reason == TooLarge {
		return
	}
	recorder.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.DeliveryRefusedReason, "Store",
		"The API server refuses a PostbackDelivery (%s): %s", o.Reason, o.Message)
}

// startTime bounds how long an API server that has just started may deny every right, until it has read the roles.
const startTime = time.Minute

// absenceKept is how long a right counts as missing after the last denied request.
const absenceKept = 10 * time.Minute

// MissingRights records since when the right to create deliveries has been missing, for each namespace. It is safe
// for concurrent use.
type MissingRights struct {
	Clock clock.PassiveClock

	mu      sync.Mutex
	missing map[string]absence
}

// absence has the times of the first and the last denied request.
type absence struct{ first, last time.Time }

// judge turns Unstored into Refused if the right has been missing for longer than startTime.
func (r *MissingRights) judge(namespace string, o Outcome) Outcome {
	if r == nil {
		return o
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Result != Unstored {
		delete(r.missing, namespace)
		return o
	}
	if o.Reason != Forbidden {
		return o
	}
	now := r.Clock.Now()
	a, known := r.missing[namespace]
	if !known || now.Sub(a.last) > absenceKept {
		a.first = now // An earlier absence may have ended unnoticed, without a request.
	}
	a.last = now
	if r.missing == nil {
		r.missing = map[string]absence{}
	}
	r.missing[namespace] = a
	if now.Sub(a.first) > startTime {
		return Outcome{Result: Refused, Reason: Forbidden, Message: o.Message}
	}
	return o
}
