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

package embedded

import "github.com/postback-dev/postback-operator/internal/metric"

// These metrics belong to the only embedded server of the process.
var (
	readyGauge = metric.Dispatcher.Gauge("postback_nats_server_ready",
		"1 if the embedded NATS server of this replica is ready; 0 if not, and without --nats-embedded.")
	usedGauge = metric.Dispatcher.Gauge("postback_nats_server_store_bytes",
		"Bytes that the embedded NATS server stores; 0 without --nats-embedded.")
	limitGauge = metric.Dispatcher.Gauge("postback_nats_server_store_limit_bytes",
		"Bytes that the embedded NATS server may store: the space that its volume had at the start, less a tenth; 0 without --nats-embedded.")
	messagesGauge = metric.Dispatcher.Gauge("postback_nats_server_messages",
		"Messages that the embedded NATS server stores; 0 without --nats-embedded.")
)

// measure updates the metrics.
func (s *Server) measure() {
	if s.Ready(nil) != nil {
		readyGauge.Set(0)
	} else {
		readyGauge.Set(1)
	}
	if !s.isStarted() {
		return
	}
	if info, err := s.nats.Jsz(nil); err == nil {
		usedGauge.Set(float64(info.Store))
		messagesGauge.Set(float64(info.Messages))
	}
}
