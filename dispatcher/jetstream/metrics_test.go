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
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// TestTheStreamIsShown: how full it is, and for how long the oldest delivery has been there.
func TestTheStreamIsShown(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		state        jetstream.StreamState
		maxBytes     int64
		used, oldest float64
	}{
		"empty":             {jetstream.StreamState{FirstTime: now.Add(-time.Hour)}, 1 << 20, 0, 0},
		"a quarter":         {jetstream.StreamState{Msgs: 3, Bytes: 1 << 18, FirstTime: now.Add(-1500 * time.Millisecond)}, 1 << 20, 0.25, 1.5},
		"without a bound":   {jetstream.StreamState{Msgs: 3, Bytes: 1 << 18, FirstTime: now}, -1, 0, 0},
		"of a faster clock": {jetstream.StreamState{Msgs: 1, Bytes: 1 << 20, FirstTime: now.Add(time.Second)}, 1 << 20, 1, 0},
	} {
		g := &gaugeValues{}
		g.show(&test.state, test.maxBytes, now)
		served := values(t, g)
		if used := served["postback_nats_stream_used_ratio"]; used != test.used {
			t.Errorf("%s: %v is used, want %v", name, used, test.used)
		}
		if oldest := served["postback_nats_oldest_delivery_age_seconds"]; oldest != test.oldest {
			t.Errorf("%s: the oldest is %v s old, want %v", name, oldest, test.oldest)
		}
		if waiting := served["postback_nats_stream_deliveries"]; waiting != float64(test.state.Msgs) {
			t.Errorf("%s: %v wait, want %d", name, waiting, test.state.Msgs)
		}
	}
}

// values returns what a collector of gauges serves.
func values(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]float64{}
	for _, family := range families {
		served[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	return served
}
