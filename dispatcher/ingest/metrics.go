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
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Values of the label result that are not results of a delivery.
const (
	resultNoMatch = "NoMatch"
	resultInvalid = "Invalid"
)

var (
	eventsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postback_ingest_events_total",
		Help: "Posted events, by what became of them: one for each event and matching Postback, one (NoMatch) for an event " +
			"that matches none, and one (Invalid) for a request that was refused for what it holds.",
	}, []string{"result"})

	requestsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postback_ingest_requests_total",
		Help: "Requests to post events, by the HTTP status of the answer.",
	}, []string{"code"})

	filterFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postback_filter_failures_total",
		Help: "Evaluations of spec.filter that failed, so that the event was not sent to that Postback.",
	})
)

func init() {
	metrics.Registry.MustRegister(eventsTotal, requestsTotal, filterFailures)
	for _, result := range []string{
		string(resultStored), string(resultDuplicate), string(resultSkipped), string(resultRefused),
		string(resultConflict), string(resultUnstored), resultNoMatch, resultInvalid,
	} {
		// So that each series is there from the start, and its first increase shows.
		eventsTotal.WithLabelValues(result)
	}
}

func countEvents(events []eventResult) {
	for i := range events {
		if len(events[i].Deliveries) == 0 {
			eventsTotal.WithLabelValues(resultNoMatch).Inc()
		}
		for j := range events[i].Deliveries {
			eventsTotal.WithLabelValues(string(events[i].Deliveries[j].Result)).Inc()
		}
	}
}
