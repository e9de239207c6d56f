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

// Defaults that the getters of PostbackSpec return for absent fields.
const (
	DefaultTimeout          = 10 * time.Second
	DefaultMaxPending       = 10000
	DefaultHistoryDelivered = 100
	DefaultHistoryFailed    = 100
	DefaultHistoryTTL       = 168 * time.Hour
)

// Trigger selects events by type: an exact type ("lead.created"), a prefix ("sale.*") or every type ("*").
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=65
// +kubebuilder:validation:XValidation:rule="self.matches('^([*]|[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*([.][*])?)$')",message="must be an event type such as lead.created, a prefix such as sale.*, or *"
type Trigger string

// PostbackState is the treatment of the events of a Postback.
//
// +kubebuilder:validation:Enum=Enabled;Paused;Disabled
type PostbackState string

const (
	// PostbackEnabled delivers.
	PostbackEnabled PostbackState = "Enabled"
	// PostbackPaused stores events and lets them wait.
	PostbackPaused PostbackState = "Paused"
	// PostbackDisabled skips new events and lets stored ones wait.
	PostbackDisabled PostbackState = "Disabled"
)

// SignatureScheme names a way to sign a request.
//
// +kubebuilder:validation:Enum=Dub;StandardWebhooks
type SignatureScheme string

const (
	// SignatureDub is the header Dub-Signature: the lower-case hexadecimal HMAC-SHA256 of the body, keyed with the
	// whole secret string.
	SignatureDub SignatureScheme = "Dub"
	// SignatureStandardWebhooks is the headers webhook-id, webhook-timestamp and webhook-signature of Standard
	// Webhooks 1.0.
	SignatureStandardWebhooks SignatureScheme = "StandardWebhooks"
)

// PayloadFormat is the format of the body of a request.
//
// +kubebuilder:validation:Enum=JSON;CloudEvents;Slack
type PayloadFormat string

const (
	// FormatJSON is the envelope {"id", "event", "createdAt", "data"}.
	FormatJSON PayloadFormat = "JSON"
	// FormatCloudEvents is CloudEvents 1.0 in JSON, in structured mode.
	FormatCloudEvents PayloadFormat = "CloudEvents"
	// FormatSlack is a message for a Slack incoming webhook.
	FormatSlack PayloadFormat = "Slack"
)

// RetryPolicy limits the attempts. Without it a delivery is retried until it is delivered: after 12s, 2m28s, 30m8s,
// 6h7m6s, and then every 24h.
type RetryPolicy struct {
	// maxAttempts is the number of attempts, the first included, after which a delivery fails. 0, the default, sets no
	// limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	MaxAttempts *int32 `json:"maxAttempts,omitempty"`

	// giveUpAfter is the time since the first attempt after which a delivery fails and is not retried.
	// 0s, the default, sets no limit.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('8760h')",message="must be a duration from 0s (never give up) to 8760h (a year), such as 72h"
	GiveUpAfter *metav1.Duration `json:"giveUpAfter,omitempty"`
}

// Limits bound the requests and the backlog of one Postback.
type Limits struct {
	// maxConcurrent is the number of requests in flight to the endpoint at a time. If it is set, one dispatcher replica
	// makes all attempts, so that the limit is exact. By default each replica makes at most 16 at a time.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// perSecond is the number of requests to the endpoint that may begin in a second. If it is set, one dispatcher
	// replica makes all attempts, so that the limit is exact. 0, the default, sets no limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	PerSecond *int32 `json:"perSecond,omitempty"`

	// maxPending is the number of unfinished deliveries at which new events are refused, for this Postback only. The
	// default is 10000. The bound is soft: each dispatcher replica counts the deliveries that it has seen. With the JetStream
	// intake the default counts PostbackDeliveries alone, and a value that is set also counts deliveries that wait in a stream.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxPending *int32 `json:"maxPending,omitempty"`
}

