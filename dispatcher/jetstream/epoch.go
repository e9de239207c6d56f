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

// identity tells a stream or consumer from a later one of the same name.
type identity struct {
	created time.Time
	// last is its newest sequence number. A server of a cluster that loses its disk keeps the time, and begins to count again.
	last uint64
}

// epoch counts how often streams or consumers were replaced by others of the same names. A sequence number means a message
// only within an epoch: to acknowledge the fifth message of a lost stream would remove the fifth one of its successor.
type epoch struct {
	// reconnects returns how many new connections there were: a stream may be another one after each.
	reconnects func() uint64

	mu     sync.Mutex
	number uint64
	// verified is for how many new connections the streams were looked at.
	verified uint64
	known    map[string]identity
	// over is closed when the epoch ends.
	over chan struct{}
}

func newEpoch(reconnects func() uint64) *epoch {
	return &epoch{reconnects: reconnects, known: map[string]identity{}, over: make(chan struct{})}
}

// see takes in what a stream or consumer is known by, and reports whether it is another one than before. Then a new epoch
// begins.
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

// checked says that every stream and consumer was looked at after so many new connections.
func (e *epoch) checked(connections uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.verified = connections
}

// now returns a function that reports whether the present epoch goes on, and a channel that is closed when it ends.
func (e *epoch) now() (sameEpoch func() bool, over <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	number := e.number
	return func() bool {
		connections := e.reconnects()
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.number == number && e.verified == connections
	}, e.over
}

// bound is a message that is settled only in the epoch in which it was given out. Otherwise it comes again, if it is still
// there, and is known by its traces.
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
