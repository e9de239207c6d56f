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
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

func TestHealth(t *testing.T) {
	condition := func(conditionType string, status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: reason}
	}
	ready := condition(v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.RoutedReason)
	healthy := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionTrue, v1alpha1.EndpointRespondingReason)
	open := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionFalse, string(v1alpha1.OutcomeConnectionRefused))
	now := time.Now()
	row := func(age time.Duration, outcomes ...v1alpha1.Outcome) *feed.Row {
		r := &feed.Row{}
		for i, o := range outcomes {
			a := waiting.Attempt{Time: now.Add(time.Duration(i)*time.Second - age), Outcome: o}
			if o == v1alpha1.OutcomeFailed5xx {
				a.Status = 503
			}
			r.Recent = append(r.Recent, feed.Sample{Attempt: a})
		}
		return r
	}
	const failed, refused, succeeded = v1alpha1.OutcomeFailed5xx, v1alpha1.OutcomeConnectionRefused, v1alpha1.OutcomeSucceeded
	tests := map[string]struct {
		conditions      []metav1.Condition
		rows            []*feed.Row
		kind, text, why string
	}{
		"nothing said":                {nil, nil, "calm", "Starting", "The operator has not reported its status yet."},
		"no attempts":                 {[]metav1.Condition{ready}, []*feed.Row{row(0)}, "good", "Ready", "Routed"},
		"delivered, no trouble":       {[]metav1.Condition{ready}, []*feed.Row{row(time.Minute, failed, succeeded)}, "good", "Healthy", "The endpoint accepts events."},
		"the newest attempt failed":   {[]metav1.Condition{ready}, []*feed.Row{row(time.Hour, succeeded), row(time.Minute, failed)}, "good", "Healthy", "The endpoint accepts events."},
		"the newest before succeeded": {[]metav1.Condition{ready}, []*feed.Row{row(time.Hour, failed), row(time.Minute, succeeded)}, "good", "Healthy", "The endpoint accepts events."},
		"trouble is over":             {[]metav1.Condition{ready, healthy}, []*feed.Row{row(time.Minute, succeeded)}, "good", "Healthy", "Responding"},
		"interrupted":                 {[]metav1.Condition{ready}, []*feed.Row{row(time.Minute, v1alpha1.OutcomeInterrupted)}, "good", "Ready", "Routed"},
		"nothing is delivered": {
			[]metav1.Condition{ready},
			[]*feed.Row{row(time.Hour, failed, failed), row(time.Minute, failed)},
			"bad", "Server errors (5xx)", "No attempt on record succeeded; most recent: HTTP 503.",
		},
		"some fail": {
			[]metav1.Condition{ready, healthy},
			[]*feed.Row{row(time.Minute, refused, succeeded, refused, succeeded, failed, succeeded, refused, refused, succeeded)},
			"warn", "Some attempts fail", "5 of the newest 9 attempts failed; most common: connection refused.",
		},
		"unproven": {
			[]metav1.Condition{ready, condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionUnknown, v1alpha1.UnprovenReason)},
			nil, "calm", "Unproven", "Unproven",
		},
		"the circuit opens": {[]metav1.Condition{ready, open}, []*feed.Row{row(time.Minute, failed)}, "bad", "Connection refused", "ConnectionRefused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{}
			p.Status.Conditions = test.conditions
			if got, want := healthLabel(healthOf(p, feed.Newest(test.rows))), (label{test.kind, test.text, test.why}); got != want {
				t.Errorf("it is %+v, want %+v", got, want)
			}
		})
	}
}

func TestHealthNamesEachCause(t *testing.T) {
	seen := map[string]string{}
	for _, reason := range v1alpha1.UnhealthyReasons {
		text := healthWords[reason]
		if text == "" || seen[text] != "" {
			t.Errorf("%s is %q, as is %q", reason, text, seen[text])
		}
		seen[text] = reason
	}
	for _, outcome := range v1alpha1.Outcomes {
		if outcome != v1alpha1.OutcomeSucceeded && healthWords[string(outcome)] == "" {
			t.Errorf("%s has no words", outcome)
		}
	}
}

// The label stays the same while attempts alternate between success and failure, and before the condition is set.
func TestHealthDoesNotFlipWithEachAttempt(t *testing.T) {
	p := &v1alpha1.Postback{}
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ReadyCondition, Status: metav1.ConditionTrue, Reason: v1alpha1.RoutedReason}}
	r := &feed.Row{}
	var texts []string
	for i := range 60 {
		outcome := v1alpha1.OutcomeSucceeded
		if i%2 == 1 {
			outcome = v1alpha1.OutcomeTimeout
		}
		r.Recent = append(r.Recent, feed.Sample{Attempt: waiting.Attempt{Time: time.Unix(int64(i), 0), Outcome: outcome}})
		if text := healthLabel(healthOf(p, feed.Newest([]*feed.Row{r}))).Text; len(texts) == 0 || texts[len(texts)-1] != text {
			texts = append(texts, text)
		}
	}
	if want := []string{"Healthy", "Some attempts fail"}; !slices.Equal(texts, want) {
		t.Errorf("the words are %q, want %q", texts, want)
	}
}
