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

package console

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// healthWords describe the reasons of health: those of the condition EndpointHealthy, and Outcomes.
var healthWords = map[string]string{
	v1alpha1.EndpointRespondingReason:            "Healthy",
	waiting.SomeAttemptsFail:                     "Some attempts fail",
	v1alpha1.ThrottledReason:                     "Throttled",
	v1alpha1.UnprovenReason:                      "Unproven",
	string(v1alpha1.OutcomeRedirected):           "Redirects (3xx)",
	string(v1alpha1.OutcomeRejected4xx):          "Rejected (4xx)",
	string(v1alpha1.OutcomeGone):                 "Gone (410)",
	string(v1alpha1.OutcomeFailed5xx):            "Server errors (5xx)",
	string(v1alpha1.OutcomeUnexpectedStatus):     "Unexpected status",
	string(v1alpha1.OutcomeTimeout):              "Timeout",
	string(v1alpha1.OutcomeConnectionRefused):    "Connection refused",
	string(v1alpha1.OutcomeConnectionReset):      "Connection reset",
	string(v1alpha1.OutcomeConnectionFailed):     "No connection",
	string(v1alpha1.OutcomeNameNotResolved):      "DNS failed",
	string(v1alpha1.OutcomeAddressBlocked):       "Blocked by policy",
	string(v1alpha1.OutcomeTLSFailed):            "TLS failed",
	string(v1alpha1.OutcomeProxyFailed):          "Proxy failed",
	string(v1alpha1.OutcomeAuthenticationFailed): "No token",
	string(v1alpha1.OutcomeInvalidResponse):      "Invalid response",
	string(v1alpha1.OutcomeInvalidRequest):       "Invalid request",
	string(v1alpha1.OutcomeInterrupted):          "Interrupted",
}

// healthOf returns the health of a Postback: the worse of its own state and its endpoint's health.
func healthOf(p *v1alpha1.Postback, recent waiting.Recent) waiting.Health {
	conditions := p.Status.Conditions
	ready := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	endpoint := waiting.HealthOf(p, recent)
	switch {
	case !p.DeletionTimestamp.IsZero():
		return waiting.Health{Grade: waiting.Warning, Reason: "BeingDeleted", Sentence: "It is deleted once its route is removed."}
	case meta.IsStatusConditionTrue(conditions, v1alpha1.StalledCondition):
		return ofReady(waiting.Bad, ready)
	case endpoint.Grade == waiting.Bad:
		return endpoint
	case ready == nil || p.Status.ObservedGeneration < p.Generation:
		return waiting.Health{Grade: waiting.Neutral, Reason: "Starting", Sentence: "The operator has not reported its status yet."}
	case ready.Status != metav1.ConditionTrue:
		return ofReady(waiting.Warning, ready)
	case endpoint.Grade == "":
		return waiting.Health{Grade: waiting.Good, Reason: v1alpha1.ReadyCondition, Sentence: ready.Message}
	}
	return endpoint
}

// ofReady returns the condition Ready as a health. A Stalled Postback may lack that condition.
func ofReady(grade waiting.Grade, ready *metav1.Condition) waiting.Health {
	if ready == nil {
		return waiting.Health{Grade: grade, Reason: v1alpha1.StalledCondition}
	}
	return waiting.Health{Grade: grade, Reason: ready.Reason, Sentence: ready.Message}
}

// healthLabel returns the label of a health.
func healthLabel(h waiting.Health) label {
	text, ok := healthWords[h.Reason]
	if !ok {
		text = words(h.Reason)
	}
	return label{string(h.Grade), text, h.Sentence}
}

// recent returns the newest attempts of rows. It returns none if the delivery log cannot be read, because successes
// are missing then.
func (c *Console) recent(rows []*feed.Row) waiting.Recent {
	if c.unread != "" || c.feed.Status().Unread != nil {
		return nil
	}
	return feed.Newest(rows)
}
