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

package natsserver_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/natsserver"
)

// TestKilledServerKeepsWhatItAcknowledged checks a guarantee that other tests rely on.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	for name, nodes := range map[string]int{"one": 1, "cluster": 3} {
		t.Run(name, func(t *testing.T) {
			servers := natsserver.New(t, natsserver.Options{Nodes: nodes, SyncAlways: true})
			connection := servers.Connect(t)
			js, err := jetstream.New(connection)
			if err != nil {
				t.Fatal(err)
			}
			stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: nodes})
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				// The leader of a new stream may not be ready yet.
				if _, err := js.Publish(t.Context(), "s.a", []byte("x"), jetstream.WithRetryAttempts(100)); err != nil {
					t.Fatal(err)
				}
			}
			for _, node := range servers.Nodes {
				if err := node.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			if err := servers.StartAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			gomega.NewWithT(t).Eventually(func() (uint64, error) {
				info, err := stream.Info(t.Context())
				if err != nil {
					return 0, err
				}
				return info.State.Msgs, nil
			}, 30*time.Second, 50*time.Millisecond).Should(gomega.Equal(uint64(20)))
		})
	}
}
