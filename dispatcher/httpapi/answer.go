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

package httpapi

import (
	"net/http"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
)

// accepted is the body of a 202 response.
type accepted struct {
	Events accept.Results `json:"events"`
}

// answerTo returns the answer to a request with these results. The worst result decides.
func answerTo(events accept.Results) *problem.Answer {
	counts := events.Tally()
	var a *problem.Answer
	switch {
	case counts[intake.Unstored] > 0:
		a = problem.Refuse(problem.NotStored, "Some deliveries were not stored. Send the same events again, with the ids in events: within the deduplication window, a stored event makes no second delivery.")
	case counts[intake.Conflict] > 0:
		a = problem.Refuse(problem.IDConflict, "Another event was stored before under the same id, and stays as it is. Give the new event an id of its own. The field events has the results of the other events.")
	case counts[intake.Refused] == 0 || counts[intake.Stored]+counts[intake.Duplicate] > 0:
		return &problem.Answer{Status: http.StatusAccepted, Body: accepted{Events: events}}
	case events.RefusedOnly(func(why intake.Reason) bool { return why == intake.TooLarge }):
		a = problem.Refuse(problem.EventTooLarge, "The escaped event is too large for the Kubernetes API: make its data smaller.")
	case events.RefusedOnly(intake.Reason.Lasting):
		a = problem.Refuse(problem.DeliveryRefused, "The Kubernetes API refuses the PostbackDelivery for each matching Postback: see reason and message in events. Nothing was stored. Have the policy, the rights or the event changed before you send it again.")
	default:
		a = problem.Refuse(problem.NoRoom, "No matching Postback accepts more deliveries: see the reasons in events (spec.limits.maxPending, or a ResourceQuota). Nothing was stored: send the same events again later.")
	}
	a.Problem.Events = events
	return a
}
