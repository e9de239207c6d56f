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

// Package audit names the actions with a responsible person. Each action is one line of the log, at the level that is
// always on, with the key audit. The audit log of the API server names the user, under the same object.
package audit

// Key is the key of the log under which a line has one of the actions.
const Key = "audit"

// The actions.
const (
	// KeyMadeAction says that a signing key was made: the first, by a rotation, or for one that was lost.
	KeyMadeAction = "KeyMade"
	// KeyAdoptedAction says that a signing key in a Secret without an owner, as after a restore, stays in use.
	KeyAdoptedAction = "KeyAdopted"
	// KeyReplacedAction says that a Postback signs with none of the keys from before.
	KeyReplacedAction = "KeyReplaced"
	// KeyEndedAction says that previous keys sign no longer.
	KeyEndedAction = "KeyEnded"
	// CertificateIssuedAction marks a new certificate of ingest, or a new CA that signs it.
	CertificateIssuedAction = "CertificateIssued"
	// RotationRequestedAction marks a Postback's request for rotation that was passed on to its PostbackSecret.
	RotationRequestedAction = "RotationRequested"
	// RotationRefusedAction marks a refused request for rotation: the operator does not own the key.
	RotationRefusedAction = "RotationRefused"
	// RoutePublishedAction marks a new or changed route of a Postback.
	RoutePublishedAction = "RoutePublished"
	// RouteRemovedAction marks the removal of a route, after which the Postback gets no events.
	RouteRemovedAction = "RouteRemoved"
	// StateChangedAction marks a Postback that was enabled, paused or disabled.
	StateChangedAction = "StateChanged"
	// TestEventAction marks a stored test event.
	TestEventAction = "TestEvent"
	// RedeliverySinceAction says that redelivery of all deliveries since a time was requested, or refused.
	RedeliverySinceAction = "RedeliverySince"
	// DeliveryRestoredAction: a delivery of the delivery log was made a PostbackDelivery again, because a user wants to
	// redeliver it.
	DeliveryRestoredAction = "DeliveryRestored"
	// RedeliveredAction marks an attempt that a user requested.
	RedeliveredAction = "Redelivered"
)
