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

package lane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postback-dev/postback-operator/internal/metric"
)

var (
	inFlightDesc = metric.Dispatcher.GaugeDesc("postback_attempts_in_flight", "Attempts in flight in this replica.")
	waitingDesc  = metric.Dispatcher.GaugeDesc("postback_attempts_waiting",
		"Due attempts of this replica that wait for their endpoint (limits, an open circuit, Retry-After, 410), or for a free slot (--max-in-flight).")
	throttledDesc = metric.Dispatcher.GaugeDesc("postback_endpoints_throttled",
		"Throttled endpoints: their circuit is open or recovers, they answered 410, or asked for a pause by Retry-After.")
)

// Describe implements prometheus.Collector.
func (l *Lanes) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- inFlightDesc
	descriptions <- waitingDesc
	descriptions <- throttledDesc
}

// Collect implements prometheus.Collector.
func (l *Lanes) Collect(values chan<- prometheus.Metric) {
	s := l.Stats()
	values <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(s.InFlight))
	values <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(s.Waiting))
	values <- prometheus.MustNewConstMetric(throttledDesc, prometheus.GaugeValue, float64(s.Throttled))
}
