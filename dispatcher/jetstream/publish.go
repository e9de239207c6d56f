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
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// maxGroup bounds the messages of a group, maxGroupBytes their bytes. A single larger message is its own group.
	maxGroup      = 256
	maxGroupBytes = 4 << 20
)

// publisher stores messages in a stream. With grouping, it stores messages that arrive during a write together in the
// next one: a sync to the disk takes hardly longer for many. It is a group commit in atomic batches (NATS ADR-50). It
// is safe for concurrent use.
type publisher struct {
	js       jetstream.JetStream
	grouping bool

	mu      sync.Mutex
	waiting []*publication
	// committing is true while commit runs.
	committing bool
}

// publication is a message and the result of its store.
type publication struct {
	message *nats.Msg
	// done is closed once the result is known.
	done chan struct{}
	ack  *jetstream.PubAck
	err  error
}

// end sets the result: ack is nil if err is not.
func (p *publication) end(ack *jetstream.PubAck, err error) {
	p.ack, p.err = ack, err
	close(p.done)
}

// publish stores a message, in one try. It returns true if the message was stored before. If ctx ends first, or the
// answer is late, the message may be stored all the same.
func (p *publisher) publish(ctx context.Context, m *nats.Msg) (duplicate bool, err error) {
	ack, err := p.publishAck(ctx, m)
	return err == nil && ack.Duplicate, err
}

// publishAck is publish with the complete answer. For a duplicate, the answer has the sequence of the first message.
func (p *publisher) publishAck(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	one := &publication{message: m, done: make(chan struct{})}
	if p.grouping {
		p.join(one) //nolint:contextcheck // A group is stored even if one of its callers gives up.
	} else {
		one.end(p.js.PublishMsg(ctx, m))
	}
	var err error
	select {
	case <-one.done:
		err = one.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("publish to %s: %w", m.Subject, err)
	}
	return one.ack, nil
}

// join adds a message to the next group.
func (p *publisher) join(one *publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, one)
	if !p.committing {
		p.committing = true
		go p.commit()
	}
}

// commit stores the queued messages group by group, until none is left.
func (p *publisher) commit() {
	for {
		p.mu.Lock()
		group := p.next()
		p.committing = len(group) > 0
		p.mu.Unlock()
		if len(group) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
		p.store(ctx, group)
		cancel()
	}
}

// next removes and returns the next group of the queued messages.
func (p *publisher) next() []*publication {
	n, size := 0, 0
	for n < min(len(p.waiting), maxGroup) && (n == 0 || size+p.waiting[n].message.Size() <= maxGroupBytes) {
		size += p.waiting[n].message.Size()
		n++
	}
	group := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	if len(p.waiting) == 0 {
		p.waiting = nil // Otherwise the array would keep stored messages alive.
	}
	return group
}

func (p *publisher) store(ctx context.Context, group []*publication) {
	if len(group) == 1 {
		group[0].end(p.js.PublishMsg(ctx, group[0].message))
		return
	}
	err := p.batch(ctx, group)
	if isRefused(err) {
		p.each(ctx, group)
		return
	}
	for _, one := range group {
		one.end(&jetstream.PubAck{}, err)
	}
}

// batch stores all messages of a group atomically.
func (p *publisher) batch(ctx context.Context, group []*publication) error {
	messages := make([]*nats.Msg, len(group))
	for i, one := range group {
		// PublishMsg of the batch adds headers. The original may join another group, if its caller has given up and
		// tries again.
		messages[i] = &nats.Msg{Subject: one.message.Subject, Header: maps.Clone(one.message.Header), Data: one.message.Data}
	}
	_, err := jetstreamext.PublishMsgBatch(ctx, p.js, messages, jetstreamext.BatchFlowControl{})
	return err
}

// isRefused reports whether the server or its client refused a batch, perhaps because of a single message: a duplicate,
// or one that does not fit.
func isRefused(err error) bool {
	_, ok := errors.AsType[*jetstream.APIError](err)
	return ok || errors.Is(err, nats.ErrMaxPayload)
}

// each stores the messages of a group one by one, so that each gets its own answer.
func (p *publisher) each(ctx context.Context, group []*publication) {
	futures := make([]jetstream.PubAckFuture, len(group))
	for i, one := range group {
		var err error
		if futures[i], err = p.js.PublishMsgAsync(one.message); err != nil {
			one.end(nil, err)
		}
	}
	for i, one := range group {
		if futures[i] == nil {
			continue
		}
		select {
		case ack := <-futures[i].Ok():
			one.end(ack, nil)
		case err := <-futures[i].Err():
			one.end(nil, err)
		case <-ctx.Done():
			one.end(nil, ctx.Err())
		}
	}
}
