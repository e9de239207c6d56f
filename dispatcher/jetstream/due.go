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

package jetstream

import (
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

const (
	// shortestRest is the least time between two reads of a level, even if its messages fall due shortly after one
	// another.
	shortestRest = 100 * time.Millisecond
	// jumpSlack is a tolerance: a due time beyond the longest delay and jumpSlack means that the clock has jumped.
	jumpSlack = 5 * time.Minute
)

// dueSince returns the time at which a waiting delivery is due, in the past or the future.
func dueSince(d *v1alpha1.PostbackDelivery, stored time.Time) time.Time {
	if next := d.Status.NextAttemptTime; next != nil {
		return next.Time
	}
	return stored
}

// dueIn returns the time until a waiting delivery is due; 0 means that it is due.
func dueIn(d *v1alpha1.PostbackDelivery, now time.Time) time.Duration {
	if d == nil || d.Status.NextAttemptTime == nil {
		return 0
	}
	wait := d.Status.NextAttemptTime.Sub(now)
	if wait > delivery.MaxDelay+jumpSlack {
		return 0
	}
	return max(wait, 0)
}

// delayed reports whether Retry-After, not the schedule, sets the time of the next attempt.
func delayed(d *v1alpha1.PostbackDelivery) bool {
	newest := delivery.Newest(d)
	return newest != nil && newest.RetryAfterTime != nil && d.Status.NextAttemptTime != nil &&
		newest.RetryAfterTime.Equal(d.Status.NextAttemptTime)
}
