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
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// drainEvery bounds the time until the drain notices a recovered endpoint, a resumed Postback or new messages.
	drainEvery = 250 * time.Millisecond
	// laneShare bounds the messages of one level of a Postback that the drain has in a lane, and those that it sets
	// aside. It suffices for an endpoint that answers at once.
	laneShare = 64
	// maxReads bounds the concurrent reads. The server keeps the file of each read in memory for some seconds.
	maxReads = 16
	// readBytes bounds the bytes of one read.
	readBytes = 4 << 20
	// maxThrottledBytes bounds the bytes of bodies in memory for throttled endpoints, which need them for probes.
	maxThrottledBytes = 64 << 20
	// inheritGrace is how long an elected replica that did not release the Lease may take to record an attempt.
	inheritGrace = 5 * time.Second
	// maxDraining bounds the deliveries in lanes: one for each throttled endpoint, and for the others maxUnsettled beside
	// those of the reads in progress.
	maxDraining = 1 << 15
)

// drain attempts the deliveries of the waiting stream at the pace of their endpoints, on the elected replica only. A
// body is in memory only while its delivery is in a lane.
type drain struct {
	consumer  *Consumer
	unsettled *unsettledSet
	wake      chan struct{}
	// reads are the reads in progress.
	reads   sync.WaitGroup
	reading *semaphore.Weighted

	mu sync.Mutex
	// woken has the Postbacks whose lanes may take more. The value is true if a replica has moved a message of it.
	woken map[postbackKey]bool
	// orphans has the Postbacks without a route.
	orphans map[postbackKey]orphan
	// term is nil while this replica is not elected. last is the newest term, nil before the first one.
	term, last *term
}

func newDrain(c *Consumer) *drain {
	return &drain{
		consumer: c, unsettled: newUnsettledSet(drainingGauge, maxDraining), wake: make(chan struct{}, 1),
		reading: semaphore.NewWeighted(maxReads), woken: map[postbackKey]bool{}, orphans: map[postbackKey]orphan{},
	}
}

// run drains the waiting stream while this replica is elected, until ctx ends.
func (d *drain) run(ctx context.Context, ready func() bool) {
	defer d.reads.Wait()
	ticker := time.NewTicker(drainEvery)
	defer ticker.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			all = true
		case <-d.wake:
		}
		if !ready() || !d.consumer.Owner.HoldsLease() {
			d.end()
			continue
		}
		if err := d.fill(ctx, all); err != nil {
			d.complain(ctx, err)
		}
	}
}

func (d *drain) complain(ctx context.Context, err error) {
	if ctx.Err() == nil {
		d.consumer.Log.V(1).Info("Cannot read the deliveries that wait", "reason", err.Error())
	}
}

func (d *drain) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replace(nil)
	clear(d.woken)
}

// replace ends the present term and begins the next. The caller holds the lock.
func (d *drain) replace(next *term) {
	if d.term != nil {
		d.term.ended.Store(true)
	}
	d.term = next
}

