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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of PostbackSecret, beside Ready, Reconciling and Stalled.
const (
	// OverlapCondition is True, and present, only while a previous key keeps signing.
	OverlapCondition = "Overlap"
)

// Reasons of a PostbackSecret's conditions.
const (
	KeyAvailableReason      = "KeyAvailable"
	KeyNotFoundReason       = "KeyNotFound"
	InvalidKeyReason        = "InvalidKey"
	SecretNotOwnedReason    = "SecretNotOwned"
	SecretImmutableReason   = "SecretImmutable"
	SecretTerminatingReason = "SecretTerminating"
	PreviousKeySignsReason  = "PreviousKeySigns"
)

// Reasons of events about a PostbackSecret, beside those of its conditions.
const (
	KeyGeneratedReason    = "KeyGenerated"
	KeyRotatedReason      = "KeyRotated"
	KeyReplacedReason     = "KeyReplaced"
	KeyAdoptedReason      = "KeyAdopted"
	RotationRefusedReason = "RotationRefused"
)

// DefaultOverlap is how long a previous key keeps signing if the spec does not say.
const DefaultOverlap = 24 * time.Hour

// SecretSource is the source of the signing key.
//
// +kubebuilder:validation:Enum=Generated;External
type SecretSource string

const (
	// SecretGenerated is a key that the operator makes.
	SecretGenerated SecretSource = "Generated"
	// SecretExternal is a key that you or a tool put into the Secret.
	SecretExternal SecretSource = "External"
)

// Rotation is the rule by which a generated key is replaced.
//
// +kubebuilder:validation:XValidation:rule="!has(self.every) || !has(self.overlap) || !self.every.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || !self.overlap.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || duration(self.overlap) < duration(self.every)",fieldPath=".overlap",message="must be shorter than rotation.every: shorten overlap or lengthen every"
// +kubebuilder:validation:XValidation:rule="!has(self.every) || has(self.overlap) || !self.every.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || duration(self.every) > duration('24h')",fieldPath=".every",message="must be longer than the default overlap of 24h: lengthen every or set a shorter rotation.overlap"
type Rotation struct {
	// every is the age at which the key is replaced. Without it the key is replaced only on request.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('1h') && duration(self) <= duration('43800h')",message="must be a duration from 1h to 43800h (five years), such as 2160h"
	Every *metav1.Duration `json:"every,omitempty"`

	// overlap is how long a replaced key keeps signing beside the new one, so that receivers have time to change.
	// 0s ends every previous key at once, as for a key that has leaked. The default is 24h. A change applies to keys in their overlap, too.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('720h')",message="must be a duration from 0s to 720h (30 days), such as 24h"
	Overlap *metav1.Duration `json:"overlap,omitempty"`
}

// PostbackSecretSpec is the source and the rotation of the signing key.
//
// +kubebuilder:validation:XValidation:rule="!has(self.source) || self.source != 'External' || !has(self.rotation)",fieldPath=".rotation",message="must be absent with source External: whoever puts the key there rotates it"
// +kubebuilder:validation:XValidation:rule="has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)",fieldPath=".secretName",message="is immutable: make another PostbackSecret instead"
type PostbackSecretSpec struct {
	// source is Generated (the operator makes the key) or External (you or a tool, such as External Secrets or Vault,
	// put it into the Secret).
	//
	// +optional
	// +default="Generated"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: make another PostbackSecret instead"
	Source SecretSource `json:"source,omitempty"`

	// secretName is the name of the core Secret with the key. The default is the object's own name.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a Secret: lower-case letters, digits, - and ."
	SecretName string `json:"secretName,omitempty"`

	// rotation is the rule by which a generated key is replaced.
	//
	// +optional
	Rotation *Rotation `json:"rotation,omitempty"`
}

// GetSource returns the source of the key, Generated if it is absent.
func (s *PostbackSecretSpec) GetSource() SecretSource {
	if s.Source == "" {
		return SecretGenerated
	}
	return s.Source
}

// GetEvery returns the age at which the key is replaced; 0 means only on request.
func (s *PostbackSecretSpec) GetEvery() time.Duration {
	if s.Rotation == nil || s.Rotation.Every == nil {
		return 0
	}
	return s.Rotation.Every.Duration
}

// GetOverlap returns how long a replaced key keeps signing.
func (s *PostbackSecretSpec) GetOverlap() time.Duration {
	if s.Rotation == nil || s.Rotation.Overlap == nil {
		return DefaultOverlap
	}
	return s.Rotation.Overlap.Duration
}

// PostbackSecretStatus is the observed state of a PostbackSecret. It never contains key material.
type PostbackSecretStatus struct {
	// conditions are Ready, Reconciling, Stalled, and Overlap while a previous key keeps signing.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// observedGeneration is the generation that the conditions describe. It starts at -1, so that a new object does
	// not count as healthy.
	//
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// version counts the generated keys. It is the number of the current key.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Version int64 `json:"version,omitempty"`

	// previousVersion is the number of the newest previous key that keeps signing.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	PreviousVersion int64 `json:"previousVersion,omitempty"`

	// previousExpiryTime is the time at which that key stops signing.
	//
	// +optional
	PreviousExpiryTime *metav1.Time `json:"previousExpiryTime,omitempty"`

	// lastRotationTime is the time at which the current key was made.
	//
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`

	// nextRotationTime is the time at which the current key will be replaced, by spec.rotation.every.
	//
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`

	// lastHandledRotateSecret is the newest handled value of the annotation postback.dev/rotate-secret.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRotateSecret string `json:"lastHandledRotateSecret,omitempty"`

	// lastHandledRotateSecretFromPostback is the newest handled value of the annotation
	// postback.dev/rotate-secret-from-postback, by which a Postback passes a request on.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRotateSecretFromPostback string `json:"lastHandledRotateSecretFromPostback,omitempty"`
}

// PostbackSecret is a signing key that one or more Postbacks of its namespace use.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pbs,categories=postback-all
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status",description="Whether a key is there to sign with"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason",description="Why it is ready or not"
// +kubebuilder:printcolumn:name="Source",type="string",JSONPath=".spec.source",description="Generated or External"
// +kubebuilder:printcolumn:name="Version",type="integer",JSONPath=".status.version",description="Number of the current key"
// +kubebuilder:printcolumn:name="Rotated",type="date",JSONPath=".status.lastRotationTime",description="Time since the current key was made"
// +kubebuilder:printcolumn:name="Next Rotation",type="string",JSONPath=".status.nextRotationTime",description="When the key will be replaced"
// +kubebuilder:printcolumn:name="Overlap Until",type="string",JSONPath=".status.previousExpiryTime",description="When the previous key stops signing"
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message",priority=1,description="More about Ready"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
type PostbackSecret struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state.
	//
	// +optional
	// +default={"source":"Generated"}
	Spec PostbackSecretSpec `json:"spec,omitzero"`

	// status is the observed state.
	//
	// +optional
	// +default={"observedGeneration":-1}
	Status PostbackSecretStatus `json:"status,omitzero"`
}

// GetSecretName returns the name of the core Secret that holds the key.
func (s *PostbackSecret) GetSecretName() string {
	if s.Spec.SecretName == "" {
		return s.Name
	}
	return s.Spec.SecretName
}

// PostbackSecretList is a list of PostbackSecrets.
//
// +kubebuilder:object:root=true
type PostbackSecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PostbackSecret `json:"items"`
}
