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
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

// A message that its cursor has passed is to be read again, in a lane, or at its attempt, until the drain removes
// it. The drain records the result first, so a crash leaves the message, alone or with a log entry, a later retry
// or a PostbackDelivery. The look-up for a message that is doubtful or read again finds the record; NATS refuses
// another copy by its id within the deduplication window.

// term is the time in which this replica is elected, within one epoch.
type term struct {
	// sameEpoch reports whether the sequences still mean the same messages.
	sameEpoch func() bool
	// ended is true once the replica is not elected any more, or begins another term.
	ended  atomic.Bool
	stream jetstream.Stream
	// doubtfulUpTo is the last sequence of the stream when the term began: messages up to it may have been attempted in
	// an earlier term.
	doubtfulUpTo uint64
	// forgotten has the sequences up to which messages are doubtful because the cursor of their Postback was dropped: a
	// lagging server may return removed messages. Each Postback with such a cursor has an entry until the term ends.
	forgotten map[postbackKey]uint64
	cursors   map[cursorKey]*cursor
	// former is the previous term of this replica, while messages of it are in lanes: an attempt may be in flight.
	former *term
	// retries has the records of Postbacks with doubtful deliveries.
	retries map[postbackKey]*retryRecords
	// inLanes is the number of messages in lanes, flowing the number of those whose endpoints are not throttled.
	// throttledBytes is the size of the others.
	inLanes, flowing, throttledBytes int
	// blocks has the messages that acts of users remove.
	blocks blocks
}

// isDoubtful reports whether a message of a Postback may have been attempted.
func (t *term) isDoubtful(key postbackKey, sequence uint64) bool {
	return sequence <= max(t.doubtfulUpTo, t.forgotten[key])
}

// cursorKey names a level of a Postback.
type cursorKey struct {
	postbackKey

	level int
}

// cursor is the progress of the drain in the messages of one level of a Postback.
type cursor struct {
	next uint64
	// reading is true during a read, moved if a replica has moved a message here since the last read began.
	reading, moved bool
	// restUntil is when the next message is due.
	restUntil time.Time
	// most bounds the new messages of the next read; 0 means no bound. The server sends each, and the drain parses it,
	// also if it is not due.
	most int
	// again has the messages to read again: given back by a lane, or set aside.
	again map[uint64]reread
	// inHand is the number of messages in the lane, bytes their size. throttled is the state of the endpoint at the
	// last check.
	inHand, bytes int
	throttled     bool
	// dryAt is the poll of Pending after which a read found no message.
	dryAt uint64
}

// reread is when to read a message again, and how often it was read.
type reread struct {
	at    time.Time
	tries uint64
}

// waitingMessage is a message of the waiting stream in a lane. It implements settler.
type waitingMessage struct {
	drain    *drain
	term     *term
	key      cursorKey
	sequence uint64
	tries    uint64
	doubtful bool
	// marked is true with DoubtfulHeader: an attempt of the original, or of another copy, may have failed in this term.
	marked bool
	size   int
	// blocked is true once an act removes the message, begun once its attempt begins. The lock of drain guards
	// both.
	blocked, begun bool
}

// begin reports whether the attempt may begin: the replica is elected, term and epoch last, and no act removes the
// message. If so, the caller must call end.
func (w *waitingMessage) begin() (end func(), ok bool) {
	if w.term.ended.Load() || !w.term.sameEpoch() || !w.drain.mayBegin(w) {
		return nil, false
	}
	return w.drain.consumer.Owner.Begin()
}

// errOtherEpoch means that a sequence may identify another message now.
var errOtherEpoch = errors.New("the connection to NATS was lost, and the streams have not been compared since")

// Ack removes the message. If that fails, the message is read again, and its record is found.
func (w *waitingMessage) Ack() error {
	err := errOtherEpoch
	if w.term.sameEpoch() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		err = w.term.remove(ctx, w.sequence)
	}
	w.drain.release(w, err != nil, backStep)
	return err
}

