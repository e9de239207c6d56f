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
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// Messages that arrive during a write are stored together, and each gets its own answer.
func TestGroupCommit(t *testing.T) {
	const events, again = 200, 20
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{SyncAlways: true}, func(o *Options) { o.GroupCommit = true })
	x := r.replica(false)
	crm := r.postback("crm", newEndpoint(t))
	storeAll := func(first, n int, data func(i int) string) []intake.Result {
		results := make([]intake.Result, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { results[i] = x.store(crm, fmt.Sprintf("evt_%d", first+i), data(i)).Result })
		}
		all.Wait()
		return results
	}
	g.Expect(storeAll(0, events, data)).To(HaveEach(intake.Stored))
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(events))
	grouped := 0
	stream, err := x.connection.js.Stream(t.Context(), x.connection.names.DeliveriesStream())
	g.Expect(err).NotTo(HaveOccurred())
	for sequence := range uint64(events) {
		m, err := stream.GetMsg(t.Context(), sequence+1)
		g.Expect(err).NotTo(HaveOccurred())
		if m.Header.Get(jetstreamext.BatchIDHeader) != "" {
			grouped++
		}
	}
	g.Expect(grouped).To(BeNumerically(">", events/2))

	// Some messages of the groups are duplicates, others are new.
	mixed := storeAll(events-again, 2*again, func(i int) string {
		if i == 0 {
			return data(-1) // Another event than the stored one with this id.
		}
		return data(events - again + i)
	})
	g.Expect(mixed[0]).To(Equal(intake.Conflict))
	g.Expect(mixed[1:again]).To(HaveEach(intake.Duplicate))
	g.Expect(mixed[again:]).To(HaveEach(intake.Stored))
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(events + again))
}

// The client of NATS refuses a group with a message that is too large. The others of the group are stored.
func TestTooLargeMessageFailsAlone(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	x := r.replica(false)
	crm := r.postback("crm", newEndpoint(t))
	group := make([]*publication, 3)
	for i := range group {
		m := x.connection.names.Waiting(r.make(crm, fmt.Sprintf("evt_%d", i), data(i)).Object, time.Now())
		group[i] = &publication{message: m, done: make(chan struct{})}
	}
	group[1].message.Data = make([]byte, x.connection.nats.MaxPayload())
	x.connection.intoWaiting.store(t.Context(), group)
	g.Expect(group[0].err).NotTo(HaveOccurred())
	g.Expect(group[1].err).To(MatchError(nats.ErrMaxPayload))
	g.Expect(group[2].err).NotTo(HaveOccurred())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(2))
}

func TestGroupsAreBounded(t *testing.T) {
	waiting := func(sizes ...int) []*publication {
		all := make([]*publication, len(sizes))
		for i, size := range sizes {
			all[i] = &publication{message: &nats.Msg{Data: make([]byte, size)}}
		}
		return all
	}
	for name, c := range map[string]struct {
		waiting []*publication
		taken   int
	}{
		"nothing":                {nil, 0},
		"all":                    {waiting(1, 2, 3), 3},
		"as many as may":         {waiting(make([]int, maxGroup+1)...), maxGroup},
		"as large as may":        {waiting(maxGroupBytes/2, maxGroupBytes/2-2, maxGroupBytes/2), 2},
		"one that is too large":  {waiting(maxGroupBytes+1, 1), 1},
		"one before a large one": {waiting(1, maxGroupBytes), 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &publisher{waiting: c.waiting}
			if taken := len(p.next()); taken != c.taken || len(p.waiting) != len(c.waiting)-c.taken {
				t.Errorf("%d were taken and %d wait, want %d of %d", taken, len(p.waiting), c.taken, len(c.waiting))
			}
		})
	}
}
