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
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// recordGrace is how long the replica that stored a delivery may take, after the first attempt, to record it.
	recordGrace = 5 * time.Second
	// clockSlack is the excess of a due time over the longest delay above which the clock is assumed to have jumped.
	clockSlack = 5 * time.Minute
	// longestWait bounds the time between two reconciles of a delivery. It limits the delay after a clock was set
	// forward, and finds that a delivery which waits for its route has been deleted.
	longestWait = 10 * time.Minute
)

// decision is the next step for a delivery. Without Attempt and After, the delivery waits for a change of itself or
// of its route.
type decision struct {
	Attempt bool
	Cause   attempt.Cause
	// Manual is true if a user requested the attempt.
	Manual bool
	// ForRoute is true if the delivery waits for a change of the route. It may be finished, with a requested
	// redelivery, and thus be missing from the index by which a new route wakes deliveries.
	ForRoute bool
	// After is the time until the next reconcile.
	After time.Duration
}

// sighting records when this replica first saw a delivery without a recorded attempt. It uses only this machine's
// clock, so clock skew does not matter.
type sighting struct {
	of types.UID
	at time.Time
	// timeout is the timeout of the Postback at that time. It bounds a first attempt that began then, even if the
	// timeout has been shortened since.
	timeout time.Duration
	// inherited is when this replica took the retries over from one that had not released them, or zero. The
	// predecessor may have made an attempt that was due before, without recording it.
	inherited time.Time
}

// decide returns the next step for a delivery. r is its route, or nil.
func decide(d *v1alpha1.PostbackDelivery, r *route.Route, seen sighting, now time.Time) decision {
	if !d.DeletionTimestamp.IsZero() {
		return decision{}
	}
	request := delivery.RequestOf(d)
	requested := !request.None()
	switch {
	case r == nil && requested:
		return decision{ForRoute: true, After: longestWait}
	case r == nil:
		return decision{}
	case requested && (request.Redeliver != "" || r.State == v1alpha1.PostbackEnabled):
		return decision{Attempt: true, Manual: request.Redeliver != "", Cause: attempt.Cause{Request: request}}
	case requested && d.Status.Phase.Finished():
		return decision{ForRoute: true, After: longestWait}
	}
	if d.Status.Phase.Finished() {
		return decision{}
	}
	if r.State != v1alpha1.PostbackEnabled && !d.Spec.Test {
		return decision{}
	}
	wait := dueIn(d, r, seen, now)
	if wait <= 0 {
		return decision{Attempt: true, Manual: d.Spec.Test && d.Status.AttemptCount == 0, Cause: attempt.Cause{TakenOver: takenOver(d, seen)}}
	}
	return decision{After: min(wait, longestWait)}
}

// takenOver reports whether another replica may have made the due attempt without recording it.
func takenOver(d *v1alpha1.PostbackDelivery, seen sighting) bool {
	if !atOnce(d) {
		return true
	}
	return delivery.DueTime(d).Before(seen.inherited)
}

// atOnce reports whether no other replica makes the next attempt: it is not the first, or the first was left to the
// elected replica.
func atOnce(d *v1alpha1.PostbackDelivery) bool {
	return d.Status.AttemptCount > 0 || d.Spec.Test || d.Annotations[v1alpha1.DeferredAnnotation] != ""
}

// dueIn returns the time until a delivery is due. It may be negative.
func dueIn(d *v1alpha1.PostbackDelivery, r *route.Route, seen sighting, now time.Time) time.Duration {
	if next := d.Status.NextAttemptTime; next != nil {
		wait := next.Sub(now)
		if wait > delivery.MaxDelay+clockSlack {
			return 0
		}
		return wait
	}
	if atOnce(d) {
		return 0
	}
	// Wait for the replica that stored the delivery to record its first attempt. After that time, take over.
	return seen.at.Add(attempt.FirstAttemptWindow + max(r.Timeout.Duration, seen.timeout) + recordGrace).Sub(now)
}
