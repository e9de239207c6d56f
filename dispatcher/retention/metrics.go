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

package retention

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postback-dev/postback-operator/internal/metric"
)

var pruned = metric.Dispatcher.Counters("postback_pruned_deliveries_total",
	"Finished deliveries that were pruned, by the bound: Count and TTL are those of spec.history, ClusterLimit is --max-finished-deliveries.",
	metric.Values("reason", reasonCount, reasonTTL, reasonClusterLimit))

var finished = metric.Dispatcher.GaugeDesc("postback_finished_deliveries",
	"Finished deliveries that are not pruned yet. Reported by the elected replica.", metric.Values("phase", phases...))

// Describe implements prometheus.Collector.
func (p *Pruner) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- finished
}

// Collect implements prometheus.Collector. It reports nothing until all parts are listed.
func (p *Pruner) Collect(values chan<- prometheus.Metric) {
	x := p.index.Load()
	if x == nil || !x.hasSynced() {
		return
	}
	for _, phase := range phases {
		values <- prometheus.MustNewConstMetric(finished, prometheus.GaugeValue, float64(x.count(phase)), string(phase))
	}
}
