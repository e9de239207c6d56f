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

package retry

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

const (
	// recordGrace is how long the replica that stored a delivery has, after its first attempt, to record it.
	recordGrace = 5 * time.Second
	// routeWait is when to look again for the route of a delivery that is to be sent again.
	routeWait = 30 * time.Second
	// clockSlack is by how much a due time may lie beyond the longest delay before the clock is taken to have jumped.
	clockSlack = 5 * time.Minute
)

// decision says what to do with a delivery now. With neither Attempt nor After, nothing is to be done until the delivery
// or its route changes.
type decision struct {
	Attempt bool
	Cause   attempt.Cause
	// After is the time until the next look.
	After time.Duration
}

// sighting is when this replica first saw a delivery without an attempt on record. The time is its own, so that clocks of
// other machines do not matter.
type sighting struct {
	of types.UID
	at time.Time
	// timeout is that of the Postback then. It bounds a first attempt that began then, though it may be shortened since.
	timeout time.Duration
	// held says that the Postback was not Enabled then, so that no other replica makes the first attempt.
	held bool
}

// decide says what to do with a delivery now. r is its route, or nil.
func decide(d *v1alpha1.PostbackDelivery, r *route.Route, seen sighting, now time.Time) decision {
	if !d.DeletionTimestamp.IsZero() {
		return decision{}
	}
	token := redeliverToken(d)
	switch {
	case r == nil && token != "":
		// A finished delivery is not in the cache by which a new route wakes the others.
		return decision{After: routeWait}
	case r == nil:
		return decision{}
	case token != "":
		return decision{Attempt: true, Cause: attempt.Cause{Redeliver: token}}
	}
	if d.Status.Phase.Finished() {
		return decision{}
	}
	if r.State != v1alpha1.PostbackEnabled && !d.Spec.Test {
		return decision{}
	}
	wait := dueIn(d, r, seen, now)
	if wait <= 0 {
		takenOver := d.Status.AttemptCount == 0 && !d.Spec.Test && !seen.held
		return decision{Attempt: true, Cause: attempt.Cause{TakenOver: takenOver}}
	}
	return decision{After: wait}
}

// dueIn returns the time until a delivery is due; it may be negative.
func dueIn(d *v1alpha1.PostbackDelivery, r *route.Route, seen sighting, now time.Time) time.Duration {
	if next := d.Status.NextAttemptTime; next != nil {
		wait := next.Sub(now)
		if wait > delivery.MaxDelay+clockSlack {
			return 0
		}
		return wait
	}
	if d.Spec.Test || d.Status.AttemptCount > 0 || seen.held {
		return 0
	}
	// The replica that stored it makes the first attempt. If it is gone, this one takes over.
	return seen.at.Add(attempt.FirstAttemptWindow + max(r.Timeout.Duration, seen.timeout) + recordGrace).Sub(now)
}

// redeliverToken returns the token of a redelivery that was asked for and not made yet, or "".
func redeliverToken(d *v1alpha1.PostbackDelivery) string {
	value := d.Annotations[v1alpha1.RedeliverAnnotation]
	if value == "" {
		return ""
	}
	if token := v1alpha1.HandledToken(value); token != d.Status.LastHandledRedeliver {
		return token
	}
	return ""
}
