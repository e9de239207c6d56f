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

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PostbackStatus is the observed state of a Postback.
type PostbackStatus struct {
	// conditions are Ready, Reconciling, Stalled, EndpointHealthy, TestEvent and Redelivery.
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

	// secretName is the name of the core Secret that holds the signing key, under the data key "secret".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`

	// endpointHost is the host, and port if one is given, of the routed URL.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	EndpointHost string `json:"endpointHost,omitempty"`

	// lastHandledRotateSecret is the newest value of the annotation postback.dev/rotate-secret that was passed on to
	// the PostbackSecret.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRotateSecret string `json:"lastHandledRotateSecret,omitempty"`

	// lastHandledSendTest is the newest handled value of the annotation postback.dev/send-test.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledSendTest string `json:"lastHandledSendTest,omitempty"`

	// redelivery is the newest request of the annotation postback.dev/redeliver-since.
	//
	// +optional
	Redelivery *Redelivery `json:"redelivery,omitempty"`

	// waiting is the reason why deliveries wait for the endpoint, and the end of the wait. It is absent while the endpoint
	// does not delay them. The dispatcher replica that owns the retries sets it.
	//
	// +optional
	Waiting *EndpointWait `json:"waiting,omitempty"`

	// backlog is the part of the unfinished deliveries that waits in a stream of the JetStream intake, and has no
	// PostbackDelivery. It is absent without such deliveries. The dispatcher replica that owns the retries sets it, at most
	// every 30 seconds.
	//
	// +optional
	Backlog *Backlog `json:"backlog,omitempty"`
}

