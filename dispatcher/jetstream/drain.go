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
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
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
	goesOn func() bool
	// doubtful is the last sequence number at its beginning: an earlier owner may have attempted these messages.
	doubtful uint64
	cursors  map[postbackKey]*cursor
	// throttledBytes are those of bodies in lanes of throttled endpoints, flowing is the number of deliveries in other lanes.
	throttledBytes, flowing int
}

// cursor is the place up to which the messages of one Postback are in a lane or settled.
type cursor struct {
	next uint64
	// again are messages that were given back, by when to read them again.
	again  map[uint64]time.Time
	inHand int
	// dryAt is the poll of Pending after which nothing was left to read.
	dryAt uint64
}

// parked settles a message of the waiting stream.
type parked struct {
	drain    *drain
	term     *term
	key      postbackKey
	sequence uint64
	doubtful bool
	// throttled is set if it was read for a throttled endpoint; size is that of its body.
	throttled bool
	size      int
}

// mayBegin reports whether its attempt may begin: the replica is still the owner, and the message the same.
func (p *parked) mayBegin() bool { return p.term.goesOn() && p.drain.consumer.HoldsLease() }

// Ack removes the message. If that fails, the message is read again, and its record is found.
func (p *parked) Ack() error {
	var err error
	if p.term.goesOn() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		err = p.drain.remove(ctx, p.sequence)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = nil
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
		if !ready() || !d.consumer.HoldsLease() {
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
	d.term = nil
}

// begin returns the present term.
func (d *drain) begin(ctx context.Context) (*term, error) {
	d.mu.Lock()
	now := d.term
	d.mu.Unlock()
	if now != nil && now.goesOn() {
		return now, nil
	}
	goesOn, _ := d.consumer.Connection.epoch.now()
	info, err := d.stream(ctx)
	if err != nil {
		return nil, err
	}
	now = &term{goesOn: goesOn, doubtful: info.CachedInfo().State.LastSeq, cursors: map[postbackKey]*cursor{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term = now
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

func (d *drain) remove(ctx context.Context, sequence uint64) error {
	stream, err := d.stream(ctx)
	if err != nil {
		return err
	}
	return stream.DeleteMsg(ctx, sequence)
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
		if r == nil {
			if d.mayAsk(key) {
				reading.Go(func() error { return d.purgeOrphan(ctx, key) })
			}
			continue
		}
		if r.State != v1alpha1.PostbackEnabled {
			continue
		}
		share, throttled := d.share(now, key, poll, d.consumer.Lanes.Pressure(r))
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
	maps.DeleteFunc(now.cursors, func(key postbackKey, c *cursor) bool { return counts[key] == 0 && c.inHand == 0 && len(c.again) == 0 })
}

// share returns how many messages of a Postback to read now.
func (d *drain) share(now *term, key postbackKey, poll uint64, p lane.Pressure) (n int, throttled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := now.cursors[key]
	if c == nil {
		c = &cursor{}
		now.cursors[key] = c
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
	messages, again, err := d.next(ctx, now, key, share, poll)
	for i, m := range messages {
		if err := d.submit(ctx, now, key, r, m, i < again, throttled); err != nil {
			d.giveUp(now, key, messages[i:])
			return err
		}
	}
	return err
}

// giveUp has messages read again.
func (d *drain) giveUp(now *term, key postbackKey, messages []*jetstream.RawStreamMsg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range messages {
		now.cursors[key].retry(m.Sequence, time.Time{})
	}
}

// submit puts a message into a lane, or removes what is no delivery. A message that is read again may have been attempted.
func (d *drain) submit(ctx context.Context, now *term, key postbackKey, r *route.Route, m *jetstream.RawStreamMsg, again, throttled bool) error {
	delivery, stored, invalid := d.consumer.Connection.names.ParseWaiting(m.Subject, m.Header, m.Data)
	if invalid != nil {
		d.consumer.refuse(invalid, m.Subject)
		return d.remove(ctx, m.Sequence)
	}
	p := &parked{
		drain: d, term: now, key: key, sequence: m.Sequence, doubtful: again || m.Sequence <= now.doubtful, throttled: throttled, size: len(m.Data),
	}
	h := &held{msg: p, parked: p, d: delivery, stored: stored, since: stored, tries: 1}
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

func (c *cursor) retry(sequence uint64, at time.Time) {
	if c.again == nil {
		c.again = map[uint64]time.Time{}
	}
	c.again[sequence] = at
}

// release notes that a message is no longer in hand.
func (d *drain) release(p *parked, again bool, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := p.term.cursors[p.key]
	p.count(-1)
	if again {
		c.retry(p.sequence, d.consumer.Clock.Now().Add(after))
	}
	if c.inHand <= laneShare/2 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// next returns the next messages of a Postback: some that were read before, then those that were not.
func (d *drain) next(ctx context.Context, now *term, key postbackKey, most int, poll uint64) (messages []*jetstream.RawStreamMsg, again int, err error) {
	c := d.consumer.Connection
	messages, err = d.repeated(ctx, now, key, most)
	if again = len(messages); err != nil || again == most {
		return messages, again, err
	}
	d.mu.Lock()
	from := now.cursors[key].next
	d.mu.Unlock()
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.WaitingStream(), most-len(messages), jetstreamext.GetBatchSeq(max(from, 1)),
		jetstreamext.GetBatchSubject(c.names.WaitingSubject(key.namespace, key.postback)), jetstreamext.GetBatchMaxBytes(readBytes))
	if err != nil {
		return messages, again, fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, err)
	}
	for m, failed := range batch {
		if errors.Is(failed, jetstreamext.ErrNoMessages) {
			break
		}
		if failed != nil {
			err = fmt.Errorf("read what waits for Postback %s of namespace %s: %w", key.postback, key.namespace, failed)
			break
		}
		messages, from = append(messages, m), m.Sequence+1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	cursor := now.cursors[key]
	cursor.next = from
	if err == nil && len(messages) == 0 {
		cursor.dryAt = poll
	}
	return messages, again, err
}

// repeated returns the messages that were given back and whose time has come, as the leader has them.
func (d *drain) repeated(ctx context.Context, now *term, key postbackKey, most int) (messages []*jetstream.RawStreamMsg, err error) {
	for _, sequence := range d.dueAgain(now, key, most) {
		m, err := d.consumer.Connection.ask(ctx, d.consumer.Connection.names.WaitingStream(), whichMessage{From: sequence})
		if err != nil {
			d.mu.Lock()
			now.cursors[key].retry(sequence, time.Time{})
			d.mu.Unlock()
			return messages, err
		}
		if m != nil {
			messages = append(messages, m)
		}
	}
	return messages, nil
}

func (d *drain) dueAgain(now *term, key postbackKey, most int) (due []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := now.cursors[key].again
	for sequence, at := range again {
		if len(due) < most && !at.After(d.consumer.Clock.Now()) {
			due = append(due, sequence)
			delete(again, sequence)
		}
	}
	return due
}
