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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// drainEvery is how soon the drain notices an endpoint that recovered, a resumed Postback or new work.
	drainEvery = 250 * time.Millisecond
	// laneShare is how many deliveries of one Postback the drain has in a lane: enough for an endpoint that answers at once.
	laneShare = 64
	// maxReads bounds the reads under way. The server keeps the file of each in memory for some seconds.
	maxReads = 16
	// readBytes bounds one read.
	readBytes = 4 << 20
	// maxThrottledBytes bounds the bodies that are in memory for throttled endpoints, whose probes they are.
	maxThrottledBytes = 64 << 20
	// inheritGrace is how long the recording of an attempt may take an owner that did not release the Lease.
	inheritGrace = 5 * time.Second
	// maxDraining bounds the deliveries in lanes: one for each throttled endpoint, and maxInHand for the others.
	maxDraining = 1 << 15
)

// drain attempts the deliveries of the waiting stream, on the elected replica alone, at the pace of their endpoints. The body of a
// delivery is in memory only while it is in a lane.
type drain struct {
	consumer *Consumer
	hand     *hand
	wake     chan struct{}

	mu sync.Mutex
	// orphans are the Postbacks without a route.
	orphans map[postbackKey]orphan
	// term is nil while this replica is not the owner.
	term *term
}

// term is the time in which the sequence numbers of the stream mean the same, and this replica is its owner.
type term struct {
	// sameEpoch reports whether the sequence numbers still mean the same.
	sameEpoch func() bool
	// ended is set when the replica is no longer the owner, or begins another term.
	ended  atomic.Bool
	stream jetstream.Stream
	// doubtfulUpTo is the last sequence number at its beginning: an earlier owner may have attempted these messages. It rises to what
	// was read of Postbacks without a cursor, for a server that lags may show a removed message.
	doubtfulUpTo uint64
	cursors      map[postbackKey]*cursor
	// throttledBytes are those of bodies in lanes of throttled endpoints, flowing is the number of deliveries in other lanes.
	throttledBytes, flowing int
}

// cursor is the place up to which the messages of one Postback are in a lane or settled.
type cursor struct {
	next uint64
	// again are messages that were given back.
	again  map[uint64]retrial
	inHand int
	// dryAt is the poll of Pending after which nothing was left to read.
	dryAt uint64
}

// retrial is when to read a message again, and how often it was read.
type retrial struct {
	at    time.Time
	tries uint64
}

// parked settles a message of the waiting stream.
type parked struct {
	drain    *drain
	term     *term
	key      postbackKey
	sequence uint64
	tries    uint64
	doubtful bool
	// throttled is set if it was read for a throttled endpoint; size is that of its body.
	throttled bool
	size      int
}

// begin reports whether its attempt may begin: the replica is still the owner, and the message the same. Then end has to be called.
func (p *parked) begin() (end func(), ok bool) {
	if p.term.ended.Load() || !p.term.sameEpoch() {
		return nil, false
	}
	return p.drain.consumer.Owner.Begin()
}

// Ack removes the message. If that fails, the message is read again, and its record is found.
func (p *parked) Ack() error {
	var err error
	if p.term.sameEpoch() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		err = p.term.remove(ctx, p.sequence)
	}
	p.drain.release(p, err != nil, backStep)
	return err
}

// Nak has the message read again.
func (p *parked) Nak() error { return p.NakWithDelay(0) }

// NakWithDelay has the message read again after a time.
func (p *parked) NakWithDelay(after time.Duration) error {
	p.drain.release(p, true, after)
	return nil
}

// InProgress does nothing: nobody else gives out the message.
func (*parked) InProgress() error { return nil }

func newDrain(c *Consumer) *drain {
	return &drain{consumer: c, hand: newHand(drainingGauge, maxDraining), wake: make(chan struct{}, 1), orphans: map[postbackKey]orphan{}}
}

// run drains while this replica is elected, until ctx ends.
func (d *drain) run(ctx context.Context, ready func() bool) {
	ticker := time.NewTicker(drainEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-d.wake:
		}
		if !ready() || !d.consumer.Owner.HoldsLease() {
			d.end()
			continue
		}
		if err := d.fill(ctx); err != nil && ctx.Err() == nil {
			d.consumer.Log.V(1).Info("Cannot read the deliveries that wait", "reason", err.Error())
		}
	}
}

func (d *drain) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replace(nil)
}

