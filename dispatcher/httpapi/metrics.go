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

package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/internal/metric"
)

var (
	requestsTotal = metric.Dispatcher.Counters("postback_ingest_requests_total",
		"Requests to post events, by the HTTP status of the response.", metric.Label{Name: "code", Values: statuses()})

	problemsTotal = metric.Dispatcher.Counters("postback_ingest_problems_total",
		"Requests with another response than 2xx, by the type of the problem in it.", problemLabel())

	requestDuration = metric.Dispatcher.Histogram("postback_ingest_request_duration_seconds",
		"Time from receiving the header of a request to post events, to its response.",
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
)

// statuses returns every HTTP status of an answer.
func statuses() []string {
	codes := []string{strconv.Itoa(http.StatusOK), strconv.Itoa(http.StatusAccepted)}
	for _, kind := range problem.Kinds {
		codes = append(codes, strconv.Itoa(kind.Status))
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func problemLabel() metric.Label {
	label := metric.Label{Name: "problem"}
	for _, kind := range problem.Kinds {
		label.Values = append(label.Values, kind.Name)
	}
	slices.Sort(label.Values)
	return label
}

func countRequest(a *problem.Answer, took time.Duration) {
	requestsTotal.WithLabelValues(strconv.Itoa(a.Status)).Inc()
	requestDuration.Observe(max(took.Seconds(), 0))
	if a.Kind != "" {
		problemsTotal.WithLabelValues(a.Kind).Inc()
	}
}
