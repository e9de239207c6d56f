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
	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/metric"
)

var (
	attempts = metric.Dispatcher.Counters("postback_attempts_total",
		"Attempts to deliver an event, by outcome.", metric.Values("outcome", v1alpha1.Outcomes...))

	duration = metric.Dispatcher.Histogram("postback_attempt_duration_seconds",
		"Time from the beginning of an attempt to the end of the endpoint's response.",
		.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)

	deliveries = metric.Dispatcher.Counters("postback_deliveries_total",
		"Deliveries that entered a phase after an attempt. A redelivery counts again.",
		metric.Values("phase", v1alpha1.DeliveryRetrying, v1alpha1.DeliveryDelivered, v1alpha1.DeliveryFailed))

	deliveryDuration = metric.Dispatcher.Histogram("postback_delivery_duration_seconds",
		"Time from storing a delivery, rounded down to the second, to the response that accepted it. Redeliveries do not count.",
		1, 2, 5, 15, 60, 300, 1800, 3600, 6*3600, 24*3600, 7*24*3600)

	firstAttemptsDeferred = metric.Dispatcher.Counter("postback_first_attempts_deferred_total",
		"First attempts that a replica deferred to the elected one: it had no free slot, a full or throttled lane, was late, or was shutting down.")
)

func observe(a v1alpha1.Attempt) {
	attempts.WithLabelValues(string(a.Outcome)).Inc()
	duration.Observe(max(a.Duration.Seconds(), 0))
}

// observePhase counts a delivery that entered a phase.
func observePhase(d *v1alpha1.PostbackDelivery) {
	deliveries.WithLabelValues(string(d.Status.Phase)).Inc()
	asked := d.Status.LastHandledRedeliver != "" || d.Status.LastHandledRedeliverFromPostback != ""
	if end := d.Status.CompletionTime; d.Status.Phase == v1alpha1.DeliveryDelivered && end != nil && !asked {
		deliveryDuration.Observe(max(end.Sub(d.CreationTimestamp.Time).Seconds(), 0))
	}
}
