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

package jetstream

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/postback-dev/postback-operator/dispatcher/ingest"
	"github.com/postback-dev/postback-operator/internal/metric"
)

// overflow is why a delivery became a PostbackDelivery before any attempt.
type overflow string

const (
	// overflowHeld: its Postback is paused or disabled, has limits that one replica alone can hold, or its endpoint is held back.
	overflowHeld overflow = "Held"
	// overflowSlow: its endpoint takes too long.
	overflowSlow overflow = "Slow"
	// overflowLarge: the message would be larger than NATS takes.
	overflowLarge overflow = "Large"
)

var (
	published = metric.Dispatcher.Counter("postback_nats_published_total",
		"Deliveries that this replica has stored in the stream.")
	redelivered = metric.Dispatcher.Counter("postback_nats_redelivered_total",
		"Messages that this replica got although one had got them before.")
	overflows = metric.Dispatcher.Counters("postback_nats_overflows_total",
		"Deliveries that became PostbackDeliveries before any attempt, by the reason.",
		metric.Values("reason", overflowHeld, overflowSlow, overflowLarge))
	logged = metric.Dispatcher.Counter("postback_nats_logged_total",
		"Deliveries that succeeded at the first attempt and are in the log stream.")
	invalid = metric.Dispatcher.Counter("postback_nats_invalid_messages_total",
		"Messages that are no delivery, and were taken out of the stream.")

	eventsTaken = metric.Dispatcher.Counters("postback_nats_events_total",
		"Published events that this replica got, by what became of them. Full and Again come again.",
		metric.Values("result", ingest.Taken, ingest.Invalid, ingest.Full, ingest.Again))

	connectedDesc = metric.Dispatcher.Gauge("postback_nats_connected",
		"1 if this replica has a connection to NATS; 0 if not, and with --intake=kubernetes.")
	inUseDesc   = metric.Dispatcher.Gauge("postback_nats_in_use", "1 if this replica runs with --intake=jetstream, else 0.")
	inHandDesc  = metric.Dispatcher.Gauge("postback_nats_messages_in_hand", "Deliveries from the stream that this replica has in hand.")
	waitingDesc = metric.Dispatcher.Gauge("postback_nats_stream_deliveries",
		"Deliveries in the stream that are not done with, at the last look, a second ago or less.")
	usedDesc = metric.Dispatcher.Gauge("postback_nats_stream_used_ratio",
		"Bytes of the deliveries in the stream as a part of --nats-max-bytes; at 1 events are refused.")
	oldestDesc = metric.Dispatcher.Gauge("postback_nats_oldest_delivery_age_seconds",
		"How long the oldest delivery has been in the stream, at the last look; 0 if there is none.")
)

const millionths = 1e6

// gaugeValues are of the one connection that a process has.
type gaugeValues struct {
	inUse, connected, inHand, waiting atomic.Int64
	// usedMillionths are of what the stream may hold.
	usedMillionths atomic.Int64
	// oldest is an age in milliseconds.
	oldest atomic.Int64
}

var gauges = register()

func register() *gaugeValues {
	g := &gaugeValues{}
	metrics.Registry.MustRegister(g)
	return g
}

// Describe implements prometheus.Collector.
func (g *gaugeValues) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- inUseDesc
	descriptions <- connectedDesc
	descriptions <- inHandDesc
	descriptions <- waitingDesc
	descriptions <- usedDesc
	descriptions <- oldestDesc
}

// Collect implements prometheus.Collector.
func (g *gaugeValues) Collect(values chan<- prometheus.Metric) {
	values <- prometheus.MustNewConstMetric(inUseDesc, prometheus.GaugeValue, float64(g.inUse.Load()))
	values <- prometheus.MustNewConstMetric(connectedDesc, prometheus.GaugeValue, float64(g.connected.Load()))
	values <- prometheus.MustNewConstMetric(inHandDesc, prometheus.GaugeValue, float64(g.inHand.Load()))
	values <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(g.waiting.Load()))
	values <- prometheus.MustNewConstMetric(usedDesc, prometheus.GaugeValue, float64(g.usedMillionths.Load())/millionths)
	values <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, float64(g.oldest.Load())/1000)
}
