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
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Annotations that request an action. Each value is an opaque token: a value other than the last handled one in the
// status makes one request. The operator never removes them, so that GitOps tools see no drift.
const (
	// RotateSecretAnnotation, on a PostbackSecret or a Postback, asks for a new signing key.
	RotateSecretAnnotation = "postback.dev/rotate-secret"
	// PassedRotateSecretAnnotation, on a PostbackSecret, asks for a new signing key in the name of a Postback. The
	// operator sets it when RotateSecretAnnotation on a Postback gets a new value. RotateSecretAnnotation on the
	// PostbackSecret remains for users.
	PassedRotateSecretAnnotation = "postback.dev/rotate-secret-from-postback"
	// SendTestAnnotation, on a Postback, asks for a test event. Its value is an event type, optionally followed by a
	// slash and a token: "lead.created/2". An earlier value, set again, makes no second request while its
	// PostbackDelivery exists.
	SendTestAnnotation = "postback.dev/send-test"
	// SendTestDataAnnotation, on a Postback, contains the data of test events, a JSON object, instead of the sample. It
	// makes no request by itself.
	SendTestDataAnnotation = "postback.dev/send-test-data"
	// RedeliverAnnotation, on a PostbackDelivery in any phase, asks for a new attempt at once.
	RedeliverAnnotation = "postback.dev/redeliver"
	// RedeliverSinceAnnotation, on a Postback, asks for new attempts of all its failed or unfinished deliveries that were
	// made since a time. Its value is that time in RFC 3339 or a duration before now, optionally followed by a slash and
	// a token: "24h/2".
	RedeliverSinceAnnotation = "postback.dev/redeliver-since"
	// PassedRedeliverAnnotation, on a PostbackDelivery, asks for a new attempt in the name of a Postback's
	// RedeliverSinceAnnotation. Unlike a redelivery that a user requests, it waits for its turn at the endpoint.
	PassedRedeliverAnnotation = "postback.dev/redeliver-from-postback"
	// DeferredAnnotation, on a PostbackDelivery, says that its first attempt is left to the elected dispatcher
	// replica. Its value is "true", or the state of a Postback that was Paused or Disabled.
	DeferredAnnotation = "postback.dev/deferred"
	// IntakeAnnotation, on the Lease IntakeLeaseName, holds the dispatcher's --intake, such as IntakeJetStream. An
	// administrator can add IngestURLAnnotation, the base URL of an ingest that is exposed outside the cluster.
	IntakeAnnotation    = "postback.dev/intake"
	IngestURLAnnotation = "postback.dev/ingest-url"
	// IntakeJetStream keeps deliveries in streams of NATS, and some failed ones as PostbackDeliveries.
	IntakeJetStream = "jetstream"
	// LeftOutAnnotation, on a bookmark in a watch of the delivery log, is the number of deliveries left out since the
	// previous bookmark. The watch leaves some out if there are too many.
	LeftOutAnnotation = "postback.dev/left-out"
	// TraceparentAnnotation, on a PostbackDelivery, holds the W3C Trace Context of its event, to which the attempts
	// belong. It exists if the dispatcher exports traces.
	TraceparentAnnotation = "postback.dev/traceparent"
)

// RequestAnnotations request an action, or contain data of such a request. A manifest for Git or another cluster must
// not have them, because applying it would request the action again.
var RequestAnnotations = []string{
	RotateSecretAnnotation, PassedRotateSecretAnnotation, SendTestAnnotation, SendTestDataAnnotation,
	RedeliverAnnotation, RedeliverSinceAnnotation, PassedRedeliverAnnotation,
}

const (
	// PostbackLabel, on a PostbackDelivery, holds the name of its Postback.
	PostbackLabel = "postback.dev/postback"
	// EventTypeLabel, on a PostbackDelivery, holds the type of its event.
	EventTypeLabel = "postback.dev/event-type"
	// RestoredLabel, with the value "true", marks a PostbackDelivery that was restored from a backup without an
	// owner, and that the Postback of its name adopted.
	RestoredLabel = "postback.dev/restored"
	// WatchLabel, with the value "true", on a Secret lets the manager see a change of it at once. The manager puts it
	// on the Secrets that it makes. On other Secrets it is optional: without it the manager sees a change at its next
	// periodic read.
	WatchLabel = "postback.dev/watch"

	// RouteFinalizer keeps a Postback until its route is gone: an owner reference cannot cross namespaces.
	RouteFinalizer = "postback.dev/route"

	// ManagedByLabel and PartOfLabel are the recommended labels on every object that the operator creates.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	PartOfLabel    = "app.kubernetes.io/part-of"
	// ManagedBy and PartOf are the values of these labels.
	ManagedBy = "postback-operator"
	PartOf    = "postback"
)

// Label and annotations of the Lease of a dispatcher replica.
const (
	// ReplicaLabel marks the Leases of dispatcher replicas; its value is "true".
	ReplicaLabel = "postback.dev/dispatcher-replica"
	// LoadedRoutesAnnotation holds the highest resourceVersion among the route Secrets that the replica has loaded. A
	// route Secret of this or a lower resourceVersion is in force there.
	LoadedRoutesAnnotation = "postback.dev/loaded-resource-version"
	// WatchedNamespacesAnnotation holds the namespaces whose routes the replica loads, separated by commas. Absent or
	// empty means all.
	WatchedNamespacesAnnotation = "postback.dev/watched-namespaces"
	// UnreadyReasonAnnotation is the reason why the replica accepts no events at present.
	UnreadyReasonAnnotation = "postback.dev/unready-reason"
)

// Field managers of the manager, the dispatcher and the kubectl plugin.
const (
	ManagerFieldOwner    = "postback-manager"
	DispatcherFieldOwner = "postback-dispatcher"
	// PluginFieldOwner is the field manager of the kubectl plugin and its console.
	PluginFieldOwner = "kubectl-postback"
)

// SigningKeyName is the data key of the current signing key in the core Secret of a PostbackSecret.
const SigningKeyName = "secret"

// MaxRedeliverSince is the longest time before now that RedeliverSinceAnnotation accepts. It equals the maximum of
// spec.history.ttl.
const MaxRedeliverSince = 8760 * time.Hour

const maxTokenLength = 256

// HandledToken returns the text by which a status records that an annotation's value is handled. It is the value
// itself, or the SHA-256 in hexadecimal of a value longer than 256 bytes.
func HandledToken(value string) string {
	if len(value) <= maxTokenLength {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:])
}
