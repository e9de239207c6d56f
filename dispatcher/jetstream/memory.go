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
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// clockSlack bounds the difference between the clocks of a server and of this replica.
const clockSlack = time.Second

// memory tells how far back the deliveries stream remembers ids. The leader of the stream has them in memory. After a
// restart it knows only the ids of messages in the stream. The delivery log has the others, so an event is looked up
// there while the memory is short. The same holds for messages that a killed server delivered in its last moments.
type memory struct {
	window time.Duration
	// connections returns the number of connections so far. Before each, the server may have been restarted.
	connections func() uint64
	// clustered reports whether the stream's leader may be another server than the connected one.
	clustered func() bool

	// known is the number of connections that are taken into account.
	known atomic.Uint64
	// begins is the time since which ids are certainly remembered, in nanoseconds since 1970.
	begins atomic.Int64
	// leader is the leader of the stream at the last check.
	leader atomic.Pointer[string]
	// replaced is when the stream was last found to be replaced, in nanoseconds since 1970; 0 means never.
	replaced atomic.Int64
}

// newMemory returns a memory that remembers no ids yet.
func newMemory(window time.Duration, connections func() uint64, clustered func() bool) *memory {
	m := &memory{window: window, connections: connections, clustered: clustered}
	m.lost()
	return m
}

// short reports whether the stream may have forgotten an id of the deduplication window.
func (m *memory) short() bool {
	m.note()
	return time.Now().UnixNano() < m.begins.Load()+int64(m.window)
}

// givenOut reports whether a message stored at a time may have been delivered before, although the server calls this
// the first time. A server writes the state of a consumer up to a tenth of a second late, so a killed server has
// forgotten its last deliveries.
func (m *memory) givenOut(stored time.Time) bool {
	m.note()
	return stored.UnixNano() < m.begins.Load()+int64(clockSlack)
}

// note takes new connections into account. It also runs before a check of the stream, which says nothing about later
// connections. The handlers of a reconnect run some time after the connection is in use.
func (m *memory) note() {
	if n := m.connections(); m.known.Load() != n {
		m.lost() // First, before other goroutines see known.
		m.known.Store(n)
	}
}

// lost records that only ids from now on are certainly remembered.
func (m *memory) lost() { m.begins.Store(time.Now().UnixNano()) }

// remade records that the stream or its consumer was recreated. The former one may have delivered its messages, and
// an id may be of a message in it.
func (m *memory) remade() {
	m.replaced.Store(time.Now().UnixNano())
	m.lost()
}

// unseen records that nobody answered for the stream. In a cluster its leader may be ending.
func (m *memory) unseen() {
	if m.clustered() {
		m.lost()
	}
}

// seen learns from the state of the stream.
func (m *memory) seen(info *jetstream.StreamInfo) {
	before := m.leader.Load()
	switch c := info.Cluster; {
	case info.State.LastSeq == 0:
		m.begins.Store(m.replaced.Load()) // The stream never had a message, so it has forgotten none.
	case c != nil && c.LeaderSince != nil:
		// The leader has been running for at least this long. Both times are from its clock.
		running := max(info.TimeStamp.Sub(*c.LeaderSince), 0)
		m.begins.Store(max(time.Now().Add(-running).UnixNano(), m.replaced.Load()))
	case c != nil && before != nil && *before != c.Leader:
		m.lost()
	}
	if info.Cluster != nil {
		m.leader.Store(&info.Cluster.Leader)
	}
}
