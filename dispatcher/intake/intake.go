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

// Package intake stores accepted deliveries until their first attempt. It defines the results of storing, and the default intake,
// which creates PostbackDeliveries. Package jetstream has the other intake.
package intake

import (
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/format"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Delivery is a delivery to store.
type Delivery struct {
	// Object is not at the API server yet.
	Object *v1alpha1.PostbackDelivery
	// Object was made from Event. Route is the route of its Postback.
	Event *event.Posted
	Route *route.Route
}

// Outcome is the outcome of storing a delivery.
type Outcome struct {
	Result Result
	Reason Reason
	// Message quotes the refusal of the delivery, such as that of a policy, or is "".
	Message string
	// Err is why the delivery is Unstored.
	Err error
	// Delay is how long the answer waits, so that a producer does not run ahead of delivery.
	Delay time.Duration
}

// Result is the result of storing a delivery, in the words of the response of ingest.
type Result string

const (
	// Stored: the delivery is stored and will be attempted.
	Stored Result = "Stored"
	// Duplicate: the same event was stored before.
	Duplicate Result = "Duplicate"
	// Skipped: the Postback does not take events, or not this one.
	Skipped Result = "Skipped"
	// Refused: there is no room, or the API server denies it for a reason that lasts.
	Refused Result = "Refused"
	// Conflict: another event was stored before under the same id.
	Conflict Result = "Conflict"
	// Unstored: it was not stored, or nobody said so in time.
	Unstored Result = "Unstored"
)

// Reason says more about Skipped, Refused and Unstored.
type Reason string

// Reasons that an intake finds out.
const (
	NamespaceTerminating Reason = "NamespaceTerminating"
	NamespaceNotFound    Reason = "NamespaceNotFound"
	QuotaExceeded        Reason = "QuotaExceeded"
	TooLarge             Reason = "TooLarge"
	PolicyDenied         Reason = "PolicyDenied"
	Forbidden            Reason = "Forbidden"
	Invalid              Reason = "Invalid"
	// StreamFull says that the deliveries stream, or the storage of NATS, has no room.
	StreamFull Reason = "StreamFull"
)

// Compare reports whether the existing delivery under an event's id is of that event. It compares in the format of the
// existing one, whatever the Postback's present format.
func (d *Delivery) Compare(existing *v1alpha1.PostbackDelivery) Outcome {
	stored := &existing.Spec
	body, err := format.Body(stored.Format, existing.Namespace, d.Event.StoredAt(stored.Event.CreatedAt.Time))
	if err != nil {
		return Outcome{Result: Unstored, Err: err}
	}
	if stored.PostbackRef == d.Object.Spec.PostbackRef && stored.Event.ID == d.Event.ID && stored.Event.Type == d.Event.Type && stored.Body == string(body) {
		return Outcome{Result: Duplicate}
	}
	return Outcome{Result: Conflict}
}
