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

// OutcomeOf classifies an error of the API server. A temporary or unknown error gives Unstored, so the producer sends the event
// again. A missing right also gives Unstored: MissingRights makes it a refusal if it lasts.
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

// Lasting reports whether a repeat of the call does not help until a person changes something.
func (r Reason) Lasting() bool {
	return r == PolicyDenied || r == Forbidden || r == Invalid || r == TooLarge
}

// Announce emits a Kubernetes Event on a Postback whose delivery the API server refuses. Only the producer gets the answer, and other
// people have to change the policy, the quota or the right. The size of an event is the producer's own affair.
func (o *Outcome) Announce(recorder events.EventRecorder, r *route.Route) {
	if recorder == nil || r == nil || o.Result != Refused || o.Reason == TooLarge {
		return
	}
	recorder.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.DeliveryRefusedReason, "Store",
		"The API server refuses a PostbackDelivery (%s): %s", o.Reason, o.Message)
}

// startTime is how long an API server that has just started may answer that rights are missing: it has not read the roles.
const startTime = time.Minute

// absenceKept is the time for which a right counts as missing after the last request that was refused for it.
const absenceKept = 10 * time.Minute

// MissingRights records the time since which the right to create deliveries has been missing, for each namespace. It is safe for
// concurrent use.
type MissingRights struct {
	Clock clock.PassiveClock

	mu      sync.Mutex
	missing map[string]absence
}

// absence has the first and the last time at which a right was missing.
type absence struct{ first, last time.Time }

// judge makes a refusal of a right that is missing for longer than an API server takes to start.
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
		a.first = now // An earlier absence may have ended without a request that showed it.
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
