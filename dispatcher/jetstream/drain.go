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
	// maxDraining bounds the deliveries in lanes: one for each throttled endpoint, and maxUnsettled for the others.
	maxDraining = 1 << 15
)

// drain attempts the deliveries of the waiting stream, on the elected replica alone, at the pace of their endpoints. The body of a
// delivery is in memory only while it is in a lane.
type drain struct {
	consumer  *Consumer
	unsettled *unsettledSet
	wake      chan struct{}

	mu sync.Mutex
	// orphans are the Postbacks without a route.
	orphans map[postbackKey]orphan
	// term is nil while this replica is not the owner.
	term *term
}

func newDrain(c *Consumer) *drain {
	return &drain{consumer: c, unsettled: newUnsettledSet(drainingGauge, maxDraining), wake: make(chan struct{}, 1), orphans: map[postbackKey]orphan{}}
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
	most := min(laneShare, max(maxUnsettled-now.flowing, 0))
	if p.Throttled {
		if most = 1; now.throttledBytes >= maxThrottledBytes {
			most = 0
		}
	}
	n = most - c.inHand
	// A read of many is cheaper than many reads. The deliveries in the lane keep it busy meanwhile.
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
	w := &waitingMessage{drain: d, term: now, key: key, sequence: m.Sequence, tries: m.tries + 1, doubtful: doubtful, throttled: throttled, size: len(m.Data)}
	u := &unsettled{msg: w, waiting: w, d: delivery, stored: stored, since: stored, tries: w.tries}
	if !d.unsettled.add(ctx, u) {
		return ctx.Err()
	}
	d.mu.Lock()
	w.count(1)
	d.mu.Unlock()
	d.consumer.intoLane(r, u)
	return nil
}

// release notes that a message is settled or given back.
func (d *drain) release(w *waitingMessage, again bool, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := w.term.cursors[w.key]
	w.count(-1)
	if again {
		c.retry(w.sequence, retrial{d.consumer.Clock.Now().Add(after), w.tries})
	}
	if c.inHand <= laneShare/2 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}
