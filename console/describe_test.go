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
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
)

func TestHealth(t *testing.T) {
	condition := func(conditionType string, status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: reason}
	}
	ready := condition(v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.RoutedReason)
	healthy := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionTrue, v1alpha1.EndpointRespondingReason)
	open := condition(v1alpha1.EndpointHealthyCondition, metav1.ConditionFalse, v1alpha1.CircuitOpenReason)
	now := time.Now()
	row := func(age time.Duration, outcomes ...v1alpha1.Outcome) *feed.Row {
		r := &feed.Row{}
		for i, o := range outcomes {
			s := feed.Sample{Time: now.Add(time.Duration(i)*time.Second - age), Outcome: o}
			if o == v1alpha1.OutcomeFailed5xx {
				s.Status = 503
			}
			r.Recent = append(r.Recent, s)
		}
		return r
	}
	const failed, refused, succeeded = v1alpha1.OutcomeFailed5xx, v1alpha1.OutcomeConnectionRefused, v1alpha1.OutcomeSucceeded
	tests := map[string]struct {
		conditions      []metav1.Condition
		rows            []*feed.Row
		kind, text, why string
	}{
		"nothing said":          {nil, nil, "calm", "Starting", "The operator has not said anything about it yet."},
		"no attempts":           {[]metav1.Condition{ready}, []*feed.Row{row(0)}, "good", "Ready", "Routed"},
		"delivered, no trouble": {[]metav1.Condition{ready}, []*feed.Row{row(time.Minute, failed, succeeded)}, "good", "Ready", "Routed"},
		"trouble is over":       {[]metav1.Condition{ready, healthy}, []*feed.Row{row(time.Minute, succeeded)}, "good", "Healthy", "Responding"},
		"nothing is delivered": {
			[]metav1.Condition{ready},
			[]*feed.Row{row(time.Hour, failed, failed), row(time.Minute, failed)},
			"bad", "Failing",
			"The newest attempt failed: 503 Service Unavailable. None of those on record succeeded.",
		},
		"the newest failed": {
			[]metav1.Condition{ready, healthy},
			[]*feed.Row{row(time.Minute, refused), row(time.Hour, succeeded)},
			"warn", "Failing",
			"The newest attempt failed: Connection refused.",
		},
		"an older failed":   {[]metav1.Condition{ready}, []*feed.Row{row(time.Hour, failed), row(time.Minute, succeeded)}, "good", "Ready", "Routed"},
		"the circuit opens": {[]metav1.Condition{ready, open}, []*feed.Row{row(time.Minute, failed)}, "bad", "Endpoint down", "CircuitOpen"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{}
			p.Status.Conditions = test.conditions
			if got, want := healthOf(p, test.rows), (label{test.kind, test.text, test.why}); got != want {
				t.Errorf("it is %+v, want %+v", got, want)
			}
		})
	}
}
