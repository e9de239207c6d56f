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

const (
	// MaxRecordedAttempts is the number of attempts that a status keeps, the newest ones.
	MaxRecordedAttempts = 20
	// MaxResponseBody is the number of bytes of a response body that a status keeps.
	MaxResponseBody = 1024
	// MaxMessage is the number of bytes of a message that a status keeps.
	MaxMessage = 1024
)

// DeliveryPhase is the state of a delivery. It repeats the conditions, because a field selector needs a scalar.
//
// +kubebuilder:validation:Enum=Pending;Retrying;Delivered;Failed
type DeliveryPhase string

const (
	// DeliveryPending has no recorded attempt.
	DeliveryPending DeliveryPhase = "Pending"
	// DeliveryRetrying has failed at least once and will be retried.
	DeliveryRetrying DeliveryPhase = "Retrying"
	// DeliveryDelivered was accepted by the endpoint.
	DeliveryDelivered DeliveryPhase = "Delivered"
	// DeliveryFailed will not be retried, unless a user requests a redelivery.
	DeliveryFailed DeliveryPhase = "Failed"
)

// Finished reports whether the operator makes no further attempt unless a redelivery is requested.
func (p DeliveryPhase) Finished() bool {
	return p == DeliveryDelivered || p == DeliveryFailed
}

// Outcome is the result of an attempt. The set is closed: status, metrics and logs use the same words.
//
// +kubebuilder:validation:Enum=Succeeded;Redirected;Rejected4xx;Gone;Failed5xx;UnexpectedStatus;Timeout;ConnectionRefused;ConnectionReset;ConnectionFailed;NameNotResolved;AddressBlocked;TLSFailed;ProxyFailed;AuthenticationFailed;InvalidResponse;InvalidRequest;Interrupted
type Outcome string

