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
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
)

// healthWords name the cause of failed attempts: a reason of the condition EndpointHealthy, or an Outcome.
var healthWords = map[string]string{
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

const (
	// recentAttempts is the number of attempts that show whether an endpoint fails now and then.
	recentAttempts = 20
	// someFailures is the smallest number of failures among them that is worth a warning.
	someFailures = 5
)

// healthOf describes the health of a Postback by its worst fact. One attempt does not change the words: the operator judges runs
// of attempts, and the console judges the newest 20.
func healthOf(p *v1alpha1.Postback, rows []*feed.Row) label {
	conditions := p.Status.Conditions
	healthy := meta.FindStatusCondition(conditions, v1alpha1.EndpointHealthyCondition)
	ready := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	switch {
	case !p.DeletionTimestamp.IsZero():
		return label{"warn", "Being deleted", "It is deleted once its route is removed."}
	case meta.IsStatusConditionTrue(conditions, v1alpha1.StalledCondition):
		return label{"bad", reasonWords(ready), message(ready)}
	case healthy != nil && healthy.Status == metav1.ConditionFalse:
		return label{"bad", reasonWords(healthy), healthy.Message}
	case ready == nil || p.Status.ObservedGeneration < p.Generation:
		return label{"calm", "Starting", "The operator has not reported its status yet."}
	case ready.Status != metav1.ConditionTrue:
		return label{"warn", reasonWords(ready), ready.Message}
	}
	newest := feed.Newest(rows, recentAttempts)
	cause, failures := commonFailure(newest)
	switch {
	case failures > 0 && failures == len(newest):
		return label{"bad", healthWords[cause], fmt.Sprintf("No attempt on record succeeded. The newest: %s.", answerOf(newest[0]))}
	case failures >= someFailures:
		return label{"warn", "Some attempts fail", fmt.Sprintf("%d of the newest %d attempts failed, most for this cause: %s.", failures, len(newest), healthWords[cause])}
	case healthy != nil && healthy.Status == metav1.ConditionUnknown:
		return label{"calm", reasonWords(healthy), healthy.Message}
	case healthy != nil:
		return label{"good", "Healthy", healthy.Message}
	case len(newest) > 0:
		return label{"good", "Healthy", "The endpoint accepts events."}
	}
	return label{"good", "Ready", ready.Message}
}

// commonFailure returns the most frequent cause of failure and the number of failures.
func commonFailure(attempts []feed.Sample) (cause string, failures int) {
	counts := map[string]int{}
	for _, a := range attempts {
		if a.Succeeded() {
			continue
		}
		failures++
		outcome := string(a.Outcome)
		counts[outcome]++
		if counts[outcome] > counts[cause] {
			cause = outcome
		}
	}
	return cause, failures
}

// reasonWords returns the reason of a condition in words.
func reasonWords(c *metav1.Condition) string {
	if c == nil {
		return "Stalled"
	}
	if text, ok := healthWords[c.Reason]; ok {
		return text
	}
	return words(c.Reason)
}
