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

package accept

import (
	"context"
	"fmt"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
)

// EventResult is the outcome of an event, for each matching Postback. Its JSON is part of the ingest API.
type EventResult struct {
	ID         string           `json:"id"`
	Event      string           `json:"event"`
	Deliveries []DeliveryResult `json:"deliveries"`
}

// DeliveryResult is the outcome of an event for one Postback.
type DeliveryResult struct {
	Postback string        `json:"postback"`
	Delivery string        `json:"delivery,omitempty"`
	Result   intake.Result `json:"result"`
	Reason   intake.Reason `json:"reason,omitempty"`
	// Message is that of intake.Outcome.
	Message string `json:"message,omitempty"`

	// Err is the cause of Unstored. It never leaves the dispatcher.
	Err error `json:"-"`
	// Delay is how long the door delays its answer, at the request of the intake.
	Delay time.Duration `json:"-"`
}

// results are all values of DeliveryResult.Result.
var results = []intake.Result{intake.Stored, intake.Duplicate, intake.Skipped, intake.Refused, intake.Conflict, intake.Unstored}

// These reasons come from accept itself, the others from the intake.
const (
	Disabled     intake.Reason = "Disabled"
	FilteredOut  intake.Reason = "FilteredOut"
	FilterFailed intake.Reason = "FilterFailed"
	BacklogFull  intake.Reason = "BacklogFull"
)

// reasons are all values of DeliveryResult.Reason.
var reasons = []intake.Reason{
	Disabled, FilteredOut, FilterFailed, intake.NamespaceTerminating, intake.NamespaceNotFound,
	BacklogFull, intake.QuotaExceeded, intake.TooLarge, intake.StreamFull,
	intake.PolicyDenied, intake.Forbidden, intake.Invalid,
}

// Results are the outcomes of the events of one request, in the order of the events.
type Results []EventResult

// Tally counts the deliveries of a request by result.
type Tally map[intake.Result]int

// Tally counts the deliveries by result.
func (r Results) Tally() Tally {
	counts := Tally{}
	for i := range r {
		for j := range r[i].Deliveries {
			counts[r[i].Deliveries[j].Result]++
		}
	}
	return counts
}

// RefusedOnly reports whether every refusal has a reason that kind selects.
func (r Results) RefusedOnly(kind func(intake.Reason) bool) bool {
	for i := range r {
		for _, d := range r[i].Deliveries {
			if d.Result == intake.Refused && !kind(d.Reason) {
				return false
			}
		}
	}
	return true
}

// Unstored returns the number of Unstored deliveries and the error of the first.
func (r Results) Unstored() (count int, first error) {
	for i := range r {
		for j := range r[i].Deliveries {
			d := &r[i].Deliveries[j]
			if d.Result != intake.Unstored {
				continue
			}
			count++
			if first == nil {
				first = fmt.Errorf("store delivery for Postback %s: %w", d.Postback, d.Err)
			}
		}
	}
	return count, first
}

// Wait waits for the longest Delay of the results, at most until ctx ends.
func (r Results) Wait(ctx context.Context) {
	var longest time.Duration
	for i := range r {
		for _, d := range r[i].Deliveries {
			longest = max(longest, d.Delay)
		}
	}
	if longest <= 0 {
		return
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
