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

package controllers

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// checkReadiness checks the state and the reason of a readiness, and a part of its message.
func checkReadiness(t *testing.T, got *readiness, want state, reason, message string) {
	t.Helper()
	if got == nil {
		t.Fatalf("no readiness, want %s %s", want, reason)
	}
	if got.state != want || got.reason != reason || !strings.Contains(got.message, message) {
		t.Errorf("got %s %s: %s; want %s %s: %s", got.state, got.reason, got.message, want, reason, message)
	}
}

// publishedSecret returns the Secret of a route in a version.
func publishedSecret(version string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
}

// onlyEvent returns the one Kubernetes Event that was emitted, or "".
func onlyEvent(t *testing.T, recorder *events.FakeRecorder) string {
	t.Helper()
	if len(recorder.Events) > 1 {
		t.Fatalf("%d events, want at most one", len(recorder.Events))
	}
	select {
	case event := <-recorder.Events:
		return event
	default:
		return ""
	}
}

// TestConditionTestEvent covers each refusal of a test event, and their precedence.
func TestConditionTestEvent(t *testing.T) {
	for name, test := range map[string]struct {
		eventType string
		data      string // "" means no annotation
		reason    string // "" means no refusal
		names     []string
	}{
		"a selected type":                        {eventType: "lead.created"},
		"a selected type with data":              {eventType: "sale.created", data: `{"amount":1}`},
		"no event type":                          {eventType: "lead created", reason: "InvalidEventType", names: []string{v1alpha1.SendTestAnnotation, `"lead created"`, "<event type>/<token>"}},
		"an empty type":                          {eventType: "", reason: "InvalidEventType", names: []string{v1alpha1.SendTestAnnotation, "<event type>/<token>"}},
		"a type that no trigger selects":         {eventType: "commission.created", reason: "NotSubscribed", names: []string{"spec.triggers", "commission.created", "add one", "<event type>/<token>"}},
		"data that is no object":                 {eventType: "lead.created", data: `[1]`, reason: "InvalidData", names: []string{v1alpha1.SendTestDataAnnotation, "must be an object", "Correct or remove it", "set another token"}},
		"an invalid type before invalid data":    {eventType: "sale.*", data: `[1]`, reason: "InvalidEventType", names: []string{v1alpha1.SendTestAnnotation}},
		"an unselected type before invalid data": {eventType: "commission.created", data: `[1]`, reason: "NotSubscribed", names: []string{"spec.triggers"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(0, nil)
			if test.data != "" {
				s.postback.Annotations = map[string]string{v1alpha1.SendTestDataAnnotation: test.data}
			}
			data, refused := testEventData(s.postback, test.eventType)
			if test.reason == "" {
				if refused != nil || len(data) == 0 {
					t.Fatalf("refused %+v, data %q", refused, data)
				}
				return
			}
			if refused == nil || data != nil {
				t.Fatalf("data %q, refused %+v; want %s", data, refused, test.reason)
			}
			refused.handled = "token"
			s.testEvent = refused
			observeTestEvent(s, conditionSetter{&s.postback.Status.Conditions, s.postback.Generation, s.now})
			condition := conditionNamed(t, s.postback.Status.Conditions, v1alpha1.TestEventCondition)
			checkAnswer(t, condition, metav1.ConditionFalse, test.reason, test.names...)
			if s.postback.Status.LastHandledSendTest != "token" {
				t.Errorf("handled %q", s.postback.Status.LastHandledSendTest)
			}
		})
	}
}

// TestConditionTestEventOfOnePass covers a pass without a request, one that stored a test event, and one that refused it.
func TestConditionTestEventOfOnePass(t *testing.T) {
	const stored, refused = "The test event is stored.", "The annotation is refused."
	for name, test := range map[string]struct {
		answer *testEventResult
		status metav1.ConditionStatus // "" means no condition
		reason string
		event  string
	}{
		"no request": {},
		"a stored test event": {
			&testEventResult{handled: "lead.created/2", stored: true, reason: v1alpha1.TestEventStoredReason, message: stored},
			metav1.ConditionTrue, "Stored", "Normal TestEventStored " + stored,
		},
		"a refused test event": {
			&testEventResult{handled: "lead.created/2", reason: v1alpha1.TestEventInvalidDataReason, message: refused},
			metav1.ConditionFalse, "InvalidData", "Warning TestEventRefused " + refused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(0, nil)
			s.postback.Status.LastHandledSendTest = "lead.created/1"
			s.testEvent = test.answer
			observeTestEvent(s, conditionSetter{&s.postback.Status.Conditions, s.postback.Generation, s.now})
			recorder := events.NewFakeRecorder(2)
			(&PostbackReconciler{Events: recorder}).recordTestEvent(s)
			if got := onlyEvent(t, recorder); got != test.event {
				t.Errorf("event %q, want %q", got, test.event)
			}
			if test.status == "" {
				if len(s.postback.Status.Conditions) > 0 || s.postback.Status.LastHandledSendTest != "lead.created/1" {
					t.Errorf("status %+v", s.postback.Status)
				}
				return
			}
			checkAnswer(t, conditionNamed(t, s.postback.Status.Conditions, v1alpha1.TestEventCondition), test.status, test.reason, test.answer.message)
			if s.postback.Status.LastHandledSendTest != "lead.created/2" {
				t.Errorf("handled %q", s.postback.Status.LastHandledSendTest)
			}
		})
	}
}