// Backlog is the part of the unfinished deliveries of a Postback that waits in a stream.
type Backlog struct {
	// deliveries is the number of deliveries that wait.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	Deliveries int64 `json:"deliveries,omitempty"`

	// oldestTime is the time at which the oldest of these deliveries was accepted.
	//
	// +required
	OldestTime *metav1.Time `json:"oldestTime,omitempty"`

	// nextAttemptTime is the earliest scheduled attempt of these deliveries. A time in the past means that an attempt is
	// due; if the endpoint delays it, waiting says until when. It is absent if no attempt is planned: see reason.
	//
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`

	// reason is the reason why no attempt is planned.
	//
	// +optional
	Reason BacklogReason `json:"reason,omitempty"`

	// sharePercent is the estimated part of the stream that these deliveries take, in percent of its bound in bytes. It
	// is absent below half a percent.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SharePercent *int32 `json:"sharePercent,omitempty"`
}

// BacklogReason is the reason why no attempt of a backlog is planned.
//
// +kubebuilder:validation:Enum=Paused;Disabled;Gone
type BacklogReason string

const (
	// BacklogPaused and BacklogDisabled are states of the Postback.
	BacklogPaused   BacklogReason = "Paused"
	BacklogDisabled BacklogReason = "Disabled"
	// BacklogGone says that the endpoint answered 410.
	BacklogGone BacklogReason = "Gone"
)

// GetBacklog returns the number of deliveries that wait in a stream.
func (s *PostbackStatus) GetBacklog() int64 {
	if s.Backlog == nil {
		return 0
	}
	return s.Backlog.Deliveries
}

// EndpointWait is the reason why deliveries wait for their endpoint, and the end of the wait.
type EndpointWait struct {
	// reason is CircuitOpen, RetryAfter or Gone.
	//
	// +required
	Reason EndpointWaitReason `json:"reason,omitempty"`

	// until is the earliest time of the next attempt: that of the next probe, or the end of the pause that the endpoint
	// asked for. It is absent if a probe may begin at once, or if the endpoint answered 410.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// Redelivery is the progress of a request to redeliver many deliveries.
type Redelivery struct {
	// request is the value of the annotation.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Request string `json:"request,omitempty"`

	// since selects the deliveries to send again: those that were made at this time or later.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// requested is the number of redeliveries requested so far.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Requested int32 `json:"requested,omitempty"`

	// completionTime is the time at which the last redelivery was requested.
	//
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
}

// Condition types of Postback. Ready, Reconciling and Stalled follow kstatus.
const (
	// ReadyCondition is True when an event posted now would be routed: every live dispatcher replica has loaded this
	// generation.
	ReadyCondition = "Ready"
	// ReconcilingCondition is True while the controller works, or waits for something that it expects.
	ReconcilingCondition = "Reconciling"
	// StalledCondition is True when nothing more happens until a user changes the object or one that it refers to.
	StalledCondition = "Stalled"
	// TestEventCondition reports the result of the newest value of the send-test annotation.
	TestEventCondition = "TestEvent"
	// EndpointHealthyCondition is False while deliveries to the endpoint are delayed or fail one after the other. It
	// is absent until the first failure. The dispatcher replica that owns the retries sets it.
	EndpointHealthyCondition = "EndpointHealthy"
	// RedeliveryCondition reports the progress of the newest value of the redeliver-since annotation.
	RedeliveryCondition = "Redelivery"
)

// Reasons of a Postback's conditions.
const (
	RoutedReason               = "Routed"
	ProgressingReason          = "Progressing"
	WaitingForDispatcherReason = "WaitingForDispatcher"
	NoDispatcherReason         = "NoDispatcher"
	SecretNotFoundReason       = "SecretNotFound"
	SecretNotReadyReason       = "SecretNotReady"
	// The reasons from PolicyDenied to TooLarge quote why the API server refuses a write of the operator.
	PolicyDeniedReason           = "PolicyDenied"
	QuotaExceededReason          = "QuotaExceeded"
	ForbiddenReason              = "Forbidden"
	InvalidReason                = "Invalid"
	TooLargeReason               = "TooLarge"
	SecretNameTakenReason        = "SecretNameTaken"
	HeaderSecretNotFoundReason   = "HeaderSecretNotFound"
	InvalidHeaderReason          = "InvalidHeader"
	InvalidURLReason             = "InvalidURL"
	PlainHTTPNotAllowedReason    = "PlainHTTPNotAllowed"
	TestEventStoredReason        = "Stored"
	TestEventNotSubscribedReason = "NotSubscribed"
	TestEventInvalidReason       = "InvalidEventType"
	TestEventInvalidDataReason   = "InvalidData"
	InvalidFilterReason          = "InvalidFilter"
	InvalidTLSReason             = "InvalidTLS"
	InvalidAuthReason            = "InvalidAuth"
	TLSSecretNotFoundReason      = "TLSSecretNotFound"
	AuthSecretNotFoundReason     = "AuthSecretNotFound"
)

// Reasons of the condition EndpointHealthy, and of the Kubernetes Events about its changes. While the condition is
// False, its reason is the cause: an Outcome, such as TLSFailed, or ThrottledReason.
const (
	// EndpointRespondingReason says that the endpoint accepts events.
	EndpointRespondingReason = "Responding"
	// ThrottledReason says that the endpoint answered 429, or asked for a pause by Retry-After.
	ThrottledReason = "Throttled"
	// UnprovenReason says that no attempt succeeded since the endpoint's pause ended, or since the endpoint changed. The
	// condition is Unknown.
	UnprovenReason = "Unproven"
)

// UnhealthyReasons are the reasons of the condition EndpointHealthy while it is False.
var UnhealthyReasons = func() []string {
	reasons := []string{ThrottledReason}
	for _, o := range Outcomes {
		if o != OutcomeSucceeded && o != OutcomeInterrupted {
			reasons = append(reasons, string(o))
		}
	}
	return reasons
}()

// EndpointWaitReason is the reason why the deliveries to an endpoint wait.
//
// +kubebuilder:validation:Enum=CircuitOpen;RetryAfter;Gone
type EndpointWaitReason string

const (
	// WaitCircuitOpen says that a series of attempts failed: the endpoint gets one probe at a time.
	WaitCircuitOpen EndpointWaitReason = "CircuitOpen"
	// WaitRetryAfter says that the endpoint asked for a pause.
	WaitRetryAfter EndpointWaitReason = "RetryAfter"
	// WaitGone says that the endpoint answered 410. Deliveries wait until spec changes, or until a user sends a test event or
	// redelivers a delivery.
	WaitGone EndpointWaitReason = "Gone"
)

// Reasons of the condition Redelivery.
const (
	// RedeliveryInProgressReason says that redeliveries are being requested.
	RedeliveryInProgressReason = "InProgress"
	// RedeliveryCompleteReason says that every redelivery has been requested.
	RedeliveryCompleteReason = "Complete"
	// RedeliveryInvalidReason says that the annotation's value was refused.
	RedeliveryInvalidReason = "Invalid"
)

// Reasons of Kubernetes Events about a Postback, beside those of its conditions.
const (
	TestEventReason        = "TestEventStored"
	TestEventRefusedReason = "TestEventRefused"
	// ClientCertificateInvalidReason warns that a client certificate is expired or not yet valid. The dispatcher
	// presents it nevertheless.
	ClientCertificateInvalidReason = "ClientCertificateInvalid"
	// RedeliveryRequestedReason and RedeliveryRefusedReason report the result of a redeliver-since annotation.
	RedeliveryRequestedReason = "RedeliveryRequested"
	RedeliveryRefusedReason   = "RedeliveryRefused"
)
