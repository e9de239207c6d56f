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

package ingest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
)

// eventResult says what became of an event.
type eventResult struct {
	ID         string           `json:"id"`
	Event      string           `json:"event"`
	Deliveries []deliveryResult `json:"deliveries"`
}

// deliveryResult says what became of an event for one Postback.
type deliveryResult struct {
	Postback string `json:"postback"`
	Delivery string `json:"delivery,omitempty"`
	Result   result `json:"result"`
	Reason   reason `json:"reason,omitempty"`

	// err is why the delivery is Unstored, and hold for how long the answer has to wait. They stay here.
	err  error
	hold time.Duration
}

type (
	result = intake.Result
	reason = intake.Reason
)

const (
	resultStored    = intake.Stored
	resultDuplicate = intake.Duplicate
	resultSkipped   = intake.Skipped
	resultRefused   = intake.Refused
	resultConflict  = intake.Conflict
	resultUnstored  = intake.Unstored
)

// results are all of them.
var results = []result{resultStored, resultDuplicate, resultSkipped, resultRefused, resultConflict, resultUnstored}

const (
	reasonDisabled             reason = "Disabled"
	reasonFilteredOut          reason = "FilteredOut"
	reasonFilterFailed         reason = "FilterFailed"
	reasonBacklogFull          reason = "BacklogFull"
	reasonNamespaceTerminating        = intake.NamespaceTerminating
	reasonNamespaceNotFound           = intake.NamespaceNotFound
	reasonQuotaExceeded               = intake.QuotaExceeded
	reasonTooLarge                    = intake.TooLarge
	reasonStreamFull                  = intake.StreamFull
)

// reasons are all of them.
var reasons = []reason{
	reasonDisabled, reasonFilteredOut, reasonFilterFailed, reasonNamespaceTerminating, reasonNamespaceNotFound,
	reasonBacklogFull, reasonQuotaExceeded, reasonTooLarge, reasonStreamFull,
}

// tally counts the deliveries of a request by result.
type tally map[result]int

func tallyOf(events []eventResult) tally {
	counts := tally{}
	for i := range events {
		for j := range events[i].Deliveries {
			counts[events[i].Deliveries[j].Result]++
		}
	}
	return counts
}

const (
	retryUnstored = 5 * time.Second
	retryNoRoom   = 30 * time.Second
)

// accepted is the body of a 202 answer.
type accepted struct {
	Events []eventResult `json:"events"`
}

// answerTo returns the answer to a request whose events had these results. The worst result decides.
func answerTo(events []eventResult) *answer {
	counts := tallyOf(events)
	var a *answer
	switch {
	case counts[resultUnstored] > 0:
		a = refuse(notStored, "Not everything could be stored. Send the same events again, with the ids that events lists: what is stored already makes no second delivery.")
		a.retryAfter = retryUnstored
	case counts[resultConflict] > 0:
		a = refuse(idConflict, "Another event was stored before under the same id. Nothing of it was replaced; give the new event an id of its own. The other events are done as events says.")
	case counts[resultRefused] == 0 || counts[resultStored]+counts[resultDuplicate] > 0:
		return &answer{status: http.StatusAccepted, body: accepted{Events: events}}
	case refusedOnlyFor(reasonTooLarge, events):
		a = refuse(eventTooLarge, "The event is too large for the Kubernetes API once it is escaped: make its data smaller.")
	default:
		a = refuse(noRoom, "No matching Postback takes more deliveries: see the reasons in events (spec.limits.maxPending, or a ResourceQuota). Nothing was stored: send the same events again later.")
		a.retryAfter = retryNoRoom
	}
	a.problem.Events = events
	return a
}

func refusedOnlyFor(why reason, events []eventResult) bool {
	for i := range events {
		for _, d := range events[i].Deliveries {
			if d.Result == resultRefused && d.Reason != why {
				return false
			}
		}
	}
	return true
}

// unstored returns the first error of the events that are Unstored, and how many deliveries are.
func unstored(events []eventResult) (count int, first error) {
	for i := range events {
		for j := range events[i].Deliveries {
			d := &events[i].Deliveries[j]
			if d.Result != resultUnstored {
				continue
			}
			count++
			if first == nil {
				first = fmt.Errorf("store delivery for Postback %s: %w", d.Postback, d.err)
			}
		}
	}
	return count, first
}
