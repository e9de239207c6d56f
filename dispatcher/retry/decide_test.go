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

package retry

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.MicroTime { return ptr.To(metav1.NewMicroTime(now.Add(d))) }
	enabled := &route.Route{State: v1alpha1.PostbackEnabled, Timeout: metav1.Duration{Duration: 10 * time.Second}}
	paused := &route.Route{State: v1alpha1.PostbackPaused, Timeout: enabled.Timeout}
	disabled := &route.Route{State: v1alpha1.PostbackDisabled, Timeout: enabled.Timeout}
	const (
		pending   = v1alpha1.DeliveryPending
		retrying  = v1alpha1.DeliveryRetrying
		delivered = v1alpha1.DeliveryDelivered
		failed    = v1alpha1.DeliveryFailed
	)
	tests := map[string]struct {
		route      *route.Route
		phase      v1alpha1.DeliveryPhase
		attempts   int32
		next       *metav1.MicroTime
		test       bool
		annotation string
		handled    string
		deleting   bool
		seen       time.Duration // Before now.
		deferred   bool
		passed     string
		passedDone string
		inherited  bool
		timeout    time.Duration
		want       decision
	}{
		"due":                                    {route: enabled, phase: retrying, attempts: 1, next: at(0), want: decision{Attempt: true}},
		"overdue by a year":                      {route: enabled, phase: retrying, attempts: 1, next: at(-8760 * time.Hour), want: decision{Attempt: true}},
		"not due":                                {route: enabled, phase: retrying, attempts: 1, next: at(12 * time.Second), want: decision{After: 12 * time.Second}},
		"a microsecond early":                    {route: enabled, phase: retrying, attempts: 1, next: at(time.Microsecond), want: decision{After: time.Microsecond}},
		"due in a day":                           {route: enabled, phase: retrying, attempts: 9, next: at(24 * time.Hour), want: decision{After: longestWait}},
		"clock jumped back":                      {route: enabled, phase: retrying, attempts: 9, next: at(240 * time.Hour), want: decision{Attempt: true}},
		"no route":                               {phase: retrying, attempts: 1, next: at(0)},
		"paused":                                 {route: paused, phase: retrying, attempts: 1, next: at(0)},
		"disabled":                               {route: disabled, phase: retrying, attempts: 1, next: at(0)},
		"being deleted":                          {route: enabled, phase: retrying, attempts: 1, next: at(0), deleting: true},
		"delivered":                              {route: enabled, phase: delivered, attempts: 1},
		"failed":                                 {route: enabled, phase: failed, attempts: 1},
		"first attempt is another's":             {route: enabled, phase: pending, want: decision{After: 20 * time.Second}},
		"first attempt is another's, still":      {route: enabled, phase: pending, seen: 19 * time.Second, want: decision{After: time.Second}},
		"first attempt is taken over":            {route: enabled, phase: pending, seen: 20 * time.Second, want: decision{Attempt: true, Cause: attempt.Cause{TakenOver: true}}},
		"timeout shortened meanwhile":            {route: enabled, phase: pending, seen: 20 * time.Second, timeout: 30 * time.Second, want: decision{After: 20 * time.Second}},
		"deferred, such as while paused":         {route: enabled, phase: pending, deferred: true, want: decision{Attempt: true}},
		"deferred, and still paused":             {route: paused, phase: pending, deferred: true},
		"test event":                             {route: enabled, phase: pending, test: true, want: decision{Attempt: true, Manual: true}},
		"test event of a paused one":             {route: paused, phase: pending, test: true, want: decision{Attempt: true, Manual: true}},
		"test event of a disabled one":           {route: disabled, phase: pending, test: true, want: decision{Attempt: true, Manual: true}},
		"test event without a route":             {phase: pending, test: true},
		"redeliver a delivered one":              {route: enabled, phase: delivered, attempts: 1, annotation: "first", want: decision{Attempt: true, Cause: attempt.Cause{Request: delivery.Request{Redeliver: "first"}}, Manual: true}},
		"redeliver a failed one":                 {route: enabled, phase: failed, attempts: 1, annotation: "second", handled: "first", want: decision{Attempt: true, Cause: attempt.Cause{Request: delivery.Request{Redeliver: "second"}}, Manual: true}},
		"redeliver a waiting one":                {route: enabled, phase: retrying, attempts: 1, next: at(time.Hour), annotation: "first", want: decision{Attempt: true, Cause: attempt.Cause{Request: delivery.Request{Redeliver: "first"}}, Manual: true}},
		"redeliver while paused":                 {route: paused, phase: delivered, attempts: 1, annotation: "first", want: decision{Attempt: true, Cause: attempt.Cause{Request: delivery.Request{Redeliver: "first"}}, Manual: true}},
		"redeliver without a route":              {phase: delivered, attempts: 1, annotation: "first", want: decision{ForRoute: true, After: longestWait}},
		"redelivered already":                    {route: enabled, phase: delivered, attempts: 1, annotation: "first", handled: "first"},
		"redelivered, and waiting again":         {route: enabled, phase: retrying, attempts: 1, next: at(time.Hour), annotation: "first", handled: "first", want: decision{After: longestWait}},
		"asked for by the Postback":              {route: enabled, phase: failed, attempts: 3, passed: "in bulk", want: decision{Attempt: true, Cause: attempt.Cause{Request: delivery.Request{FromPostback: "in bulk"}}}},
		"asked for by the Postback while paused": {route: paused, phase: failed, attempts: 3, passed: "in bulk", want: decision{ForRoute: true, After: longestWait}},
		"waiting, asked for by the Postback while paused": {route: paused, phase: retrying, attempts: 3, next: at(time.Hour), passed: "in bulk"},
		"answered the Postback":                           {route: enabled, phase: failed, attempts: 3, passed: "in bulk", passedDone: "in bulk"},
		"due before a takeover":                           {route: enabled, phase: retrying, attempts: 1, next: at(-time.Second), inherited: true, want: decision{Attempt: true, Cause: attempt.Cause{TakenOver: true}}},
		"due after a takeover":                            {route: enabled, phase: retrying, attempts: 1, next: at(0), inherited: true, want: decision{Attempt: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := &v1alpha1.PostbackDelivery{
				Spec: v1alpha1.PostbackDeliverySpec{Test: test.test},
				Status: v1alpha1.PostbackDeliveryStatus{
					Phase: test.phase, AttemptCount: test.attempts, NextAttemptTime: test.next, LastHandledRedeliver: test.handled,
					LastHandledRedeliverFromPostback: test.passedDone,
				},
			}
			d.Annotations = map[string]string{v1alpha1.RedeliverAnnotation: test.annotation, v1alpha1.PassedRedeliverAnnotation: test.passed}
			if test.deferred {
				d.Annotations[v1alpha1.DeferredAnnotation] = string(v1alpha1.PostbackPaused)
			}
			seen := sighting{at: now.Add(-test.seen), timeout: test.timeout}
			if test.inherited {
				seen.inherited = now
			}
			if test.deleting {
				d.DeletionTimestamp = ptr.To(metav1.NewTime(now))
			}
			if got := decide(d, test.route, seen, now); got != test.want {
				t.Errorf("decide() = %+v, want %+v", got, test.want)
			}
			cached, err := unfinished.CacheOptions(watched.Namespaces{}).Transform(d)
			if err != nil {
				t.Fatal(err)
			}
			if got := decide(cached.(*v1alpha1.PostbackDelivery), test.route, seen, now); got != test.want {
				t.Errorf("decide() = %+v for what the cache holds, want %+v", got, test.want)
			}
		})
	}
}

func TestLeaseRunsOut(t *testing.T) {
	e := &Election{LeaseDuration: time.Minute}
	e.elected.Store(true)
	if e.HoldsLease() {
		t.Error("a Lease that was never written is held")
	}
	for age, want := range map[time.Duration]bool{0: true, 59 * time.Second: true, time.Minute: false, time.Hour: false} {
		t.Run(fmt.Sprint(age), func(t *testing.T) {
			if e.renewed(time.Now().Add(-age)); e.HoldsLease() != want {
				t.Errorf("a Lease that was renewed %s ago is held: %t, want %t", age, e.HoldsLease(), want)
			}
		})
	}
}