// checkAnswer checks a condition that the second pass set, and that its message contains the words.
func checkAnswer(t *testing.T, got metav1.Condition, status metav1.ConditionStatus, reason string, words ...string) {
	t.Helper()
	if got.Status != status || got.Reason != reason || got.ObservedGeneration != 2 {
		t.Errorf("%+v, want %s %s of generation 2", got, status, reason)
	}
	if want := secondPass.Truncate(time.Second); !got.LastTransitionTime.Time.Equal(want) {
		t.Errorf("lastTransitionTime %s, want %s", got.LastTransitionTime, want)
	}
	for _, word := range words {
		if !strings.Contains(got.Message, word) {
			t.Errorf("the message does not name %q: %s", word, got.Message)
		}
	}
}

// TestConditionRedelivery covers each reason of the condition that a new value of the annotation can give.
func TestConditionRedelivery(t *testing.T) {
	for name, test := range map[string]struct {
		value  string
		reason string
		since  string // "" means that the value is refused
		names  []string
		event  string
	}{
		"a duration":            {value: "24h/2", reason: "InProgress", since: "2026-02-28T12:01:30Z", names: []string{"since 2026-02-28T12:01:30Z"}},
		"a time":                {value: "2026-03-01T11:00:00Z", reason: "InProgress", since: "2026-03-01T11:00:00Z", names: []string{"since 2026-03-01T11:00:00Z"}},
		"neither":               {value: "yesterday", reason: "Invalid", names: []string{`"yesterday"`, "neither a duration nor a time"}},
		"a negative duration":   {value: "-1h", reason: "Invalid", names: []string{"not positive"}},
		"a time in the future":  {value: "2026-03-01T12:01:31Z", reason: "Invalid", names: []string{"in the future"}},
		"more than a year back": {value: "8761h", reason: "Invalid", names: []string{"more than a year"}},
		"a long value":          {value: strings.Repeat("x", 4000), reason: "Invalid", names: []string{`"` + strings.Repeat("x", maxShown) + `"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := statusScope(0, nil)
			earlier := metav1.NewTime(firstPass)
			s.postback.Status.Redelivery = &v1alpha1.Redelivery{Request: "1h", Since: &earlier, Requested: 7, CompletionTime: &earlier}
			s.acceptRedelivery(test.value)
			condition := conditionNamed(t, s.postback.Status.Conditions, v1alpha1.RedeliveryCondition)
			checkAnswer(t, condition, metav1.ConditionFalse, test.reason, test.names...)
			got := s.postback.Status.Redelivery
			if got.Request != v1alpha1.HandledToken(test.value) || got.Requested != 0 || got.CompletionTime != nil {
				t.Errorf("the status keeps a part of the earlier request: %+v", got)
			}
			if test.since != "" {
				if got.Since == nil || got.Since.UTC().Format(time.RFC3339Nano) != test.since || s.redeliveryEvent != nil {
					t.Errorf("%+v, event %+v; want since %s and no event", got, s.redeliveryEvent, test.since)
				}
				return
			}
			checkAnswer(t, condition, metav1.ConditionFalse, test.reason, v1alpha1.RedeliverSinceAnnotation, "such as 24h", "Set another value.")
			if want := (redeliveryEvent{corev1.EventTypeWarning, v1alpha1.RedeliveryRefusedReason, condition.Message}); got.Since != nil || s.redeliveryEvent == nil || *s.redeliveryEvent != want {
				t.Errorf("%+v, event %+v; want no since and %+v", got, s.redeliveryEvent, want)
			}
		})
	}
}

// A complete redelivery is True, with the number and the time. The next request starts again at False.
func TestConditionRedeliveryCompletes(t *testing.T) {
	s := statusScope(0, nil)
	s.acceptRedelivery("24h")
	s.postback.Status.Redelivery.Requested = 3
	s.completeRedelivery()
	condition := conditionNamed(t, s.postback.Status.Conditions, v1alpha1.RedeliveryCondition)
	checkAnswer(t, condition, metav1.ConditionTrue, "Complete", "since 2026-02-28T12:01:30Z", ": 3.")
	if got := s.postback.Status.Redelivery.CompletionTime; got == nil || !got.Time.Equal(secondPass.Truncate(time.Second)) {
		t.Errorf("completionTime %v", got)
	}
	if want := (redeliveryEvent{corev1.EventTypeNormal, v1alpha1.RedeliveryRequestedReason, condition.Message}); s.redeliveryEvent == nil || *s.redeliveryEvent != want {
		t.Errorf("event %+v, want %+v", s.redeliveryEvent, want)
	}
	s.acceptRedelivery("1h")
	if meta.IsStatusConditionTrue(s.postback.Status.Conditions, v1alpha1.RedeliveryCondition) {
		t.Errorf("still complete after a new request: %s", describe(s.postback.Status.Conditions))
	}
}