// Nak schedules the message to be read again at once.
func (w *waitingMessage) Nak() error { return w.NakWithDelay(0) }

// NakWithDelay schedules the message to be read again after a delay.
func (w *waitingMessage) NakWithDelay(after time.Duration) error {
	w.drain.release(w, true, after)
	return nil
}

// hasRetry reports whether the stream has a later retry of a message. Such a retry comes from an earlier elected
// replica, from an attempt of the former term, or from this term if a removal failed.
func (d *drain) hasRetry(ctx context.Context, now *term, u *unsettled, readBefore bool) (bool, error) {
	records := d.recordsOf(now, postbackKey{u.d.Namespace, u.d.Spec.PostbackRef.UID})
	since := dueSince(u.d, u.stored).Add(-recordsReach) // No attempt begins before the delivery is due.
	d.mu.Lock()
	last := !now.overlaps()
	d.mu.Unlock()
	var err error
	if readBefore {
		err = records.read(ctx, since)
	} else {
		err = records.readOnce(ctx, since, last)
	}
	return err == nil && records.show(u.d, u.stored), err
}

// overlaps reports whether messages of a former term are in lanes.
func (t *term) overlaps() bool {
	if t.former != nil && t.former.inLanes == 0 && !t.former.overlaps() {
		t.former = nil
	}
	return t.former != nil
}

func (d *drain) recordsOf(now *term, key postbackKey) *retryRecords {
	d.mu.Lock()
	defer d.mu.Unlock()
	records := now.retries[key]
	if records == nil {
		records = newRetryRecords(d.consumer.Connection, key)
		now.retries[key] = records
	}
	return records
}

// InProgress does nothing, because NATS does not deliver this message to others.
func (*waitingMessage) InProgress() error { return nil }

// remove deletes a message unless it is gone already.
func (t *term) remove(ctx context.Context, sequence uint64) error {
	return remove(ctx, t.stream, sequence)
}

func remove(ctx context.Context, stream jetstream.Stream, sequence uint64) error {
	err := stream.DeleteMsg(ctx, sequence)
	if err == nil || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove message %d of the waiting stream: %w", sequence, err)
}

// count adds n messages, 1 or -1, to the counts of the cursor and the term.
func (w *waitingMessage) count(n int) {
	t, c := w.term, w.term.cursors[w.key]
	t.inLanes += n
	t.add(c, -1)
	c.inHand += n
	c.bytes += n * w.size
	t.add(c, 1)
}

// add adds a cursor to the sums of the term, or subtracts it if sign is -1.
func (t *term) add(c *cursor, sign int) {
	if c.throttled {
		t.throttledBytes += sign * c.bytes
	} else {
		t.flowing += sign * c.inHand
	}
}

// classify counts a Postback's messages in lanes as those of a throttled endpoint, or of another one. A lane keeps its
// messages when its endpoint becomes throttled.
func (t *term) classify(key postbackKey, throttled bool) {
	for level := range message.Levels + 1 {
		if c := t.cursors[cursorKey{key, level}]; c != nil {
			t.add(c, -1)
			c.throttled = throttled
			t.add(c, 1)
		}
	}
}

// mayHaveDue reports whether a read may find a due message. n is the number of the level's messages at a poll of
// Pending.
func (c *cursor) mayHaveDue(n, poll uint64, now time.Time) bool {
	for _, r := range c.again {
		if !r.at.After(now) {
			return true
		}
	}
	return (c.moved || n > 0 && c.dryAt != poll) && len(c.again) < laneShare && !c.restUntil.After(now)
}

// inHand returns the number of a Postback's messages in its lane. A read in progress counts as one.
func (t *term) inHand(key postbackKey) (n int) {
	for level := range message.Levels + 1 {
		if c := t.cursors[cursorKey{key, level}]; c != nil {
			n += c.inHand
			if c.reading {
				n++
			}
		}
	}
	return n
}

func (c *cursor) readAgain(sequence uint64, r reread) {
	if c.again == nil {
		c.again = map[uint64]reread{}
	}
	c.again[sequence] = r
}
