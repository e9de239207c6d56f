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

package waiting

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func endpointHealthy(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.EndpointHealthyCondition, Status: status, Reason: reason, Message: message}}
}

func TestHealthOf(t *testing.T) {
	succeeded := Attempt{Outcome: v1alpha1.OutcomeSucceeded, Status: 200}
	rejected := Attempt{Outcome: v1alpha1.OutcomeRejected4xx, Status: 404}
	failed := Attempt{Outcome: v1alpha1.OutcomeFailed5xx, Status: 503}
	busy := Attempt{Outcome: v1alpha1.OutcomeFailed5xx, Status: 503, RetryAfter: true}
	tooMany := Attempt{Outcome: v1alpha1.OutcomeRejected4xx, Status: 429}
	refused := Attempt{Outcome: v1alpha1.OutcomeConnectionRefused}
	interrupted := Attempt{Outcome: v1alpha1.OutcomeInterrupted}
	down := endpointHealthy(metav1.ConditionFalse, "Failed5xx", "The last 5 attempts failed; most recent: HTTP 503.")
	responding := endpointHealthy(metav1.ConditionTrue, v1alpha1.EndpointRespondingReason, "The endpoint accepts events.")
	unproven := endpointHealthy(metav1.ConditionUnknown, v1alpha1.UnprovenReason, "No attempt since the change.")
	for name, test := range map[string]struct {
		conditions []metav1.Condition
		attempts   []Attempt // oldest first
		want       Health
	}{
		"nothing known":                {},
		"interrupted only":             {attempts: []Attempt{interrupted}},
		"condition False":              {down, nil, Health{Bad, "Failed5xx", down[0].Message}},
		"condition False, one success": {down, []Attempt{failed, succeeded}, Health{Bad, "Failed5xx", down[0].Message}},
		"condition True":               {responding, nil, Health{Good, "Responding", responding[0].Message}},
		"condition Unknown":            {unproven, nil, Health{Neutral, "Unproven", unproven[0].Message}},
		"one success":                  {nil, []Attempt{succeeded}, Health{Good, "Responding", "The endpoint accepts events."}},
		"one failure":                  {nil, []Attempt{rejected}, Health{Bad, "Rejected4xx", "No attempt on record succeeded; most recent: HTTP 404."}},
		"one failure, before True":     {responding, []Attempt{rejected}, Health{Bad, "Rejected4xx", "No attempt on record succeeded; most recent: HTTP 404."}},
		"an interruption too":          {nil, []Attempt{refused, interrupted}, Health{Bad, "ConnectionRefused", "No attempt on record succeeded; most recent: connection refused."}},
		"most frequent cause":          {nil, []Attempt{refused, refused, failed}, Health{Bad, "ConnectionRefused", "No attempt on record succeeded; most recent: HTTP 503."}},
		"newest cause of equals":       {nil, []Attempt{refused, failed}, Health{Bad, "Failed5xx", "No attempt on record succeeded; most recent: HTTP 503."}},
		"429":                          {nil, []Attempt{tooMany}, Health{Bad, "Throttled", "No attempt on record succeeded; most recent: HTTP 429."}},
		"Retry-After":                  {nil, []Attempt{busy}, Health{Bad, "Throttled", "No attempt on record succeeded; most recent: HTTP 503."}},
		"4 failures among successes":   {nil, append(slices.Repeat([]Attempt{failed}, 4), succeeded), Health{Good, "Responding", "The endpoint accepts events."}},
		"5 failures among successes":   {nil, append(slices.Repeat([]Attempt{failed}, 5), succeeded), Health{Warning, SomeAttemptsFail, "5 of the newest 6 attempts failed; most common: HTTP 503."}},
		"success before the newest 20": {nil, append([]Attempt{succeeded}, slices.Repeat([]Attempt{failed}, 20)...), Health{Bad, "Failed5xx", "None of the newest 20 attempts succeeded; most recent: HTTP 503."}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{Status: v1alpha1.PostbackStatus{Conditions: test.conditions}}
			var recent Recent
			for i, a := range test.attempts {
				a.Time = noon.Add(time.Duration(i) * time.Second)
				recent.Add(a)
			}
			if got := HealthOf(p, recent); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestRecentKeepsTheNewest(t *testing.T) {
	var recent Recent
	for _, second := range []int{7, 3, 29, 12, 0, 21, 15, 1, 28, 9, 26, 4, 18, 23, 11, 2, 25, 6, 14, 20, 8, 27, 5, 17, 10, 24, 13, 22, 16, 19} {
		recent.Add(Attempt{Time: noon.Add(time.Duration(second) * time.Second)})
	}
	times := func() (seconds []int) {
		for _, a := range recent {
			seconds = append(seconds, int(a.Time.Sub(noon).Seconds()))
		}
		return seconds
	}
	if got, want := times(), []int{29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	recent.Since(noon.Add(27 * time.Second))
	if got, want := times(), []int{29, 28, 27}; !slices.Equal(got, want) {
		t.Errorf("since second 27: %v, want %v", got, want)
	}
}

// The note names the reason once if the health of the endpoint is also the reason why deliveries wait.
func TestNote(t *testing.T) {
	asked := Why{Reason: RetryAfter, Sentence: "The endpoint asked to wait until 15:21:52 UTC."}
	gone := Why{Reason: Gone, Sentence: "The endpoint answered 410 (Gone): its deliveries wait."}
	down := Why{Reason: CircuitOpen, Sentence: "The endpoint is down; a probe is due."}
	paused := Why{Reason: Paused, Sentence: "Postback crm is paused."}
	for name, test := range map[string]struct {
		health Health
		why    Why
		want   string
	}{
		"nothing known":         {},
		"nothing waits":         {Health{Good, "Responding", "The endpoint accepts events."}, Why{}, "The endpoint accepts events."},
		"throttled":             {Health{Bad, "Throttled", "The endpoint asked to wait until 2026-03-01T15:21:52Z (Retry-After)."}, asked, asked.Sentence},
		"throttled, and paused": {Health{Bad, "Throttled", "It asked to wait."}, paused, "It asked to wait. Postback crm is paused."},
		"gone":                  {Health{Bad, "Gone", "It answered 410."}, gone, gone.Sentence},
		"down":                  {Health{Bad, "Failed5xx", "The last 5 attempts failed."}, down, "The last 5 attempts failed. The endpoint is down; a probe is due."},
		"another reason":        {Health{Bad, "InvalidFilter", "The filter is wrong."}, asked, "The filter is wrong. " + asked.Sentence},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.health.Note(test.why); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
