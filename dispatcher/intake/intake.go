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

// Package intake stores accepted deliveries until their first attempt. It defines the results of a store, and the
// default intake, which creates PostbackDeliveries. Package jetstream has the other intake.
package intake

import (
	"errors"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/format"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Delivery is a delivery to store.
type Delivery struct {
	// Object is the PostbackDelivery to create.
	Object *v1alpha1.PostbackDelivery
	// Event is the source of Object. Route is the route of its Postback.
	Event *event.Posted
	Route *route.Route
}

// Outcome says how the store of a delivery ended.
type Outcome struct {
	Result Result
	Reason Reason
	// Message is the message of the policy, quota or API server that refused the delivery, or the reason why the
	// waiting stream has no room for it, or "".
	Message string
	// Err is the cause of Unstored.
	Err error
	// Delay is how long the door delays its answer, so that a producer does not outpace the deliveries.
	Delay time.Duration
}

// Result is the result of a store. Its values are part of the ingest API.
type Result string

const (
	// Stored means that the delivery is stored and will be attempted.
	Stored Result = "Stored"
	// Duplicate means that the same event was stored before.
	Duplicate Result = "Duplicate"
	// Skipped means that the Postback is disabled or its filter does not select the event.
	Skipped Result = "Skipped"
	// Refused means that a bound is reached, or that the API server denies the delivery for a lasting reason.
	Refused Result = "Refused"
	// Conflict means that another event was stored under the same id.
	Conflict Result = "Conflict"
	// Unstored means that the store failed, or that its success is unknown.
	Unstored Result = "Unstored"
)

// Reason details Skipped, Refused and Unstored.
type Reason string

// These reasons come from an intake.
const (
	NamespaceTerminating Reason = "NamespaceTerminating"
	NamespaceNotFound    Reason = "NamespaceNotFound"
	QuotaExceeded        Reason = "QuotaExceeded"
	TooLarge             Reason = "TooLarge"
	PolicyDenied         Reason = "PolicyDenied"
	Forbidden            Reason = "Forbidden"
	Invalid              Reason = "Invalid"
	// StreamFull means that a stream or the storage of NATS is full, or that the Postback holds more than its share of
	// the waiting stream.
	StreamFull Reason = "StreamFull"
)

// ErrNoRoomToWait is the cause of Unstored if the waiting stream has no room for the Postback of the delivery. It lasts
// until the backlog of that Postback or of others shrinks, which may take hours, while other Postbacks have room.
var ErrNoRoomToWait = errors.New("the waiting stream has no room for deliveries of the Postback")

// Compare reports whether the existing delivery of the same name has the same event: Duplicate or Conflict. It
// compares in the format of the existing delivery, which may differ from the Postback's present format.
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
