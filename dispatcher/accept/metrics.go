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
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/metric"
)

// These values of the label result are not results of a delivery.
const (
	noMatch intake.Result = "NoMatch"
	invalid intake.Result = "Invalid"
)

var (
	eventsTotal = metric.Dispatcher.Counters("postback_ingest_events_total",
		"Posted and published events, by result: one for each event and matching Postback; one (NoMatch) for an event that "+
			"matches none; and one (Invalid) for a request or message with invalid content.",
		metric.Values("result", append([]intake.Result{noMatch, invalid}, results...)...))

	reasonsTotal = metric.Dispatcher.Counters("postback_ingest_reasons_total",
		"Events that were skipped, refused or not stored for a Postback, by the reason.", metric.Values("reason", reasons...))

	filterFailures = metric.Dispatcher.Counter("postback_filter_failures_total",
		"Evaluations of spec.filter that failed, so that the event was not sent to that Postback.")
)

// CountInvalid counts a request or message without valid events.
func CountInvalid() { eventsTotal.WithLabelValues(string(invalid)).Inc() }

// Count counts the results of a request. A door without answers, which gives an event back, does not count that try.
func (r Results) Count() {
	for i := range r {
		if len(r[i].Deliveries) == 0 {
			eventsTotal.WithLabelValues(string(noMatch)).Inc()
		}
		for _, d := range r[i].Deliveries {
			eventsTotal.WithLabelValues(string(d.Result)).Inc()
			if d.Reason != "" {
				reasonsTotal.WithLabelValues(string(d.Reason)).Inc()
			}
		}
	}
}