// replace ends the present term. It is called with the lock.
func (d *drain) replace(next *term) {
	if d.term != nil {
		d.term.ended.Store(true)
	}
	d.term = next
}

// begin returns the present term.
func (d *drain) begin(ctx context.Context) (*term, error) {
	d.mu.Lock()
	now := d.term
	d.mu.Unlock()
	if now != nil && now.sameEpoch() {
		return now, nil
	}
	sameEpoch, _ := d.consumer.Connection.epoch.now()
	stream, err := d.stream(ctx)
	if err != nil {
		return nil, err
	}
	now = &term{sameEpoch: sameEpoch, stream: stream, doubtfulUpTo: stream.CachedInfo().State.LastSeq, cursors: map[postbackKey]*cursor{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replace(now)
	return now, nil
}

func (d *drain) stream(ctx context.Context) (jetstream.Stream, error) {
	name := d.consumer.Connection.names.WaitingStream()
	stream, err := d.consumer.Connection.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", name, err)
	}
	return stream, nil
}

// remove deletes a message, which may be gone already.
func (t *term) remove(ctx context.Context, sequence uint64) error {
	err := t.stream.DeleteMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	return err
}

// fill reads as much for each Postback as its lane takes.
func (d *drain) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	now, err := d.begin(ctx)
	if err != nil {
		return err
	}
	var reading errgroup.Group
	reading.SetLimit(maxReads)
	counts, poll := d.consumer.Pending.waitingCounts()
	d.prune(now, counts)
	for key := range counts {
		r := d.consumer.Routes.Get(key.postback)
		if r == nil || r.Namespace != key.namespace {
			if d.mayAsk(key) {
				reading.Go(func() error { return d.purgeOrphan(ctx, key) })
			}
			continue
		}
		if r.State != v1alpha1.PostbackEnabled {
			continue
		}
		share, throttled := d.share(now, key, r, poll)
		if share > 0 {
			reading.Go(func() error { return d.read(ctx, now, key, r, share, poll, throttled) })
		}
	}
	return reading.Wait()
}

// prune forgets Postbacks for which nothing waits.
func (d *drain) prune(now *term, counts map[postbackKey]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.orphans, func(key postbackKey, _ orphan) bool { return counts[key] == 0 })
	maps.DeleteFunc(now.cursors, func(key postbackKey, c *cursor) bool {
		done := counts[key] == 0 && c.inHand == 0 && len(c.again) == 0
		if done {
			now.doubtfulUpTo = max(now.doubtfulUpTo, c.next)
		}
		return done
	})
}

// share returns how many messages of a Postback to read now.
func (d *drain) share(now *term, key postbackKey, r *route.Route, poll uint64) (n int, throttled bool) {
	p := d.consumer.Lanes.Pressure(r)
	// An owner that was suspended, or is slow to end, may still be at an attempt.
	early := d.consumer.Clock.Now().Before(d.consumer.Owner.Inherited().Add(r.Timeout.Duration + inheritGrace))
	d.mu.Lock()
	defer d.mu.Unlock()
	c := now.cursors[key]
	if c == nil {
		c = &cursor{}
		now.cursors[key] = c
	}
	if early && c.next <= now.doubtfulUpTo {
		return 0, false
	}
	most := min(laneShare, max(maxInHand-now.flowing, 0))
	if p.Throttled {
		if most = 1; now.throttledBytes >= maxThrottledBytes {
			most = 0
		}
	}
	n = most - c.inHand
	// A read of many is cheaper than many reads. What waits in the lane keeps it busy meanwhile.
	if n <= 0 || n < most/2 || c.dryAt == poll && len(c.again) == 0 {
		return 0, false
	}
	return n, p.Throttled
}

// read reads messages of a Postback and puts them into its lane.
func (d *drain) read(ctx context.Context, now *term, key postbackKey, r *route.Route, share int, poll uint64, throttled bool) error {
	messages, err := d.next(ctx, now, key, share, poll)
	for i, m := range messages {
		if err := d.submit(ctx, now, key, r, m, throttled); err != nil {
			d.giveUp(now, key, messages[i:])
			return err
		}
	}
	return err
}

// giveUp has messages read again.
func (d *drain) giveUp(now *term, key postbackKey, messages []drained) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range messages {
		now.cursors[key].retry(m.Sequence, retrial{tries: m.tries})
	}
}

