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
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/klog/v2"
)

const (
	// sweepEvery is the time between two searches for strays. A delivery must look like a stray in two searches.
	sweepEvery = 10 * time.Second
	// maxSwept bounds the strays that one search settles.
	maxSwept = 100
	// strayTries makes the look-ups for a message that was delivered before.
	strayTries = 2
)

// stray is a delivery that the server counts as acknowledged but still has, because it was killed before the removal
// reached the disk. The server never delivers it again.
type stray struct {
	stream    jetstream.Stream
	place     uint64
	sameEpoch func() bool
}

// Ack removes the message.
func (s *stray) Ack() error {
	if !s.sameEpoch() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	return s.stream.DeleteMsg(ctx, s.place)
}

// Nak, NakWithDelay and InProgress do nothing: a later search finds the message again.
func (*stray) Nak() error                       { return nil }
func (*stray) NakWithDelay(time.Duration) error { return nil }
func (*stray) InProgress() error                { return nil }

// sweep searches for strays and settles them, until ctx ends.
func (c *Consumer) sweep(ctx context.Context, ready func() bool) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	var floor uint64
	sameEpoch, _ := c.Connection.epoch.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !ready() {
			continue
		}
		if !sameEpoch() {
			sameEpoch, _ = c.Connection.epoch.now()
			floor = 0
		}
		now, err := c.settleStrays(ctx, floor, sameEpoch)
		if err != nil {
			c.Log.V(1).Info("Cannot search the stream for strays", "reason", err.Error())
			continue
		}
		floor = now
	}
}

// settleStrays settles the messages up to the sequence before, the consumer's acknowledgement floor at the last
// search. It returns the present floor.
func (c *Consumer) settleStrays(ctx context.Context, before uint64, sameEpoch func() bool) (now uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepEvery)
	defer cancel()
	name := c.Connection.names.DeliveriesStream()
	stream, err := c.Connection.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", name, err)
	}
	consumer, err := stream.Consumer(ctx, consumerName)
	if err != nil {
		return 0, fmt.Errorf("look at the consumer of stream %s: %w", name, err)
	}
	now = consumer.CachedInfo().AckFloor.Stream
	last := min(before, now) // The floor of a killed server may be lower again; it delivers the messages above.
	next := stream.CachedInfo().State.FirstSeq
	for range maxSwept {
		if next > last {
			break
		}
		m, err := c.Connection.ask(ctx, name, whichMessage{From: next, NextOf: c.Connection.names.AllDeliveries()})
		if err != nil {
			return 0, err
		}
		if m == nil || m.Sequence > last {
			break
		}
		next = m.Sequence + 1
		if err := c.settleStray(ctx, &stray{stream, m.Sequence, sameEpoch}, m); err != nil {
			return 0, err
		}
	}
	return now, nil
}

// settleStray removes a delivery that is recorded, and moves any other to the waiting stream: the server would never
// deliver it.
func (c *Consumer) settleStray(ctx context.Context, s *stray, m *jetstream.RawStreamMsg) error {
	d, err := c.Connection.names.ParseDelivery(m.Subject, m.Header, m.Data)
	if err != nil {
		c.refuse(err, m.Subject)
		return s.Ack() //nolint:contextcheck // It is short, and is to be done when ctx ends, too.
	}
	u := &unsettled{msg: s, d: d, stored: m.Time, since: c.Clock.Now(), tries: strayTries}
	if !c.unsettled.add(ctx, u) {
		return ctx.Err()
	}
	c.Log.Info("The stream has a delivery that it counts as acknowledged", "delivery", klog.KObj(d))
	c.moveToWaiting(u) //nolint:contextcheck // It goes on until Stop.
	return nil
}
