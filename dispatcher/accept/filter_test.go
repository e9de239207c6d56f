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

package accept

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/tools/events"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/test/doors"
)

func TestFilters(t *testing.T) {
	large := doors.LooseRoute("acme", "a-large", "", "*")
	large.Filter = "event.data.amount > 100"
	disabled := doors.LooseRoute("acme", "b-disabled", "", "*")
	disabled.Filter, disabled.State = "true", v1alpha1.PostbackDisabled
	full := doors.LooseRoute("acme", "c-full", "", "*")
	full.Filter, full.MaxPending = "event.data.amount < 100", 1
	spoiled := doors.LooseRoute("acme", "d-spoiled", "", "*")
	spoiled.Filter = "event.data."
	all := doors.LooseRoute("acme", "e-all", "", "*")

	options, offered := testOptions(doors.Store{}, large, disabled, full, spoiled, all)
	options.Backlog = doors.Backlog{full.UID: 1}
	recorder := events.NewFakeRecorder(100)
	options.Events = recorder
	a := newAcceptor(t, options)
	failures := testutil.ToFloat64(filterFailures)

	got := accepted(t, a, `[{"id":"evt_large","event":"sale.created","data":{"amount":500}},{"id":"evt_small","event":"sale.created","data":{"amount":5}},{"id":"evt_without_amount","event":"sale.created","data":{"note":"hush"}}]`)
	expect(t, got, []DeliveryResult{
		{Postback: "a-large", Delivery: nameOf(large, "evt_large"), Result: intake.Stored},
		{Postback: "b-disabled", Result: intake.Skipped, Reason: Disabled},
		{Postback: "c-full", Result: intake.Skipped, Reason: FilteredOut},
		{Postback: "d-spoiled", Result: intake.Skipped, Reason: FilterFailed},
		{Postback: "e-all", Delivery: nameOf(all, "evt_large"), Result: intake.Stored},
	}, []DeliveryResult{
		{Postback: "a-large", Result: intake.Skipped, Reason: FilteredOut},
		{Postback: "b-disabled", Result: intake.Skipped, Reason: Disabled},
		{Postback: "c-full", Result: intake.Refused, Reason: BacklogFull},
		{Postback: "d-spoiled", Result: intake.Skipped, Reason: FilterFailed},
		{Postback: "e-all", Delivery: nameOf(all, "evt_small"), Result: intake.Stored},
	}, []DeliveryResult{
		{Postback: "a-large", Result: intake.Skipped, Reason: FilterFailed},
		{Postback: "b-disabled", Result: intake.Skipped, Reason: Disabled},
		{Postback: "c-full", Result: intake.Skipped, Reason: FilterFailed},
		{Postback: "d-spoiled", Result: intake.Skipped, Reason: FilterFailed},
		{Postback: "e-all", Delivery: nameOf(all, "evt_without_amount"), Result: intake.Stored},
	})
	if n := len(offered.Sorted()); n != 4 {
		t.Errorf("%d deliveries", n)
	}
	if n := testutil.ToFloat64(filterFailures) - failures; n != 5 {
		t.Errorf("%v failures are counted", n)
	}
	close(recorder.Events)
	notes := 0
	for note := range recorder.Events {
		notes++
		if !strings.HasPrefix(note, "Warning FilterFailed spec.filter fails on an event of type sale.created") || strings.Contains(note, "hush") {
			t.Errorf("got %s", note)
		}
	}
	if notes != 5 {
		t.Errorf("%d events", notes)
	}
}

// An event is Unstored if the time runs out before its filter ends, so the producer sends it again.
func TestNoTimeForAFilter(t *testing.T) {
	r := doors.LooseRoute("acme", "crm", "", "*")
	r.Filter = "event.data.list.all(x, x > 0)"
	options, _ := testOptions(doors.Store{})
	a := newAcceptor(t, options)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := &event.Posted{Event: event.Event{ID: "evt_1", Type: "lead.created", Data: []byte(`{"list":[1]}`)}}
	if got := a.skippedByFilter(ctx, e, filter.NewInput(&e.Event), r); got == nil || got.Result != intake.Unstored {
		t.Errorf("got %+v", got)
	}
}