// History bounds the number and age of finished deliveries.
type History struct {
	// delivered is the number of deliveries in the phase Delivered to keep, the newest. The default is 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Delivered *int32 `json:"delivered,omitempty"`

	// failed is the number of deliveries in the phase Failed to keep, the newest. The default is 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Failed *int32 `json:"failed,omitempty"`

	// ttl is the longest time to keep a finished delivery. The default is 168h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('8760h')",message="must be a duration from 1m to 8760h (a year), such as 168h"
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// PostbackSpec selects events and describes their delivery to the endpoint.
//
// +kubebuilder:validation:XValidation:rule="!has(self.auth) || !has(self.headers) || !self.headers.exists(h, h.name.lowerAscii() == 'authorization')",message="auth sets the header Authorization: remove either auth or that header"
type PostbackSpec struct {
	// url of the endpoint, which gets a POST for each event. It must be an absolute https URL, or http if the
	// manager has --allow-plain-http.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^[Hh][Tt][Tt][Pp][Ss]?://')",message="must be an absolute URL that starts with https://, such as https://example.com/hooks"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\x00-\\x20\\x7f]')",message="must not contain spaces or control characters: percent-encode them"
	// +kubebuilder:validation:XValidation:rule="!self.contains('#')",message="must not have a fragment: remove the part from #"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="must not contain a user name or password: use a header with valueFrom.secretKeyRef instead"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[Hh][Tt][Tt][Pp][Ss]?://') || self.contains('#') || self.matches('[\\x00-\\x20\\x7f]') || (isURL(self) && url(self).getHostname() != '')",message="must be a valid URL with a host, such as https://example.com/hooks"
	// +kubebuilder:validation:XValidation:rule="!isURL(self) || self.matches('^[^/]*//[^/?#]*@') || self.matches('^[^/]*//([[][0-9A-Fa-f:.]+[]]|([0-9A-Za-z_-]|[^\\x00-\\x7f])+([.]([0-9A-Za-z_-]|[^\\x00-\\x7f])+)*[.]?)?(:[^/?#]*)?([/?#]|$)')",message="must have a DNS name or an IP address as its host, without wildcards, placeholders, empty labels or zones"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*:(0[0-9]*|[0-9]{6,}|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?#]|$)')",message="must have a port from 1 to 65535, without leading zeros"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//([^]:[/?#@]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?(:[^/?#]*)?([/?#]|$)') || self.matches('^[^/]*//((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:[^/?#]*)?([/?#]|$)')",message="must have an IPv4 address of four decimal numbers, such as 192.0.2.1"
	URL string `json:"url,omitempty"`

	// triggers select events by type. An event that matches several is delivered once.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Triggers []Trigger `json:"triggers,omitempty"`

	// displayName is a name for humans.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\x00-\\x1f\\x7f]')",message="must not contain line breaks or other control characters"
	DisplayName string `json:"displayName,omitempty"`

	// state is Enabled (events are delivered), Paused (events are stored and wait) or Disabled (new events are skipped,
	// and stored ones wait).
	//
	// +optional
	// +default="Enabled"
	State PostbackState `json:"state,omitempty"`

	// filter is a CEL expression that selects events, such as event.data.sale.amount > 1000. The variable event has id,
	// event (the type), createdAt and data. An event for which the evaluation fails is not sent.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Filter string `json:"filter,omitempty"`

	// format of the body: JSON (the envelope), CloudEvents (1.0, structured JSON) or Slack (a message for an incoming
	// webhook). The default is JSON.
	//
	// +optional
	// +default="JSON"
	Format PayloadFormat `json:"format,omitempty"`

	// secretRef names the PostbackSecret whose key signs the requests. By default the operator makes a PostbackSecret
	// with the Postback's name.
	//
	// +optional
	SecretRef *LocalReference `json:"secretRef,omitempty"`

	// headers of each request.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))",message="must not name a header twice: names are compared without case"
	Headers []Header `json:"headers,omitempty"`

	// auth is the source of the header Authorization.
	//
	// +optional
	Auth *Authentication `json:"auth,omitempty"`

	// tls has the certificates by which the endpoint and the dispatcher identify themselves.
	//
	// +optional
	TLS *TLS `json:"tls,omitempty"`

	// signatures are the schemes by which each request is signed. The default is all schemes.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Signatures []SignatureScheme `json:"signatures,omitempty"`

	// timeout bounds one attempt, from the dial to the end of the response. The default is 10s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('30s')",message="must be a duration from 1s to 30s, such as 10s"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// retry limits the attempts. By default a delivery is retried until it is delivered.
	//
	// +optional
	Retry *RetryPolicy `json:"retry,omitempty"`

	// limits bound the requests and the backlog of this Postback.
	//
	// +optional
	Limits *Limits `json:"limits,omitempty"`

	// history bounds the number and age of finished deliveries.
	//
	// +optional
	History *History `json:"history,omitempty"`
}

// Postback sends events of its namespace to an endpoint: those whose types match its triggers. Each is signed, and
// retried until it is delivered.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pb,categories=postback-all
// +kubebuilder:selectablefield:JSONPath=".spec.secretRef.name"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status",description="Whether an event posted now would be routed"
// +kubebuilder:printcolumn:name="Reason",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].reason",description="Why it is ready or not"
// +kubebuilder:printcolumn:name="State",type="string",JSONPath=".spec.state",description="Enabled, Paused or Disabled"
// +kubebuilder:printcolumn:name="Healthy",type="string",JSONPath=".status.conditions[?(@.type==\"EndpointHealthy\")].status",description="Whether the endpoint accepts events; empty if there was no trouble"
// +kubebuilder:printcolumn:name="Host",type="string",JSONPath=".status.endpointHost",description="Host of the endpoint"
// +kubebuilder:printcolumn:name="Waiting",type="string",JSONPath=".status.waiting.reason",priority=1,description="Why deliveries wait for the endpoint"
// +kubebuilder:printcolumn:name="Until",type="string",JSONPath=".status.waiting.until",priority=1,description="Earliest time of the next attempt"
// +kubebuilder:printcolumn:name="Backlog",type="integer",JSONPath=".status.backlog.deliveries",priority=1,description="Deliveries that wait in a stream"
// +kubebuilder:printcolumn:name="Triggers",type="string",JSONPath=".spec.triggers",priority=1,description="Event types that are sent"
// +kubebuilder:printcolumn:name="Secret",type="string",JSONPath=".status.secretName",priority=1,description="Secret that holds the signing key"
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message",priority=1,description="More about Ready"
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must be at most 63 characters long: it is the value of a label on each delivery"
type Postback struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state.
	//
	// +required
	Spec PostbackSpec `json:"spec,omitzero"`

	// status is the observed state.
	//
	// +optional
	// +default={"observedGeneration":-1}
	Status PostbackStatus `json:"status,omitzero"`
}

// GetPostbackSecretName returns spec.secretRef.name, or the Postback's own name if secretRef is not set.
func (p *Postback) GetPostbackSecretName() string {
	if p.Spec.SecretRef != nil {
		return p.Spec.SecretRef.Name
	}
	return p.Name
}

// PostbackList is a list of Postbacks.
//
// +kubebuilder:object:root=true
type PostbackList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Postback `json:"items"`
}
