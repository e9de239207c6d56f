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

package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestEmbeddedNATS kills a dispatcher, with its NATS server, while every attempt hangs. After the restart each accepted event
// arrives, and an orderly end loses nothing either.
func TestEmbeddedNATS(t *testing.T) {
	onlyKubernetes(t, "the flags of this test")
	n := newTenant(t)
	without(t, dispatcher)
	replica := startDispatcher(t, "postback-dispatcher-embedded",
		operator.WithArgs("--intake=jetstream", "--nats-embedded", "--nats-store-dir="+t.TempDir(), "--nats-max-bytes=67108864", "--log-max-bytes=67108864"))
	n.postback("crm")
	n.endpoint.Answer(hooks, receiver.Answer{Hang: true})
	const events = 20
	for i := range events {
		if err := n.postTo(lead(fmt.Sprintf("evt_killed_%d", i)), replica); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(1)
	if err := replica.Kill(); err != nil {
		t.Fatal(err)
	}
	hung := len(n.endpoint.Requests(hooks))
	n.endpoint.Answer(hooks, receiver.Answer{})
	if err := replica.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := NewWithT(t)
	g.Eventually(func() (missing []string) {
		arrived := map[string]bool{}
		for _, r := range n.endpoint.Requests(hooks)[hung:] {
			arrived[r.ID()] = true
		}
		for i := range events {
			if id := fmt.Sprintf("evt_killed_%d", i); !arrived[id] {
				missing = append(missing, id)
			}
		}
		return missing
	}).WithTimeout(2 * patience).Should(BeEmpty())

	code, err := replica.Terminate(t.Context())
	if err != nil || code != 0 {
		t.Errorf("the replica ended with exit code %d: %v", code, err)
	}
	if err := replica.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(n.endpoint.Requests(hooks))
	if err := n.postTo(lead("evt_after"), replica); err != nil {
		t.Fatal(err)
	}
	n.wait(before + 1)
	if got := len(n.arrivals("evt_after")); got != 1 {
		t.Errorf("evt_after arrived %d times", got)
	}
}
