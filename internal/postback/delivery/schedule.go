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

package delivery

import (
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// MaxDelay is the longest time between two attempts.
const MaxDelay = 24 * time.Hour

// delays are floor(e^(2.5 n)) seconds for n = 1, 2, … up to MaxDelay.
var delays = [...]time.Duration{
	12 * time.Second,
	2*time.Minute + 28*time.Second,
	30*time.Minute + 8*time.Second,
	6*time.Hour + 7*time.Minute + 6*time.Second,
}

// Delay returns the time from the end of a failed attempt to the next one: min(24h, floor(e^(2.5 n) s)) after attempt
// n, counted from 1.
func Delay(attempt int32) time.Duration {
	if attempt < 1 {
		attempt = 1
	}
	if int(attempt) > len(delays) {
		return MaxDelay
	}
	return delays[attempt-1]
}

// Levels is the number of different delays.
const Levels = len(delays) + 1

// Level returns which of the delays, counted from 1, follows a failed attempt.
func Level(attempt int32) int { return min(max(int(attempt), 1), Levels) }

// DueTime returns the time at which the next attempt of an unfinished delivery is due, in the past or the future.
func DueTime(d *v1alpha1.PostbackDelivery) time.Time {
	if next := d.Status.NextAttemptTime; next != nil {
		return next.Time
	}
	return d.CreationTimestamp.Time
}