const (
	// OutcomeSucceeded is a 2xx response.
	OutcomeSucceeded Outcome = "Succeeded"
	// OutcomeRedirected is a 3xx response; redirects are not followed.
	OutcomeRedirected Outcome = "Redirected"
	// OutcomeRejected4xx is a 4xx response other than 410.
	OutcomeRejected4xx Outcome = "Rejected4xx"
	// OutcomeGone is the response 410: the endpoint wants no more events.
	OutcomeGone Outcome = "Gone"
	// OutcomeFailed5xx is a 5xx response.
	OutcomeFailed5xx Outcome = "Failed5xx"
	// OutcomeUnexpectedStatus is a response with any other status.
	OutcomeUnexpectedStatus Outcome = "UnexpectedStatus"
	// OutcomeTimeout is no response within spec.timeout.
	OutcomeTimeout Outcome = "Timeout"
	// OutcomeConnectionRefused is an endpoint that does not listen on its port.
	OutcomeConnectionRefused Outcome = "ConnectionRefused"
	// OutcomeConnectionReset is a connection that the other side closed before its response was complete.
	OutcomeConnectionReset Outcome = "ConnectionReset"
	// OutcomeConnectionFailed is any other failure to reach the endpoint, such as no route to its host.
	OutcomeConnectionFailed Outcome = "ConnectionFailed"
	// OutcomeNameNotResolved is a host name without an address.
	OutcomeNameNotResolved Outcome = "NameNotResolved"
	// OutcomeAddressBlocked is an address or port that the dispatcher may not reach: all addresses of the host, or its port.
	OutcomeAddressBlocked Outcome = "AddressBlocked"
	// OutcomeTLSFailed is a failed TLS handshake or a certificate that is not trusted.
	OutcomeTLSFailed Outcome = "TLSFailed"
	// OutcomeProxyFailed is a fault of the egress proxy, not of the endpoint.
	OutcomeProxyFailed Outcome = "ProxyFailed"
	// OutcomeAuthenticationFailed is an authorisation server that returned no token; no request was sent.
	OutcomeAuthenticationFailed Outcome = "AuthenticationFailed"
	// OutcomeInvalidResponse is a response that is not HTTP.
	OutcomeInvalidResponse Outcome = "InvalidResponse"
	// OutcomeInvalidRequest is a request that could not be built or signed; it was not sent.
	OutcomeInvalidRequest Outcome = "InvalidRequest"
	// OutcomeInterrupted is an attempt that the dispatcher cut off at its shutdown; the endpoint may have received it.
	OutcomeInterrupted Outcome = "Interrupted"
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{
	OutcomeSucceeded,
	OutcomeRedirected,
	OutcomeRejected4xx,
	OutcomeGone,
	OutcomeFailed5xx,
	OutcomeUnexpectedStatus,
	OutcomeTimeout,
	OutcomeConnectionRefused,
	OutcomeConnectionReset,
	OutcomeConnectionFailed,
	OutcomeNameNotResolved,
	OutcomeAddressBlocked,
	OutcomeTLSFailed,
	OutcomeProxyFailed,
	OutcomeAuthenticationFailed,
	OutcomeInvalidResponse,
	OutcomeInvalidRequest,
	OutcomeInterrupted,
}

// Ours reports whether the fault is the installation's own. Such an attempt is on record, but does not count against
// spec.retry and the schedule.
func (o Outcome) Ours() bool {
	return o == OutcomeProxyFailed || o == OutcomeInterrupted
}

// Attempt is the record of one request to the endpoint.
type Attempt struct {
	// number of the attempt, from 1.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	Number int32 `json:"number,omitempty"`

	// time at which it began.
	//
	// +required
	Time metav1.MicroTime `json:"time,omitzero"`

	// duration from its beginning to the end of the response, or to the failure.
	//
	// +required
	Duration metav1.Duration `json:"duration"`

	// outcome of the attempt.
	//
	// +required
	Outcome Outcome `json:"outcome,omitempty"`

	// statusCode of the response, if there was one.
	//
	// +optional
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=999
	StatusCode *int32 `json:"statusCode,omitempty"`

	// message describes a failure, and whether the request was sent twice, for humans.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// responseBody is the beginning of the response's body, at most 1 KiB. Bytes that are not UTF-8 are replaced.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ResponseBody string `json:"responseBody,omitempty"`

	// remoteIP is the address of the connection.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RemoteIP string `json:"remoteIP,omitempty"`

	// retryAfterTime is the earliest time for another attempt that the endpoint asked for (Retry-After), at most 24h
	// ahead.
	//
	// +optional
	RetryAfterTime *metav1.MicroTime `json:"retryAfterTime,omitempty"`

	// postbackGeneration is the generation of the Postback that the attempt used.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	PostbackGeneration int64 `json:"postbackGeneration,omitempty"`
}

// DeliveryRound counts the attempts since the delivery was made, or since its last redelivery was requested.
// The schedule and spec.retry of the Postback count within a round.
type DeliveryRound struct {
	// attempts of this round, without those that failed by a fault of the installation itself.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts int32 `json:"attempts,omitempty"`

	// startTime is the time at which the first attempt of this round began.
	//
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
}

// PostbackDeliveryStatus is the record of a delivery's attempts.
//
// +structType=atomic
type PostbackDeliveryStatus struct {
	// conditions are Delivered, Reconciling while the delivery will be retried, and Stalled when it failed for good.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +patchStrategy=merge
	// +patchMergeKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// observedGeneration is the generation that the conditions describe. It starts at -1, so that a new object does
	// not count as delivered.
	//
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is Pending, Retrying, Delivered or Failed.
	//
	// +optional
	Phase DeliveryPhase `json:"phase,omitempty"`

	// attemptCount is the number of recorded attempts, also of those that attempts no longer lists.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	AttemptCount int32 `json:"attemptCount,omitempty"`

	// nextAttemptTime is the time at which the next attempt is due.
	//
	// +optional
	NextAttemptTime *metav1.MicroTime `json:"nextAttemptTime,omitempty"`

	// completionTime is the time at which the delivery was delivered or failed.
	//
	// +optional
	CompletionTime *metav1.MicroTime `json:"completionTime,omitempty"`

	// round counts the attempts since the delivery was made or a redelivery was last requested.
	//
	// +optional
	Round DeliveryRound `json:"round,omitzero"`

	// attempts are the newest 20 attempts, oldest first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Attempts []Attempt `json:"attempts,omitempty"`

	// lastHandledRedeliver is the newest handled value of the annotation postback.dev/redeliver.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRedeliver string `json:"lastHandledRedeliver,omitempty"`

	// lastHandledRedeliverFromPostback is the newest handled value of the annotation
	// postback.dev/redeliver-from-postback.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastHandledRedeliverFromPostback string `json:"lastHandledRedeliverFromPostback,omitempty"`
}

// DeliveredCondition is True when the endpoint answered with a 2xx status. It is False after a failed attempt, and
// for a restored delivery that is not sent.
const DeliveredCondition = "Delivered"

// Reasons of a PostbackDelivery's conditions.
const (
	EndpointAcceptedReason = "EndpointAccepted"
	RetryScheduledReason   = "RetryScheduled"
	MaxAttemptsReason      = "MaxAttemptsReached"
	GaveUpReason           = "GiveUpAfterReached"
	// WaitingForEndpointReason says that the endpoint answered 410, so that the delivery waits until the Postback's spec
	// changes or somebody asks for a redelivery.
	WaitingForEndpointReason = "WaitingForEndpoint"
	// RestoredReason says that the delivery was restored from a backup without a record of its attempts, so that it is sent
	// only if somebody asks for it.
	RestoredReason = "Restored"
	// PostbackNotFoundReason says that the delivery was restored from a backup and its Postback does not exist.
	PostbackNotFoundReason = "PostbackNotFound"
)

// Reasons of the Kubernetes Events on a Postback that report on its deliveries.
const (
	AttemptFailedReason         = "AttemptFailed"
	DeliveryFailedReason        = "DeliveryFailed"
	DeliveredAfterRetriesReason = "DeliveredAfterRetries"
	FilterFailedReason          = "FilterFailed"
	// DeliveryRefusedReason says that the API server refuses a PostbackDelivery for a reason that lasts, such as a policy.
	DeliveryRefusedReason = "DeliveryRefused"
	// BacklogTooLargeReason says that events are refused because the waiting deliveries of the Postback take too much of
	// their stream.
	BacklogTooLargeReason = "BacklogTooLarge"
	// AttemptNotRecordedReason says that the API server refuses the record of an attempt for a reason that lasts.
	AttemptNotRecordedReason = "AttemptNotRecorded"
	// DeliveriesDroppedReason says that a user dropped waiting deliveries.
	DeliveriesDroppedReason = "DeliveriesDropped"
)
