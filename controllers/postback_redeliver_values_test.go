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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestRedeliverSinceValues(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)
	for value, want := range map[string]struct {
		since string
		err   string
	}{
		"24h":                         {since: "2026-02-28T12:00:00Z"},
		"24h/2":                       {since: "2026-02-28T12:00:00Z"},
		"1h30m/a/b":                   {since: "2026-03-01T10:30:00Z"},
		"2026-03-01T12:00:00Z":        {since: "2026-03-01T12:00:00Z"},
		"2026-03-01T13:30:00+02:00/x": {since: "2026-03-01T11:30:00Z"},
		"2026-03-01T11:59:59.9Z":      {since: "2026-03-01T11:59:59Z"},
		"8760h":                       {since: "2025-03-01T12:00:00Z"},
		"8760h1s":                     {err: "more than a year"},
		"2024-03-01T12:00:00Z":        {err: "more than a year"},
		"0001-01-01T00:00:00Z":        {err: "more than a year"},
		"2026-03-01T12:00:01Z":        {err: "future"},
		"9999-12-31T23:59:59Z":        {err: "future"},
		"0s":                          {err: "not positive"},
		"-1h":                         {err: "not positive"},
		"9999999999999h":              {err: "neither"},
		"7d":                          {err: "neither"},
		"yesterday":                   {err: "neither"},
		"/1":                          {err: "neither"},
		"2026-03-01":                  {err: "neither"},
		"24":                          {err: "neither"},
	} {
		t.Run(value, func(t *testing.T) {
			since, err := redeliverSince(value, now)
			switch {
			case want.err != "":
				if err == nil || !strings.Contains(err.Error(), want.err) {
					t.Errorf("%s: %v, %v; want an error with %q", value, since, err, want.err)
				}
			case err != nil || since.Format(time.RFC3339Nano) != want.since:
				t.Errorf("%s: %v, %v; want %s", value, since, err, want.since)
			}
		})
	}
}

// An invalid value is refused once, even if it would be valid later, and changes no delivery.
func TestInvalidRedeliverSinceIsRefused(t *testing.T) {
	for name, value := range map[string]func(*bench) string{
		"nonsense": func(*bench) string { return "yesterday" },
		"long":     func(*bench) string { return strings.Repeat("ä", 4000) },
		"future":   func(b *bench) string { return b.clock.Now().Add(time.Minute).UTC().Format(time.RFC3339) + "/1" },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(newPostback("crm", nil))
			b.heartbeat("east", loadedEverything)
			b.settle("crm")
			b.storeDeliveries(b.postback("crm"), "failed", 2, v1alpha1.DeliveryFailed)
			b.told()
			annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, value(b))
			b.settle("crm")
			b.checkRedelivery("crm", metav1.ConditionFalse, v1alpha1.RedeliveryInvalidReason, "such as 24h")
			b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
			b.clock.Step(10 * time.Minute)
			b.heartbeat("east", loadedEverything)
			b.settle("crm")
			b.checkMarks(map[string]int{"failed:": 2})
			if told := b.told(); len(told) != 1 || !strings.HasPrefix(told[0], "Warning RedeliveryRefused") {
				t.Errorf("events %q", told)
			}
			// The next value is answered.
			annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RedeliverSinceAnnotation, "1h")
			if done := b.settleRedelivery("crm"); done.Requested != 2 {
				t.Errorf("status %+v", done)
			}
		})
	}
}
