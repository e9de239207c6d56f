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

package argocd

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Argo CD provides neither the string library nor files. A test that provides them would pass a script that fails in
// Argo CD.
func TestScriptFindsTheLibrariesOfArgoCD(t *testing.T) {
	for name, want := range map[string]string{
		"string": "nil", "io": "nil", "math": "nil", "debug": "nil", "coroutine": "nil",
		"table": "table", "os": "table", "os.time": "function", "os.date": "function",
		"os.execute": "nil", "os.remove": "nil", "os.getenv": "nil",
		"ipairs": "function", "require": "function", "package": "table",
	} {
		t.Run(name, func(t *testing.T) {
			health, err := run(`return {status = "Healthy", message = type(`+name+`)}`, nil)
			if err != nil || health.Message != want {
				t.Errorf("type(%s) is %q, want %q (%v)", name, health.Message, want, err)
			}
		})
	}
	t.Run("method of a string", func(t *testing.T) {
		if health, err := run(`return {status = "Healthy", message = ("A"):lower()}`, nil); err == nil {
			t.Errorf("a script calls a method of a string: %+v", health)
		}
	})
}

func TestHealthOfAReadyPostback(t *testing.T) {
	for state, want := range map[v1alpha1.PostbackState]Health{
		v1alpha1.PostbackEnabled:  {Healthy, "Signs and sends."},
		v1alpha1.PostbackPaused:   {Suspended, "It is paused."},
		v1alpha1.PostbackDisabled: {Suspended, "It is disabled."},
	} {
		t.Run(string(state), func(t *testing.T) {
			postback := &v1alpha1.Postback{}
			postback.Generation, postback.Status.ObservedGeneration, postback.Spec.State = 1, 1, state
			postback.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ReadyCondition, Status: metav1.ConditionTrue, Message: "Signs and sends."}}
			if health, err := Of("Postback", postback); err != nil || health != want {
				t.Errorf("%+v, want %+v (%v)", health, want, err)
			}
		})
	}
}

func TestHealthOfAPostbackWhoseEndpointFails(t *testing.T) {
	postback := &v1alpha1.Postback{}
	postback.Generation, postback.Status.ObservedGeneration, postback.Spec.State = 1, 1, v1alpha1.PostbackEnabled
	postback.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.ReadyCondition, Status: metav1.ConditionTrue, Message: "Signs and sends."},
		{Type: v1alpha1.EndpointHealthyCondition, Status: metav1.ConditionFalse, Message: "The last 7 attempts failed; most recent: HTTP 500."},
	}
	want := Health{Healthy, "The last 7 attempts failed; most recent: HTTP 500."}
	if health, err := Of("Postback", postback); err != nil || health != want {
		t.Errorf("%+v, want %+v (%v)", health, want, err)
	}
}

// The message of an unfinished delivery does not claim an attempt that is not made or a time that is unknown.
func TestHealthOfADeliveryThatWaits(t *testing.T) {
	next := ptr.To(metav1.NewMicroTime(time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)))
	for name, test := range map[string]struct {
		phase    v1alpha1.DeliveryPhase
		next     *metav1.MicroTime
		reason   string
		deferred string
		want     Health
	}{
		"not attempted":     {phase: v1alpha1.DeliveryPending, want: Health{Progressing, "It waits for its first attempt."}},
		"left to another":   {phase: v1alpha1.DeliveryPending, deferred: "true", want: Health{Progressing, "It waits for its first attempt."}},
		"paused":            {phase: v1alpha1.DeliveryPending, deferred: "Paused", want: Health{Suspended, "Its Postback was paused when the event was stored. It waits for its first attempt."}},
		"disabled":          {phase: v1alpha1.DeliveryPending, deferred: "Disabled", want: Health{Suspended, "Its Postback was disabled when the event was stored. It waits for its first attempt."}},
		"scheduled":         {phase: v1alpha1.DeliveryRetrying, next: next, reason: v1alpha1.RetryScheduledReason, want: Health{Progressing, "The next attempt is scheduled for 2026-03-01T05:00:00.000000Z."}},
		"attempted, paused": {phase: v1alpha1.DeliveryRetrying, next: next, deferred: "Paused", want: Health{Progressing, "The next attempt is scheduled for 2026-03-01T05:00:00.000000Z."}},
		"gone": {
			phase: v1alpha1.DeliveryRetrying, reason: v1alpha1.WaitingForEndpointReason,
			want: Health{Suspended, "The endpoint answered 410 (Gone). The delivery waits until the spec of its Postback changes, or until somebody sends a test event or redelivers one of its deliveries."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &v1alpha1.PostbackDelivery{}
			d.Status.Phase, d.Status.NextAttemptTime = test.phase, test.next
			if test.deferred != "" {
				d.Annotations = map[string]string{v1alpha1.DeferredAnnotation: test.deferred}
			}
			if test.reason != "" {
				d.Status.Conditions = []metav1.Condition{{Type: v1alpha1.DeliveredCondition, Status: metav1.ConditionFalse, Reason: test.reason}}
			}
			if health, err := Of("PostbackDelivery", d); err != nil || health != test.want {
				t.Errorf("%+v, want %+v (%v)", health, test.want, err)
			}
		})
	}
}
