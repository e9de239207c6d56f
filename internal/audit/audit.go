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

// Package audit names the actions for which a person is responsible. Each action is one log line at the default
// level, with the key "audit". The API server's audit log has the user of the change to the same object.
package audit

// Key is the key of the action in a log line.
const Key = "audit"

// Actions: values of Key.
const (
	// KeyMadeAction marks a new signing key: the first one, one by rotation, or the replacement of a lost one.
	KeyMadeAction = "KeyMade"
	// KeyAdoptedAction marks a signing key that stays in use in a Secret without an owner, as after a restore.
	KeyAdoptedAction = "KeyAdopted"
	// KeyReplacedAction marks a Postback that signs with none of its previous keys.
	KeyReplacedAction = "KeyReplaced"
	// KeyEndedAction marks previous keys whose overlap has ended.
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
	// RedeliverySinceAction marks a request to redeliver all deliveries since a time, accepted or refused.
	RedeliverySinceAction = "RedeliverySince"
	// DeliveryRestoredAction marks a PostbackDelivery that a user restored from the delivery log, to redeliver it.
	DeliveryRestoredAction = "DeliveryRestored"
	// DeliveriesDroppedAction marks waiting deliveries that a user dropped.
	DeliveriesDroppedAction = "DeliveriesDropped"
	// RedeliveredAction marks an attempt that a user requested.
	RedeliveredAction = "Redelivered"
)
