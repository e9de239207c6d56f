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

package attempt

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var (
	attempts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postback_attempts_total",
		Help: "Attempts to deliver an event, by how they ended.",
	}, []string{"outcome"})

	duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "postback_attempt_duration_seconds",
		Help:    "Time from the beginning of an attempt to the end of the endpoint's answer.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})

	deliveries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postback_deliveries_total",
		Help: "Deliveries that entered a phase after an attempt.",
	}, []string{"phase"})

	firstAttemptsLeft = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postback_first_attempts_left_total",
		Help: "First attempts that the replica which stored the event left to the elected one: it had no room, came too late, or had to end.",
	})
)

func init() {
	metrics.Registry.MustRegister(attempts, duration, deliveries, firstAttemptsLeft)
	// Series that are there from the start let a rate be true for the first of its kind, too.
	for _, outcome := range v1alpha1.Outcomes {
		attempts.WithLabelValues(string(outcome))
	}
	for _, phase := range []v1alpha1.DeliveryPhase{v1alpha1.DeliveryRetrying, v1alpha1.DeliveryDelivered, v1alpha1.DeliveryFailed} {
		deliveries.WithLabelValues(string(phase))
	}
}

func observe(a v1alpha1.Attempt) {
	attempts.WithLabelValues(string(a.Outcome)).Inc()
	duration.Observe(max(a.Duration.Seconds(), 0))
}