// submit puts a message into a lane, or removes what is no delivery. A message that is read again may have been attempted.
func (d *drain) submit(ctx context.Context, now *term, key postbackKey, r *route.Route, m drained, throttled bool) error {
	delivery, stored, invalid := d.consumer.Connection.names.ParseWaiting(m.Subject, m.Header, m.Data)
	if invalid != nil {
		d.consumer.refuse(invalid, m.Subject)
		return now.remove(ctx, m.Sequence)
	}
	d.mu.Lock()
	doubtful := m.Sequence <= now.doubtfulUpTo || m.Header.Get(message.DoubtfulHeader) != ""
	d.mu.Unlock()
	p := &parked{drain: d, term: now, key: key, sequence: m.Sequence, tries: m.tries + 1, doubtful: doubtful, throttled: throttled, size: len(m.Data)}
	h := &held{msg: p, parked: p, d: delivery, stored: stored, since: stored, tries: p.tries}
	if !d.hand.take(ctx, h) {
		return ctx.Err()
	}
	d.mu.Lock()
	p.count(1)
	d.mu.Unlock()
	d.consumer.enter(r, h)
	return nil
}

// count adds a message to those in hand, or removes it with -1.
func (p *parked) count(n int) {
	p.term.cursors[p.key].inHand += n
	if p.throttled {
		p.term.throttledBytes += n * p.size
	} else {
		p.term.flowing += n
	}
}

func (c *cursor) retry(sequence uint64, r retrial) {
	if c.again == nil {
		c.again = map[uint64]retrial{}
	}
	c.again[sequence] = r
}

// release notes that a message is no longer in hand.
func (d *drain) release(p *parked, again bool, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := p.term.cursors[p.key]
	p.count(-1)
	if again {
		c.retry(p.sequence, retrial{d.consumer.Clock.Now().Add(after), p.tries})
	}
	if c.inHand <= laneShare/2 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// drained is a message that was read, and how often before.
type drained struct {
	*jetstream.RawStreamMsg

	tries uint64
}

// next returns the next messages of a Postback: some that were read before, then those that were not, unless too many are to be
// read again.
func (d *drain) next(ctx context.Context, now *term, key postbackKey, most int, poll uint64) ([]drained, error) {
	c := d.consumer.Connection
	messages, err := d.repeated(ctx, now, key, most)
	d.mu.Lock()
	cursor := now.cursors[key]
	from, crowded := cursor.next, len(cursor.again) >= laneShare
	d.mu.Unlock()
	if err != nil || len(messages) == most || crowded {
		return messages, err
	}
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.WaitingStream(), most-len(messages), jetstreamext.GetBatchSeq(max(from, 1)),
		jetstreamext.GetBatchSubject(c.names.WaitingSubject(key.namespace, key.postback)), jetstreamext.GetBatchMaxBytes(readBytes))
	if err != nil {
		return messages, fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, err)
	}
	for m, failed := range batch {
		if errors.Is(failed, jetstreamext.ErrNoMessages) {
			break
		}
		if failed != nil {
			err = fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, failed)
			break
		}
		messages, from = append(messages, drained{RawStreamMsg: m}), m.Sequence+1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	cursor.next = from
	if err == nil && len(messages) == 0 {
		cursor.dryAt = poll
	}
	return messages, err
}

// repeated returns the messages that were given back and whose time has come, as the leader has them.
func (d *drain) repeated(ctx context.Context, now *term, key postbackKey, most int) (messages []drained, err error) {
	due := d.dueAgain(now, key, most)
	for i, one := range due {
		m, err := d.consumer.Connection.ask(ctx, d.consumer.Connection.names.WaitingStream(), whichMessage{From: one.sequence})
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, left := range due[i:] {
				now.cursors[key].retry(left.sequence, left.retrial)
			}
			return messages, err
		}
		if m != nil {
			messages = append(messages, drained{m, one.tries})
		}
	}
	return messages, nil
}

// again is a message to be read again.
type again struct {
	sequence uint64
	retrial
}

// dueAgain pops the messages that are to be read again now, the oldest first.
func (d *drain) dueAgain(now *term, key postbackKey, most int) (due []again) {
	d.mu.Lock()
	defer d.mu.Unlock()
	given, at := now.cursors[key].again, d.consumer.Clock.Now()
	for _, sequence := range slices.Sorted(maps.Keys(given)) {
		if r := given[sequence]; len(due) < most && !r.at.After(at) {
			due = append(due, again{sequence, r})
			delete(given, sequence)
		}
	}
	return due
}