// currentTerm returns the present term, or begins one.
func (d *drain) currentTerm(ctx context.Context) (*term, error) {
	d.mu.Lock()
	now := d.term
	d.mu.Unlock()
	if now != nil && now.sameEpoch() {
		return now, nil
	}
	sameEpoch, _ := d.consumer.Connection.epoch.now()
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	stream, err := d.stream(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now = &term{
		former: d.last, sameEpoch: sameEpoch, stream: stream, doubtfulUpTo: stream.CachedInfo().State.LastSeq, cursors: map[cursorKey]*cursor{},
		retries: map[postbackKey]*retryRecords{}, forgotten: map[postbackKey]uint64{},
	}
	d.replace(now)
	d.last = now
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

// fill begins to read as many messages of each level of each Postback as its lane takes. Without all, it does so only
// for the Postbacks in woken: a pass over ten thousand Postbacks takes too long for each freed lane.
func (d *drain) fill(ctx context.Context, all bool) error {
	now, err := d.currentTerm(ctx)
	if err != nil {
		return err
	}
	counts, poll := d.consumer.Pending.waitingCounts()
	woken := d.takeWoken()
	for key, moved := range woken {
		d.fillPostback(ctx, now, waitingNow{key, counts[key], poll, moved})
	}
	if !all {
		return nil
	}
	d.forget(now, counts)
	for key, levels := range counts {
		if _, done := woken[key]; !done {
			d.fillPostback(ctx, now, waitingNow{key, levels, poll, false})
		}
	}
	return nil
}

// waitingNow has the numbers of a Postback's messages at a poll of Pending. moved is true if a replica has moved one
// there since.
type waitingNow struct {
	postbackKey

	levels levelCounts
	poll   uint64
	moved  bool
}

func (d *drain) fillPostback(ctx context.Context, now *term, w waitingNow) {
	r := d.consumer.Routes.Get(w.postback)
	switch {
	case r == nil || r.Namespace != w.namespace:
		if d.mayAsk(w.postbackKey) {
			d.start(ctx, func(ctx context.Context) error { return d.purgeOrphan(ctx, w.postbackKey) })
		}
		return
	case r.State != v1alpha1.PostbackEnabled:
		return
	}
	readable, busy := d.readable(now, r, w)
	if len(readable) == 0 && !busy {
		return
	}
	pressure := d.consumer.Lanes.Pressure(r) // Not under d.mu: a lane that drops work locks d.mu under its own mutex.
	for _, next := range d.claim(now, r, w, readable, pressure.Throttled) {
		d.start(ctx, func(ctx context.Context) error {
			defer d.unclaim(now, next.key)
			return d.read(ctx, now, r, next)
		})
	}
}

// start runs a read concurrently, once one of maxReads slots is free.
func (d *drain) start(ctx context.Context, read func(context.Context) error) {
	got := d.reading.Acquire(ctx, 1)
	d.reads.Go(func() {
		if got == nil {
			defer d.reading.Release(1)
		}
		ctx, cancel := context.WithTimeout(ctx, setupTimeout)
		defer cancel()
		if err := read(ctx); err != nil {
			d.complain(ctx, err)
		}
	})
}

// forget drops the state of Postbacks without waiting messages.
func (d *drain) forget(now *term, counts map[postbackKey]levelCounts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now.overlaps() // It lets go of former terms without messages in lanes.
	maps.DeleteFunc(d.orphans, func(key postbackKey, _ orphan) bool { return counts[key].total() == 0 })
	maps.DeleteFunc(now.retries, func(key postbackKey, _ *retryRecords) bool { return counts[key].total() == 0 })
	maps.DeleteFunc(now.cursors, func(key cursorKey, c *cursor) bool {
		done := counts[key.postbackKey].total() == 0 && c.inHand == 0 && !c.reading
		if done {
			now.forgotten[key.postbackKey] = max(now.forgotten[key.postbackKey], c.next)
		}
		return done
	})
}

// claimed is a level to read now, and the largest number of messages.
type claimed struct {
	key  cursorKey
	most int
	// poll is the poll of Pending that counted the messages.
	poll uint64
}

// readable returns the levels in which a read may find a message that may be attempted now. busy is true if messages
// of the Postback are in its lane.
func (d *drain) readable(now *term, r *route.Route, w waitingNow) (levels []int, busy bool) {
	at := d.consumer.Clock.Now()
	// The previous elected replica may have been suspended, or may end slowly: an attempt of it may be in flight.
	early := at.Before(d.consumer.Owner.Inherited().Add(r.Timeout.Duration + inheritGrace))
	d.mu.Lock()
	defer d.mu.Unlock()
	for level, n := range w.levels {
		key, moved := cursorKey{w.postbackKey, level}, w.moved && level == 0
		c := now.cursors[key]
		if c == nil {
			if n == 0 && !moved {
				continue
			}
			c = &cursor{}
			now.cursors[key] = c
		}
		c.moved = c.moved || moved
		busy = busy || c.inHand > 0
		if !c.reading && (!early || c.next > now.doubtfulUpTo) && c.mayHaveDue(n, w.poll, at) {
			levels = append(levels, level)
		}
	}
	return levels, busy
}

// claim returns how many messages of each level to read now, and reserves these levels until unclaim.
func (d *drain) claim(now *term, r *route.Route, w waitingNow, levels []int, throttled bool) (reads []claimed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now.classify(w.postbackKey, throttled)
	for _, level := range levels {
		key := cursorKey{w.postbackKey, level}
		c := now.cursors[key]
		most, inHand := min(share(r), max(maxUnsettled-now.flowing, 0)), c.inHand
		if throttled {
			if most = 1; now.throttledBytes >= maxThrottledBytes {
				most = 0
			}
			inHand = now.inHand(w.postbackKey)
		}
		// One read of many messages is cheaper than many reads. Meanwhile the deliveries in the lane keep it busy.
		if left := most - inHand; left > 0 && left >= most/2 {
			c.reading, c.moved = true, false
			reads = append(reads, claimed{key, left, w.poll})
		}
	}
	return reads
}

// share returns how many messages of a level a lane may have: at most as many as begin in a second, so that limited
// Postbacks leave the others their part of maxUnsettled.
func share(r *route.Route) int {
	if r.PerSecond > 0 {
		return min(int(r.PerSecond), laneShare)
	}
	return laneShare
}

func (d *drain) unclaim(now *term, key cursorKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := now.cursors[key]
	c.reading = false
	if c.moved {
		d.wakeFor(key.postbackKey, false)
	}
}

// read reads messages of a level and submits them to the lane of its Postback.
func (d *drain) read(ctx context.Context, now *term, r *route.Route, next claimed) error {
	messages, err := d.next(ctx, now, next)
	for i, m := range messages {
		if err := d.submit(ctx, now, r, next, m); err != nil {
			d.giveUp(now, next.key, messages[i:])
			return err
		}
	}
	return err
}

// giveUp schedules messages to be read again.
func (d *drain) giveUp(now *term, key cursorKey, messages []drained) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range messages {
		now.cursors[key].readAgain(m.Sequence, reread{tries: m.tries})
	}
}

// submit submits a message to a lane, or removes it if it is not a delivery.
func (d *drain) submit(ctx context.Context, now *term, r *route.Route, from claimed, m drained) error {
	if m.invalid != nil {
		d.consumer.refuse(m.invalid, m.Subject)
		return now.remove(ctx, m.Sequence)
	}
	marked := m.Header.Get(message.DoubtfulHeader) != ""
	d.mu.Lock()
	doubtful := marked || now.isDoubtful(from.key.postbackKey, m.Sequence)
	d.mu.Unlock()
	w := &waitingMessage{
		drain: d, term: now, key: from.key, sequence: m.Sequence, tries: m.tries + 1, doubtful: doubtful, marked: marked,
		size: len(m.Data) + len(m.Header.Get(message.StatusHeader)),
	}
	u := &unsettled{msg: w, waiting: w, d: m.delivery, stored: m.stored, since: dueSince(m.delivery, m.stored), tries: w.tries}
	if !d.unsettled.add(ctx, u) {
		return ctx.Err()
	}
	d.mu.Lock()
	w.count(1)
	w.blocked = now.blocks.has(from.key.postbackKey, w.sequence)
	d.mu.Unlock()
	if newest := delivery.Newest(m.delivery); newest != nil {
		d.consumer.Lanes.Observe(r, newest) // The replica may have started after that attempt.
	}
	d.consumer.intoLane(r, u)
	return nil
}

// release records that a message is settled or given back.
func (d *drain) release(w *waitingMessage, again bool, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := w.term.cursors[w.key]
	w.count(-1)
	if again {
		c.readAgain(w.sequence, reread{d.consumer.Clock.Now().Add(after), w.tries})
	}
	if c.inHand <= laneShare/2 {
		d.wakeFor(w.key.postbackKey, false)
	}
}
