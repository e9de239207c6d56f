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
)

func TestStreamUse(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name     string
		state    jetstream.StreamState
		maxBytes int64
		used     float64
		oldest   time.Duration
	}{
		{"empty", jetstream.StreamState{FirstTime: now.Add(-time.Hour)}, 1 << 20, 0, 0},
		{"a quarter full", jetstream.StreamState{Msgs: 3, Bytes: 1 << 18, FirstTime: now.Add(-1500 * time.Millisecond)}, 1 << 20, 0.25, 1500 * time.Millisecond},
		{"without a bound", jetstream.StreamState{Msgs: 3, Bytes: 1 << 18, FirstTime: now}, -1, 0, 0},
		{"the server's clock is ahead", jetstream.StreamState{Msgs: 1, Bytes: 1 << 20, FirstTime: now.Add(time.Second)}, 1 << 20, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			used, oldest := streamUse(&test.state, test.maxBytes, now)
			if used != test.used {
				t.Errorf("used: %v, want %v", used, test.used)
			}
			if oldest != test.oldest {
				t.Errorf("oldest: %v, want %v", oldest, test.oldest)
			}
		})
	}
}
