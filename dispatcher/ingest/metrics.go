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

package ingest

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/postback-dev/postback-operator/internal/metric"
)

// Values of the label result that are not results of a delivery.
const (
	resultNoMatch result = "NoMatch"
	resultInvalid result = "Invalid"
)

var (
	eventsTotal = metric.Dispatcher.Counters("postback_ingest_events_total",
		"Posted events, by what became of them: one for each event and matching Postback; one (NoMatch) for an event that "+
			"matches none; and one (Invalid) for a request that was refused for what it holds.",
		metric.Values("result", append([]result{resultNoMatch, resultInvalid}, results...)...))

	reasonsTotal = metric.Dispatcher.Counters("postback_ingest_reasons_total",
		"Events that were skipped, refused or not stored for a Postback, by the reason.", metric.Values("reason", reasons...))

	requestsTotal = metric.Dispatcher.Counters("postback_ingest_requests_total",
		"Requests to post events, by the HTTP status of the answer.", metric.Label{Name: "code", Values: statuses()})

	problemsTotal = metric.Dispatcher.Counters("postback_ingest_problems_total",
		"Requests that were not answered with 2xx, by the type of the problem in the answer.", problemLabel())

	requestDuration = metric.Dispatcher.Histogram("postback_ingest_request_duration_seconds",
		"Time from the header of a request to post events to its answer.",
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)

	filterFailures = metric.Dispatcher.Counter("postback_filter_failures_total",
		"Evaluations of spec.filter that failed, so that the event was not sent to that Postback.")
)

// statuses returns all that an answer can have.
func statuses() []string {
	codes := []string{strconv.Itoa(http.StatusOK), strconv.Itoa(http.StatusAccepted)}
	for _, kind := range problemKinds {
		codes = append(codes, strconv.Itoa(kind.status))
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func problemLabel() metric.Label {
	label := metric.Label{Name: "problem"}
	for _, kind := range problemKinds {
		label.Values = append(label.Values, kind.name)
	}
	slices.Sort(label.Values)
	return label
}

func countRequest(a *answer, took time.Duration) {
	requestsTotal.WithLabelValues(strconv.Itoa(a.status)).Inc()
	requestDuration.Observe(max(took.Seconds(), 0))
	if a.kind != "" {
		problemsTotal.WithLabelValues(a.kind).Inc()
	}
}

func countEvents(events []eventResult) {
	for i := range events {
		if len(events[i].Deliveries) == 0 {
			eventsTotal.WithLabelValues(string(resultNoMatch)).Inc()
		}
		for _, d := range events[i].Deliveries {
			eventsTotal.WithLabelValues(string(d.Result)).Inc()
			if d.Reason != "" {
				reasonsTotal.WithLabelValues(string(d.Reason)).Inc()
			}
		}
	}
}
