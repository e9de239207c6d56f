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

package plugin

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// NEXT is the time of the next real attempt, not the delivery's schedule.
func TestNextTellsWhenADeliveryIsTried(t *testing.T) {
	now := time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)
	late := &v1alpha1.PostbackDelivery{}
	late.Status.Phase, late.Status.AttemptCount = v1alpha1.DeliveryRetrying, 1
	late.Status.NextAttemptTime = ptr.To(metav1.NewMicroTime(now.Add(-23 * time.Minute)))
	in := func(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(now.Add(d))) }
	for want, p := range map[string]*v1alpha1.Postback{
		"now":      {},
		"paused":   {Spec: v1alpha1.PostbackSpec{State: v1alpha1.PostbackPaused}},
		"disabled": {Spec: v1alpha1.PostbackSpec{State: v1alpha1.PostbackDisabled}},
		"in 41m":   {Status: v1alpha1.PostbackStatus{Waiting: &v1alpha1.EndpointWait{Reason: v1alpha1.WaitCircuitOpen, Until: in(41 * time.Minute)}}},
		"in 33m":   {Status: v1alpha1.PostbackStatus{Waiting: &v1alpha1.EndpointWait{Reason: v1alpha1.WaitRetryAfter, Until: in(33 * time.Minute)}}},
		"gone":     {Status: v1alpha1.PostbackStatus{Waiting: &v1alpha1.EndpointWait{Reason: v1alpha1.WaitGone}}},
	} {
		t.Run(want, func(t *testing.T) {
			if got := nextText(waiting.For(waiting.Of(late), p, now), now); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	if got := nextText(waiting.For(waiting.Of(late), nil, now), now); got != "no postback" {
		t.Errorf("without a Postback: %q", got)
	}
}

// Only a delivery that waits for nothing but its turn makes the dispatcher late.
func TestWaitCounts(t *testing.T) {
	d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()}}
	c := &waitCounts{}
	for _, reason := range []waiting.Reason{waiting.Paused, waiting.CircuitOpen, waiting.CircuitOpen, waiting.Scheduled, ""} {
		c.add(d, waiting.Why{Reason: reason})
	}
	if got, want := c.text(), "; 3 wait: 1 Paused, 2 CircuitOpen"; got != want || !c.oldestDue.IsZero() {
		t.Errorf("%q since %s, want %q and nothing due", got, c.oldestDue, want)
	}
	c.add(d, waiting.Why{Reason: waiting.InTurn})
	if !c.oldestDue.Equal(d.CreationTimestamp.Time) {
		t.Errorf("due since %s", c.oldestDue)
	}
}
