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

package delivery

import (
	"fmt"
	"math"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func TestDelay(t *testing.T) {
	published := map[int32]time.Duration{
		1: 12 * time.Second, 2: 148 * time.Second, 3: 1808 * time.Second, 4: 22026 * time.Second, 5: 24 * time.Hour,
	}
	for attempt := int32(1); attempt <= 40; attempt++ {
		formula := time.Duration(math.Min(86400, math.Floor(math.Exp(2.5*float64(attempt))))) * time.Second
		if got := Delay(attempt); got != formula {
			t.Errorf("Delay(%d) = %s, the formula says %s", attempt, got, formula)
		}
		if want, ok := published[attempt]; ok && Delay(attempt) != want {
			t.Errorf("Delay(%d) = %s, published is %s", attempt, Delay(attempt), want)
		}
	}
	if Delay(0) != 12*time.Second || Delay(-1) != 12*time.Second || Delay(math.MaxInt32) != 24*time.Hour {
		t.Error("Delay is wrong out of range")
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// step is one attempt of a delivery, and the status after it.
type step struct {
	outcome   v1alpha1.Outcome
	redeliver string
	after     time.Duration // since the beginning

	phase v1alpha1.DeliveryPhase
	next  time.Duration // after the attempt's end; 0: none
	round int32
}

func TestApply(t *testing.T) {
	const (
		ok   = v1alpha1.OutcomeSucceeded
		fail = v1alpha1.OutcomeFailed5xx

		delivered = v1alpha1.DeliveryDelivered
		retrying  = v1alpha1.DeliveryRetrying
		failed    = v1alpha1.DeliveryFailed
	)
	tests := map[string]struct {
		route route.Route
		steps []step
	}{
		"delivered at once": {steps: []step{{outcome: ok, phase: delivered, round: 1}}},
		"delivered after failures": {steps: []step{
			{outcome: fail, phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: fail, phase: retrying, next: 148 * time.Second, round: 2, after: 12 * time.Second},
			{outcome: ok, phase: delivered, round: 3, after: time.Hour},
		}},
		"maxAttempts": {route: route.Route{MaxAttempts: 2}, steps: []step{
			{outcome: fail, phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: fail, phase: failed, round: 2},
		}},
		"the last allowed attempt succeeds": {route: route.Route{MaxAttempts: 2}, steps: []step{
			{outcome: fail, phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: ok, phase: delivered, round: 2},
		}},
		"giveUpAfter": {route: route.Route{GiveUpAfter: metav1.Duration{Duration: time.Minute}}, steps: []step{
			{outcome: fail, phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: fail, phase: failed, round: 2, after: 12 * time.Second},
		}},
		"redelivery of a failed one begins a new round": {route: route.Route{MaxAttempts: 1}, steps: []step{
			{outcome: fail, phase: failed, round: 1},
			{outcome: fail, redeliver: "request-1", phase: failed, round: 1, after: time.Hour},
			{outcome: ok, redeliver: "request-2", phase: delivered, round: 1, after: 2 * time.Hour},
		}},
		"redelivery of a delivered one that fails is retried": {steps: []step{
			{outcome: ok, phase: delivered, round: 1},
			{outcome: fail, redeliver: "request-1", phase: retrying, next: 12 * time.Second, round: 1, after: time.Hour},
			{outcome: ok, phase: delivered, round: 2, after: 2 * time.Hour},
		}},
		"redelivery in the middle of retries": {steps: []step{
			{outcome: fail, phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: fail, phase: retrying, next: 148 * time.Second, round: 2},
			{outcome: fail, redeliver: "request-1", phase: retrying, next: 12 * time.Second, round: 1},
		}},
		"a token that was handled begins no round": {steps: []step{
			{outcome: fail, redeliver: "request-1", phase: retrying, next: 12 * time.Second, round: 1},
			{outcome: fail, redeliver: "request-1", phase: retrying, next: 148 * time.Second, round: 2},
		}},
		"a late failure does not undo a success": {steps: []step{
			{outcome: ok, phase: delivered, round: 1},
			{outcome: v1alpha1.OutcomeTimeout, phase: delivered, round: 2},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
			for i, s := range test.steps {
				applyStep(t, d, &test.route, i, s)
			}
		})
	}
}

// No outcome ends a delivery, and the installation's own faults do not count (knative/eventing#4453,
// hookdeck/outpost#571).
func TestEveryFailureIsTriedAgain(t *testing.T) {
	for _, outcome := range v1alpha1.Outcomes {
		if outcome == v1alpha1.OutcomeSucceeded {
			continue
		}
		t.Run(string(outcome), func(t *testing.T) {
			d := &v1alpha1.PostbackDelivery{}
			Apply(d, &route.Route{}, v1alpha1.Attempt{Time: metav1.NewMicroTime(start), Outcome: outcome}, Request{})
			// After a 410 there is no time for the next attempt.
			waits := outcome == v1alpha1.OutcomeGone
			if next := d.Status.NextAttemptTime; d.Status.Phase != v1alpha1.DeliveryRetrying || (next == nil) != waits {
				t.Errorf("phase %s, next attempt at %v", d.Status.Phase, next)
			}
			if want := map[bool]int32{true: 0, false: 1}[outcome.Ours()]; d.Status.Round.Attempts != want {
				t.Errorf("%d attempts count, want %d", d.Status.Round.Attempts, want)
			}
		})
	}
}

func applyStep(t *testing.T, d *v1alpha1.PostbackDelivery, r *route.Route, i int, s step) {
	t.Helper()
	begin := start.Add(s.after + time.Duration(i)*time.Millisecond)
	const took = 250 * time.Millisecond
	Apply(d, r, v1alpha1.Attempt{
		Time: metav1.NewMicroTime(begin), Duration: metav1.Duration{Duration: took}, Outcome: s.outcome, StatusCode: ptr.To[int32](200),
	}, Request{Redeliver: s.redeliver})
	status := d.Status
	if status.Phase != s.phase || status.Round.Attempts != s.round || status.AttemptCount != int32(i+1) {
		t.Errorf("after attempt %d: phase %s, round %d, count %d; want %s, %d, %d", i+1,
			status.Phase, status.Round.Attempts, status.AttemptCount, s.phase, s.round, i+1)
	}
	switch {
	case s.next == 0 && status.NextAttemptTime != nil:
		t.Errorf("after attempt %d: next attempt at %s, want none", i+1, status.NextAttemptTime)
	case s.next != 0 && (status.NextAttemptTime == nil || !status.NextAttemptTime.Time.Equal(begin.Add(took+s.next))):
		t.Errorf("after attempt %d: next attempt at %v, want %s", i+1, status.NextAttemptTime, begin.Add(took+s.next))
	}
	if status.Phase.Finished() != (status.CompletionTime != nil) {
		t.Errorf("after attempt %d: phase %s with completionTime %v", i+1, status.Phase, status.CompletionTime)
	}
	checkConditions(t, d)
}

// checkConditions compares the conditions, as kstatus reads them, with the phase.
func checkConditions(t *testing.T, d *v1alpha1.PostbackDelivery) {
	t.Helper()
	has := func(conditionType string) bool { return meta.IsStatusConditionTrue(d.Status.Conditions, conditionType) }
	phase := d.Status.Phase
	if has(v1alpha1.DeliveredCondition) != (phase == v1alpha1.DeliveryDelivered) ||
		has(v1alpha1.ReconcilingCondition) != (phase == v1alpha1.DeliveryRetrying) ||
		has(v1alpha1.StalledCondition) != (phase == v1alpha1.DeliveryFailed) {
		t.Errorf("phase %s with conditions %v", phase, d.Status.Conditions)
	}
}

func TestApplyKeepsTheNewestAttempts(t *testing.T) {
	d := &v1alpha1.PostbackDelivery{}
	for i := range 3 * v1alpha1.MaxRecordedAttempts {
		at := metav1.NewMicroTime(start.Add(time.Duration(i) * time.Hour))
		Apply(d, &route.Route{}, v1alpha1.Attempt{Time: at, Outcome: v1alpha1.OutcomeTimeout}, Request{})
	}
	before := d.DeepCopy()
	Apply(d, &route.Route{}, d.Status.Attempts[5], Request{})
	if !equality.Semantic.DeepEqual(before, d) {
		t.Error("an attempt that is in the log is added again")
	}
	got := d.Status.Attempts
	if len(got) != v1alpha1.MaxRecordedAttempts || d.Status.AttemptCount != 60 {
		t.Fatalf("%d attempts of %d kept", len(got), d.Status.AttemptCount)
	}
	for i, attempt := range got {
		if want := int32(41 + i); attempt.Number != want {
			t.Errorf("attempt %d has number %d, want %d", i, attempt.Number, want)
		}
	}
}

func TestNameIsStableAndShort(t *testing.T) {
	ref := v1alpha1.PostbackReference{Name: "crm", UID: "5e1f0a5c-0000-4000-8000-000000000000"}
	name := Name(ref, "evt_1")
	if name != Name(ref, "evt_1") {
		t.Error("the same event has two names")
	}
	for _, other := range []string{
		Name(ref, "evt_2"),
		Name(v1alpha1.PostbackReference{Name: "crm", UID: "5e1f0a5c-0000-4000-8000-000000000001"}, "evt_1"),
	} {
		if name == other {
			t.Error("different events share a name")
		}
	}
	long := v1alpha1.PostbackReference{Name: fmt.Sprintf("%063d", 0), UID: ref.UID}
	if got := Name(long, "evt_1"); len(got) > 253 {
		t.Errorf("name of %d characters", len(got))
	}
}
