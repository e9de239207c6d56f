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
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// BenchmarkWaiting measures the memory that waiting deliveries take of a server, and the time to count those of one
// Postback in ten.
func BenchmarkWaiting(b *testing.B) {
	for _, waiting := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			servers := natsserver.New(b, natsserver.Options{MaxFileStore: "8GB"})
			c, err := Connect(Options{
				URL: servers.URL(), Names: message.DefaultPrefix, Replicas: 1, DuplicateWindow: DefaultDuplicateWindow,
				MaxBytes: 2 << 30, LogMaxBytes: 1 << 20, LogMaxAge: time.Hour, Log: logr.Discard(),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			if err := c.ensure(b.Context()); err != nil {
				b.Fatal(err)
			}
			const postbacks = 10
			reference := func(i int) v1alpha1.PostbackReference {
				return v1alpha1.PostbackReference{Name: "shop-in-town", UID: types.UID(fmt.Sprintf("6f1c1c3e-0b1e-4d2f-9c1a-4f5f2f9f3a%02d", i%postbacks))}
			}
			body := []byte(`{"x":"` + strings.Repeat("x", 200) + `"}`)
			for i := range waiting {
				d, err := delivery.New("partner-acme", reference(i), "", &event.Event{ID: fmt.Sprintf("evt_%d", i), Type: "sale.created", CreatedAt: time.Now(), Data: body})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.js.PublishMsgAsync(c.names.Delivery(d), jetstream.WithStallWait(time.Minute)); err != nil {
					b.Fatal(err)
				}
			}
			<-c.js.PublishAsyncComplete()
			for b.Loop() {
				count, err := c.count(b.Context(), postbackKey{"partner-acme", reference(0).UID})
				if err != nil || count != waiting/postbacks {
					b.Fatalf("%d wait: %v", count, err)
				}
			}
			b.ReportMetric(resident(b, servers.Nodes[0].PID()), "server-MiB")
		})
	}
}

// resident returns the resident memory of a process in MiB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}
