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
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// Deliveries in the stream count only for their own Postback, together with its PostbackDeliveries.
func TestPending(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm, shop, idle := r.postback("crm", newEndpoint(t)), r.postback("shop", newEndpoint(t)), r.postback("idle", newEndpoint(t))
	x := r.replica(false)
	full := func(target *route.Route, maxPending int32) func() bool {
		bounded := *target
		bounded.MaxPending = maxPending
		return func() bool { return x.pending.Full(&bounded) }
	}
	for i := range 5 {
		g.Expect(x.store(crm, fmt.Sprintf("evt_%d", i), data(i)).Result).To(BeEquivalentTo("Stored"))
	}
	for i := range 2 {
		g.Expect(x.store(shop, fmt.Sprintf("evt_%d", i), data(i)).Result).To(BeEquivalentTo("Stored"))
	}
	g.Eventually(x.pending.deliveries.Load).WithTimeout(patience).Should(BeEquivalentTo(7))
	g.Expect(full(crm, 8)()).To(BeFalse())
	g.Expect(x.pending.counts).To(BeEmpty()) // All messages together would not fill it, so none is counted.

	for _, target := range []*route.Route{crm, shop, idle} {
		full(target, 7)()
	}
	g.Expect(x.pending.look(t.Context())).To(Succeed())
	for target, count := range map[*route.Route]int32{crm: 5, shop: 2, idle: 0} {
		t.Run(target.Name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(full(target, count+1)()).To(BeFalse())
			g.Expect(count == 0 || full(target, count)()).To(BeTrue())
		})
	}
	d := r.make(shop, "evt_object", data(1)).Object
	g.Expect(r.api.Create(t.Context(), d)).To(Succeed())
	g.Eventually(full(shop, 3)).WithTimeout(patience).Should(BeTrue())

	x.consume()
	g.Eventually(full(crm, 1)).WithTimeout(patience).Should(BeFalse())
	g.Expect(full(shop, 1)()).To(BeTrue()) // Its PostbackDelivery is unfinished.
}

// Each poll counts the Postbacks with the most used counts, and a later one the others.
func TestPendingCountsSoMuchAtATime(t *testing.T) {
	for name, test := range map[string]struct{ each, counted int }{
		"many Postbacks": {each: 7, counted: maxCounts},
		"much for each":  {each: maxCounted / 5, counted: 5},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Pending{}
			key := func(i int) postbackKey { return postbackKey{"partner", types.UID(fmt.Sprint(i))} }
			const postbacks = maxCounts + 4
			for i := range postbacks {
				for range i + 1 {
					p.inDeliveries(key(i))
				}
			}
			var counted []postbackKey
			recount := func() {
				counted = nil
				if err := p.recount(func(key postbackKey) (int, error) {
					counted = append(counted, key)
					return test.each, nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			recount()
			if len(counted) != test.counted || counted[0] != key(postbacks-1) || counted[test.counted-1] != key(postbacks-test.counted) {
				t.Errorf("counted %v", counted)
			}
			if got := p.inDeliveries(key(postbacks - 1)); got != test.each {
				t.Errorf("%d wait", got)
			}
			if recount(); counted[0] != key(postbacks-test.counted-1) {
				t.Errorf("then counted %v", counted)
			}
			// A Postback that is not asked for any more is forgotten.
			for range postbacks + idleLooks {
				recount()
			}
			if len(p.counts) != 0 {
				t.Errorf("%d are still counted", len(p.counts))
			}
		})
	}
}

func TestMemory(t *testing.T) {
	const window = time.Minute
	now := time.Now()
	at := func(lastSeq uint64, leader string, since time.Duration) *jetstream.StreamInfo {
		// The server's clock differs from the replica's.
		info := &jetstream.StreamInfo{TimeStamp: now.Add(time.Hour), Cluster: &jetstream.ClusterInfo{Leader: leader}}
		info.State.LastSeq = lastSeq
		if since > 0 {
			at := info.TimeStamp.Add(-since)
			info.Cluster.LeaderSince = &at
		}
		return info
	}
	long := func(m *memory) { m.begins.Store(now.Add(-2 * window).UnixNano()) }
	for name, test := range map[string]struct {
		single  bool
		happens func(m *memory, connect func())
		short   bool
	}{
		"of which nothing is known":                   {happens: func(*memory, func()) {}, short: true},
		"that nothing has left":                       {happens: func(m *memory, _ func()) { m.seen(at(0, "one", 0)) }},
		"of a leader for long":                        {happens: func(m *memory, _ func()) { m.seen(at(7, "one", 2*window)) }},
		"of a leader since lately":                    {happens: func(m *memory, _ func()) { long(m); m.seen(at(7, "one", window/2)) }, short: true},
		"of the same leader":                          {happens: func(m *memory, _ func()) { m.seen(at(7, "one", 0)); long(m); m.seen(at(8, "one", 0)) }},
		"of another leader":                           {happens: func(m *memory, _ func()) { m.seen(at(7, "one", 0)); long(m); m.seen(at(8, "other", 0)) }, short: true},
		"of a new connection":                         {happens: func(m *memory, connect func()) { long(m); connect() }, short: true},
		"of a leader without new one":                 {happens: func(m *memory, connect func()) { connect(); m.note(); m.seen(at(7, "one", 2*window)) }},
		"connected after the look":                    {happens: func(m *memory, connect func()) { m.note(); connect(); m.seen(at(7, "one", 2*window)) }, short: true},
		"of nobody who answers":                       {happens: func(m *memory, _ func()) { long(m); m.unseen() }, short: true},
		"of a stream made anew, empty":                {happens: func(m *memory, _ func()) { m.remade(); m.seen(at(0, "one", 0)) }, short: true},
		"of a stream made anew, by a leader for long": {happens: func(m *memory, _ func()) { m.remade(); m.seen(at(7, "one", 2*window)) }, short: true},
		"of one server that is slow":                  {single: true, happens: func(m *memory, _ func()) { long(m); m.unseen() }},
	} {
		t.Run(name, func(t *testing.T) {
			connections := uint64(0)
			m := newMemory(window, func() uint64 { return connections }, func() bool { return !test.single })
			test.happens(m, func() { connections++ })
			if got := m.short(); got != test.short {
				t.Errorf("memory %s: short %v", name, got)
			}
		})
	}
}
