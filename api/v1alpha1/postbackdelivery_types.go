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

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MaxEventTypeLength and MaxEventIDLength bound the type and the id of an event, in bytes.
const (
	MaxEventTypeLength = 63
	MaxEventIDLength   = 128
)

// PostbackReference names a Postback of the same namespace.
type PostbackReference struct {
	// name of the Postback.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// uid of the Postback, to tell it from a later one of the same name.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid,omitempty"`
}

// EventReference identifies the event.
type EventReference struct {
	// id of the event, which is also the webhook-id that the endpoint sees.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_:/+=@~-]+$')",message="must consist of letters, digits and _ : / + = @ ~ - (Standard Webhooks forbids a full stop)"
	ID string `json:"id,omitempty"`

	// type of the event, such as lead.created.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$')",message="must be an event type such as lead.created"
	Type string `json:"type,omitempty"`

	// createdAt is the event's own time, to the millisecond.
	//
	// +required
	CreatedAt metav1.MicroTime `json:"createdAt,omitzero"`
}

// PostbackDeliverySpec is one event for one Postback. It never changes.
//
// The spec and the status are atomic: each has one writer, which writes it as a whole. So managedFields has one entry
// for each, not one for every field. The API server decodes and encodes managedFields several times in each write.
//
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: a delivery is the record of one event; annotate it with postback.dev/redeliver to send it again"
type PostbackDeliverySpec struct {
	// postbackRef names the Postback that the event is for.
	//
	// +required
	PostbackRef PostbackReference `json:"postbackRef,omitzero"`

	// event identifies the event.
	//
	// +required
	Event EventReference `json:"event,omitzero"`

	// body contains the exact bytes that are signed and sent. It is a string because the API server may write an embedded
	// object in another order or with other numbers.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1048576
	Body string `json:"body,omitempty"`

	// format of the body.
	//
	// +optional
	// +default="JSON"
	Format PayloadFormat `json:"format,omitempty"`

	// test is true for a test event, requested by annotation.
	//
	// +optional
	Test bool `json:"test,omitempty"`
}

// PostbackDelivery is one event on its way to one Postback's endpoint, and the record of its attempts. The operator makes
// it; it is deleted with its Postback.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pbd,categories=postback-all,path=postbackdeliveries
// +kubebuilder:selectablefield:JSONPath=".status.phase"
// +kubebuilder:selectablefield:JSONPath=".spec.postbackRef.name"
// +kubebuilder:selectablefield:JSONPath=".spec.event.type"
// +kubebuilder:selectablefield:JSONPath=".spec.event.id"
// +kubebuilder:printcolumn:name="Postback",type="string",JSONPath=".spec.postbackRef.name",description="Postback that the event is for"
// +kubebuilder:printcolumn:name="Event",type="string",JSONPath=".spec.event.type",description="Type of the event"
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=".status.phase",description="Pending, Retrying, Delivered or Failed"
// +kubebuilder:printcolumn:name="Attempts",type="integer",JSONPath=".status.attemptCount",description="Number of attempts"
// +kubebuilder:printcolumn:name="HTTP",type="integer",JSONPath=".status.attempts[-1].statusCode",description="HTTP status of the newest attempt"
// +kubebuilder:printcolumn:name="Outcome",type="string",JSONPath=".status.attempts[-1].outcome",description="How the newest attempt ended"
// +kubebuilder:printcolumn:name="Next",type="string",JSONPath=".status.nextAttemptTime",priority=1,description="When the next attempt is scheduled; the delivery can wait longer, for its endpoint or Postback"
// +kubebuilder:printcolumn:name="Event ID",type="string",JSONPath=".spec.event.id",priority=1,description="Id of the event"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type PostbackDelivery struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the event and the Postback that it is for.
	//
	// +required
	Spec PostbackDeliverySpec `json:"spec,omitzero"`

	// status is the record of the attempts.
	//
	// +optional
	// +default={"observedGeneration":-1,"phase":"Pending"}
	Status PostbackDeliveryStatus `json:"status,omitzero"`
}

// PostbackDeliveryList is a list of PostbackDeliveries.
//
// +kubebuilder:object:root=true
type PostbackDeliveryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PostbackDelivery `json:"items"`
}
