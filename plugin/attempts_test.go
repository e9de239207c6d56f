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
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The Postback has the reason why an attempt waits. It may be seen before or after the delivery, and the reason is
// printed once both are known.
func TestProgressOfATestEvent(t *testing.T) {
	now := time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)
	in := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(d)) }
	postback := func(wait *v1alpha1.EndpointWait) *v1alpha1.Postback {
		return &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Name: "crm"}, Status: v1alpha1.PostbackStatus{Waiting: wait}}
	}
	asked := func(d time.Duration) *v1alpha1.Postback {
		return postback(&v1alpha1.EndpointWait{Reason: v1alpha1.WaitRetryAfter, Until: ptr.To(in(d))})
	}
	delivery := func(phase v1alpha1.DeliveryPhase, outcomes ...v1alpha1.Outcome) *v1alpha1.PostbackDelivery {
		d := &v1alpha1.PostbackDelivery{Spec: v1alpha1.PostbackDeliverySpec{Test: true}}
		d.Status.Phase, d.Status.AttemptCount = phase, int32(len(outcomes))
		for i, outcome := range outcomes {
			d.Status.Attempts = append(d.Status.Attempts, v1alpha1.Attempt{Number: int32(i + 1), Outcome: outcome, Duration: metav1.Duration{Duration: 7 * time.Millisecond}})
		}
		if phase == v1alpha1.DeliveryRetrying {
			d.Status.NextAttemptTime = ptr.To(metav1.NewMicroTime(now.Add(12 * time.Second)))
		}
		return d
	}
	const (
		succeeded, failed = v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeFailed5xx
		pending           = v1alpha1.DeliveryPending
	)
	for name, test := range map[string]struct {
		toTheEnd bool
		seen     []client.Object
		lines    []string
		done     bool
	}{
		"nothing seen":                         {},
		"the first attempt is due":             {seen: []client.Object{delivery(pending)}},
		"the first attempt succeeded":          {seen: []client.Object{delivery(v1alpha1.DeliveryDelivered, succeeded)}, lines: []string{"attempt 1: Succeeded, took 7ms"}, done: true},
		"the first attempt failed":             {seen: []client.Object{delivery(v1alpha1.DeliveryRetrying, failed)}, lines: []string{"attempt 1: Failed5xx, took 7ms", "next attempt in 12s"}, done: true},
		"a pause beyond the deadline":          {seen: []client.Object{asked(time.Hour), delivery(pending)}, lines: []string{"waits: The endpoint asked to wait until 06:00:00 UTC."}, done: true},
		"the pause is known later":             {seen: []client.Object{delivery(pending), postback(nil), asked(time.Hour)}, lines: []string{"waits: The endpoint asked to wait until 06:00:00 UTC."}, done: true},
		"a pause that ends before":             {seen: []client.Object{delivery(pending), asked(20 * time.Second)}, lines: []string{"waits: The endpoint asked to wait until 05:00:20 UTC."}},
		"the same reason twice":                {seen: []client.Object{delivery(pending), asked(20 * time.Second), asked(20 * time.Second)}, lines: []string{"waits: The endpoint asked to wait until 05:00:20 UTC."}},
		"a reason that changes":                {seen: []client.Object{delivery(pending), asked(20 * time.Second), asked(30 * time.Second)}, lines: []string{"waits: The endpoint asked to wait until 05:00:20 UTC.", "waits: The endpoint asked to wait until 05:00:30 UTC."}},
		"to the end: a failure":                {toTheEnd: true, seen: []client.Object{delivery(v1alpha1.DeliveryRetrying, failed)}, lines: []string{"attempt 1: Failed5xx, took 7ms", "next attempt in 12s"}},
		"to the end: the Postback changes":     {toTheEnd: true, seen: []client.Object{delivery(v1alpha1.DeliveryRetrying, failed), postback(nil)}, lines: []string{"attempt 1: Failed5xx, took 7ms", "next attempt in 12s"}},
		"to the end: two failures":             {toTheEnd: true, seen: []client.Object{delivery(v1alpha1.DeliveryRetrying, failed), delivery(v1alpha1.DeliveryRetrying, failed, failed)}, lines: []string{"attempt 1: Failed5xx, took 7ms", "next attempt in 12s", "attempt 2: Failed5xx, took 7ms", "next attempt in 12s"}},
		"to the end: a failure, then accepted": {toTheEnd: true, seen: []client.Object{delivery(v1alpha1.DeliveryRetrying, failed), delivery(v1alpha1.DeliveryDelivered, failed, succeeded)}, lines: []string{"attempt 1: Failed5xx, took 7ms", "next attempt in 12s", "attempt 2: Succeeded, took 7ms"}, done: true},
	} {
		t.Run(name, func(t *testing.T) {
			progress := &progress{postback: postback(nil), deadline: now.Add(time.Minute), toTheEnd: test.toTheEnd}
			var lines []string
			done := false
			for _, object := range test.seen {
				if done {
					t.Fatalf("done before %T is seen", object)
				}
				progress.see(object)
				var news []string
				news, done = progress.news(now)
				lines = append(lines, news...)
			}
			if !slices.Equal(lines, test.lines) || done != test.done {
				t.Errorf("%q, done %v; want %q, %v", lines, done, test.lines, test.done)
			}
		})
	}
}
