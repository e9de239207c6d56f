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

package servingcert

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postback-dev/postback-operator/internal/metric"
)

var expiry = metric.Manager.GaugeDesc("postback_ingest_certificate_expiration_timestamp_seconds",
	"Expiry of the self-managed certificate of ingest, as a Unix time; it is replaced 30 days before. Reported by the elected manager, with --ingest-certificate=SelfManaged.")

// Describe implements prometheus.Collector.
func (r *Reconciler) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- expiry }

// Collect implements prometheus.Collector. It reports nothing before the first reconciliation, and only an elected
// manager reconciles.
func (r *Reconciler) Collect(values chan<- prometheus.Metric) {
	if end := r.notAfter.Load(); end != 0 {
		values <- prometheus.MustNewConstMetric(expiry, prometheus.GaugeValue, float64(end))
	}
}
