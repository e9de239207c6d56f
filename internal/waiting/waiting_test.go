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
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var noon = time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)

type change func(p *v1alpha1.Postback)

func state(s v1alpha1.PostbackState) change { return func(p *v1alpha1.Postback) { p.Spec.State = s } }

func wait(reason v1alpha1.EndpointWaitReason, after time.Duration) change {
	return func(p *v1alpha1.Postback) {
		p.Status.Waiting = &v1alpha1.EndpointWait{Reason: reason}
		if after != 0 {
			p.Status.Waiting.Until = &metav1.Time{Time: noon.Add(after)}
		}
	}
}

func notReady(reason, host string) change {
	return func(p *v1alpha1.Postback) {
		p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ReadyCondition, Status: metav1.ConditionFalse, Reason: reason}}
		p.Status.EndpointHost = host
	}
}

func TestFor(t *testing.T) {
	pending := Delivery{Phase: v1alpha1.DeliveryPending}
	late := Delivery{Phase: v1alpha1.DeliveryRetrying, Attempts: 3, Scheduled: noon.Add(-23 * time.Minute)}
	soon := Delivery{Phase: v1alpha1.DeliveryRetrying, Attempts: 3, Scheduled: noon.Add(30 * time.Minute)}
	gone := Delivery{Phase: v1alpha1.DeliveryRetrying, Attempts: 1}
	asked := Delivery{Phase: v1alpha1.DeliveryFailed, Attempts: 3, Asked: true}
	// A request for many deliveries at once overrides only the schedule.
	inBulk := Delivery{Phase: v1alpha1.DeliveryFailed, Attempts: 3, InBulk: true}
	scheduledInBulk := soon
	scheduledInBulk.InBulk = true
	test := Delivery{Phase: v1alpha1.DeliveryPending, Test: true}
	const never = -1
	for name, test := range map[string]struct {
		delivery Delivery
		postback change
		reason   Reason
		sentence string
		next     time.Duration // from noon
	}{
		"delivered": {delivery: Delivery{Phase: v1alpha1.DeliveryDelivered}},
		"failed":    {delivery: Delivery{Phase: v1alpha1.DeliveryFailed}, postback: wait(v1alpha1.WaitGone, 0)},
		"due":       {pending, nil, InTurn, "The attempt is due.", 0},
		"scheduled": {soon, nil, Scheduled, "The next attempt is scheduled for 05:30:00 UTC.", 30 * time.Minute},

		"paused":                  {pending, state(v1alpha1.PostbackPaused), Paused, "Postback crm is paused.", never},
		"paused, scheduled":       {soon, state(v1alpha1.PostbackPaused), Paused, "Postback crm is paused.", never},
		"disabled":                {late, state(v1alpha1.PostbackDisabled), Disabled, "Postback crm is disabled.", never},
		"asked of a paused one":   {asked, state(v1alpha1.PostbackPaused), InTurn, "The attempt is due.", 0},
		"a test of a paused one":  {test, state(v1alpha1.PostbackPaused), InTurn, "The attempt is due.", 0},
		"down, due":               {late, wait(v1alpha1.WaitCircuitOpen, 41*time.Minute+10*time.Second), CircuitOpen, "The endpoint is down; the next probe is at 05:41:10 UTC.", 41*time.Minute + 10*time.Second},
		"down, never tried":       {pending, wait(v1alpha1.WaitCircuitOpen, time.Minute), CircuitOpen, "The endpoint is down; the next probe is at 05:01:00 UTC.", time.Minute},
		"down, probe due":         {late, wait(v1alpha1.WaitCircuitOpen, -time.Minute), CircuitOpen, "The endpoint is down; a probe is due.", 0},
		"down, scheduled later":   {soon, wait(v1alpha1.WaitCircuitOpen, time.Minute), Scheduled, "The next attempt is scheduled for 05:30:00 UTC.", 30 * time.Minute},
		"down, scheduled earlier": {soon, wait(v1alpha1.WaitCircuitOpen, 41*time.Minute), CircuitOpen, "The endpoint is down; the next probe is at 05:41:00 UTC.", 41 * time.Minute},
		"down, asked":             {asked, wait(v1alpha1.WaitCircuitOpen, time.Minute), InTurn, "The attempt is due.", 0},
		"asked to wait":           {pending, wait(v1alpha1.WaitRetryAfter, 33*time.Minute), RetryAfter, "The endpoint asked to wait until 05:33:00 UTC.", 33 * time.Minute},
		"asked to wait a day":     {pending, wait(v1alpha1.WaitRetryAfter, 24*time.Hour), RetryAfter, "The endpoint asked to wait until 2026-03-02 05:00:00 UTC.", 24 * time.Hour},
		"asked, and told to wait": {asked, wait(v1alpha1.WaitRetryAfter, time.Minute), RetryAfter, "The endpoint asked to wait until 05:01:00 UTC.", time.Minute},
		"the pause is over":       {pending, wait(v1alpha1.WaitRetryAfter, -time.Minute), InTurn, "The attempt is due.", 0},
		"gone":                    {gone, wait(v1alpha1.WaitGone, 0), Gone, "The endpoint answered 410 (Gone): its deliveries wait until spec changes, or until somebody sends a test event or redelivers one of them.", never},
		"gone, scheduled":         {soon, wait(v1alpha1.WaitGone, 0), Gone, "The endpoint answered 410 (Gone): its deliveries wait until spec changes, or until somebody sends a test event or redelivers one of them.", never},
		"gone, in bulk":           {inBulk, wait(v1alpha1.WaitGone, 0), Gone, "The endpoint answered 410 (Gone): its deliveries wait until spec changes, or until somebody sends a test event or redelivers one of them.", never},
		"paused, in bulk":         {inBulk, state(v1alpha1.PostbackPaused), Paused, "Postback crm is paused.", never},
		"scheduled, in bulk":      {scheduledInBulk, nil, InTurn, "The attempt is due.", 0},
		"gone, asked":             {asked, wait(v1alpha1.WaitGone, 0), InTurn, "The attempt is due.", 0},

		"no route":         {pending, notReady(v1alpha1.SecretNotFoundReason, ""), NoRoute, "Postback crm has no route yet (SecretNotFound).", never},
		"last good route":  {pending, notReady(v1alpha1.InvalidHeaderReason, "crm.example.com"), InTurn, "The attempt is due.", 0},
		"no dispatcher":    {soon, notReady(v1alpha1.NoDispatcherReason, "crm.example.com"), NoDispatcher, "No dispatcher replica is running.", never},
		"no such Postback": {pending, func(p *v1alpha1.Postback) { p.Name = "" }, NoPostback, "Its Postback no longer exists.", never},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1alpha1.Postback{}
			p.Name = "crm"
			if test.postback != nil {
				test.postback(p)
			}
			if p.Name == "" {
				p = nil
			}
			want := Why{test.reason, test.sentence, noon.Add(test.next)}
			if test.next == never || test.reason == "" {
				want.Next = time.Time{}
			}
			if got := For(test.delivery, p, noon); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestBehind(t *testing.T) {
	for others, want := range map[int]string{0: "The attempt is due.", 1: "The attempt is due, behind 1 other.", 12: "The attempt is due, behind 12 others."} {
		t.Run(fmt.Sprintf("behind %d", others), func(t *testing.T) {
			if got := (Why{Reason: InTurn, Sentence: "The attempt is due."}).Behind(others).Sentence; got != want {
				t.Errorf("behind %d: %q, want %q", others, got, want)
			}
		})
	}
	if got := (Why{Reason: Paused, Sentence: "Postback crm is paused."}).Behind(7).Sentence; got != "Postback crm is paused." {
		t.Errorf("paused: %q", got)
	}
}

func TestPausedOutranksAnOpenCircuit(t *testing.T) {
	p := &v1alpha1.Postback{}
	p.Name = "crm"
	wait(v1alpha1.WaitCircuitOpen, time.Minute)(p)
	if got := Postback(p, noon).Reason; got != CircuitOpen {
		t.Errorf("%s, want %s", got, CircuitOpen)
	}
	state(v1alpha1.PostbackPaused)(p)
	if got := Postback(p, noon).Reason; got != Paused {
		t.Errorf("%s, want %s", got, Paused)
	}
}

// Requests for many deliveries and for one are distinguished. Neither counts after it is handled.
func TestRequested(t *testing.T) {
	d := &v1alpha1.PostbackDelivery{}
	d.Annotations = map[string]string{v1alpha1.PassedRedeliverAnnotation: "1"}
	if of := Of(d); of.Asked || !of.InBulk {
		t.Errorf("a request for many: %+v", of)
	}
	d.Status.LastHandledRedeliverFromPostback = v1alpha1.HandledToken("1")
	d.Annotations[v1alpha1.RedeliverAnnotation] = "2"
	if of := Of(d); !of.Asked || of.InBulk {
		t.Errorf("a request by name: %+v", of)
	}
}
