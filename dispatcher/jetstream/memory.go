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

// clockSlack is how far the clocks of a server and of this replica may be apart.
const clockSlack = time.Second

// memory knows how far back the deliveries stream knows ids. Its leader has them in its process. A restarted leader knows
// the ids in the stream, and none of settled messages. Those are in the log, and only events posted while the memory is short
// have to be looked up there. The same goes for messages that were delivered right before.
type memory struct {
	window time.Duration
	// reconnects returns how many new connections there were: a server to which the connection was lost may have been restarted.
	reconnects func() uint64
	// clustered reports whether the stream may be on another server than the connection goes to.
	clustered func() bool

	// known is how many of the new connections are known of.
	known atomic.Uint64
	// begins is since when at least ids are remembered, in nanoseconds since 1970.
	begins atomic.Int64
	// leader is who led the stream at the last look.
	leader atomic.Pointer[string]
	// replaced is when the stream was found to be another one than before, 0 if it never was.
	replaced atomic.Int64
}

// newMemory returns a memory of which nothing is known yet.
func newMemory(window time.Duration, reconnects func() uint64, clustered func() bool) *memory {
	m := &memory{window: window, reconnects: reconnects, clustered: clustered}
	m.lost()
	return m
}

// short reports whether an event that was stored within the duplicate window may not be known again.
func (m *memory) short() bool {
	m.note()
	return time.Now().UnixNano() < m.begins.Load()+int64(m.window)
}

// givenOut reports whether what was stored at a time may have been given out before, though the server says that this is the
// first time: one that was killed has forgotten what it gave out in its last moments, for it writes down the state of a
// consumer up to a tenth of a second later, whatever it syncs.
func (m *memory) givenOut(stored time.Time) bool {
	m.note()
	return stored.UnixNano() < m.begins.Load()+int64(clockSlack)
}

// note has new connections known of, also before a look at the stream, which says nothing of those that come after it. The
// handlers of new connections are called some time after these are in use.
func (m *memory) note() {
	if n := m.reconnects(); m.known.Load() != n {
		m.lost() // Before others take it for known.
		m.known.Store(n)
	}
}

// lost: what is known again is what will be stored from now on.
func (m *memory) lost() { m.begins.Store(time.Now().UnixNano()) }

// remade notes that the stream or its consumer was created again. The old one may have given out its messages, and an id may
// belong to the old one.
func (m *memory) remade() {
	m.replaced.Store(time.Now().UnixNano())
	m.lost()
}

// unseen: nobody answers for the stream, whose leader may be ending.
func (m *memory) unseen() {
	if m.clustered() {
		m.lost()
	}
}

// seen learns from a look at the stream.
func (m *memory) seen(info *jetstream.StreamInfo) {
	before := m.leader.Load()
	switch c := info.Cluster; {
	case info.State.LastSeq == 0:
		m.begins.Store(m.replaced.Load()) // Nothing was ever there, unless in a stream before it.
	case c != nil && c.LeaderSince != nil:
		// It has been running for so long at least. Both times are from its clock.
		running := max(info.TimeStamp.Sub(*c.LeaderSince), 0)
		m.begins.Store(max(time.Now().Add(-running).UnixNano(), m.replaced.Load()))
	case c != nil && before != nil && *before != c.Leader:
		m.lost()
	}
	if info.Cluster != nil {
		m.leader.Store(&info.Cluster.Leader)
	}
}
