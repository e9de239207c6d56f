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
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// identity distinguishes a stream or consumer from a later one of the same name.
type identity struct {
	created time.Time
	// last is the newest sequence. A server of a cluster that lost its disk keeps the creation time, but counts from
	// the start again.
	last uint64
}

// epoch counts the replacements of streams and consumers by others of the same names. A sequence identifies a message
// only within an epoch. An acknowledgement of the fifth message of a lost stream would remove the fifth message of
// its successor.
type epoch struct {
	// connections returns the number of connections so far. With each, a stream may be another one.
	connections func() uint64

	mu     sync.Mutex
	number uint64
	// verified is the number of connections before the last check of all streams.
	verified uint64
	known    map[string]identity
	// over is closed when the epoch ends.
	over chan struct{}
}

func newEpoch(connections func() uint64) *epoch {
	return &epoch{connections: connections, known: map[string]identity{}, over: make(chan struct{})}
}

// see records the identity of a stream or consumer. If it replaced an earlier one, see begins a new epoch and returns
// true.
func (e *epoch) see(name string, now identity) (replaced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, ok := e.known[name]
	e.known[name] = now
	if !ok || before.created.Equal(now.created) && before.last <= now.last {
		return false
	}
	e.number++
	close(e.over)
	e.over = make(chan struct{})
	return true
}

// checked records that all streams and consumers were checked after this number of connections.
func (e *epoch) checked(connections uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.verified = connections
}

// now returns a function that reports whether the present epoch lasts and is verified, and a channel that is closed
// when the epoch ends.
func (e *epoch) now() (sameEpoch func() bool, over <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	number := e.number
	return func() bool {
		connections := e.connections()
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.number == number && e.verified == connections
	}, e.over
}

// bound is a message that is settled only in the epoch in which NATS delivered it. In a later epoch nothing is sent:
// NATS delivers the message again if it still exists, and its record keeps the delivery from being repeated.
type bound struct {
	jetstream.Msg

	sameEpoch func() bool
}

func (b *bound) settle(tell func() error) error {
	if !b.sameEpoch() {
		return nil
	}
	return tell()
}

// Ack implements jetstream.Msg.
func (b *bound) Ack() error { return b.settle(b.Msg.Ack) }

// DoubleAck implements jetstream.Msg.
func (b *bound) DoubleAck(ctx context.Context) error {
	return b.settle(func() error { return b.Msg.DoubleAck(ctx) })
}

// Nak implements jetstream.Msg.
func (b *bound) Nak() error { return b.settle(b.Msg.Nak) }

// NakWithDelay implements jetstream.Msg.
func (b *bound) NakWithDelay(delay time.Duration) error {
	return b.settle(func() error { return b.Msg.NakWithDelay(delay) })
}

// InProgress implements jetstream.Msg.
func (b *bound) InProgress() error { return b.settle(b.Msg.InProgress) }

// Term implements jetstream.Msg.
func (b *bound) Term() error { return b.settle(b.Msg.Term) }

// TermWithReason implements jetstream.Msg.
func (b *bound) TermWithReason(reason string) error {
	return b.settle(func() error { return b.Msg.TermWithReason(reason) })
}
