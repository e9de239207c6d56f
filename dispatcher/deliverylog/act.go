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

package deliverylog

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"
)

// Verb is the kind of an act.
type Verb string

// These are the verbs.
const (
	// Drop removes one delivery, DropAll those of a Postback.
	Drop    Verb = "drop"
	DropAll Verb = "drop-all"
	// Restore makes one delivery a PostbackDelivery, so that its redelivery can be requested.
	Restore Verb = "restore"
)

// Act is a request of a user for waiting deliveries. The elected replica carries it out.
type Act struct {
	Verb Verb `json:"verb"`
	// Namespace is that of the deliveries. Postback and UID identify their Postback, for DropAll.
	Namespace string    `json:"namespace"`
	Postback  string    `json:"postback,omitempty"`
	UID       types.UID `json:"uid,omitempty"`
	// Name is the name of the delivery, Sequence its sequence in the stream. List returns both.
	Name     string `json:"name,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	// User is the name of the user.
	User string `json:"user"`
}

// Done is the result of an act.
type Done struct {
	// Deliveries is the number of dropped or restored ones. InFlight is the number of those in flight, which
	// DropAll does not stop.
	Deliveries int `json:"deliveries"`
	InFlight   int `json:"inFlight,omitempty"`
}

// These are the errors of acts. After ErrNoOwner and ErrUnknown, the act may have been carried out; after the
// others it was not.
var (
	// ErrNotWaiting means that no such delivery waits in the namespace.
	ErrNotWaiting = errors.New("no such delivery waits")
	// ErrInFlight means that an attempt of the delivery is in flight, or may be.
	ErrInFlight = errors.New("the delivery is under attempt")
	// ErrNoOwner means that no replica answered for the waiting stream.
	ErrNoOwner = errors.New("no elected replica answers")
	// ErrUnknown means that the elected replica got no answer from NATS or the API server. A repeat is safe.
	ErrUnknown = errors.New("it is not known whether it was done")
	// ErrRefused means that the API server refuses the PostbackDelivery for a reason that lasts.
	ErrRefused = errors.New("the API server refuses the PostbackDelivery")
)
