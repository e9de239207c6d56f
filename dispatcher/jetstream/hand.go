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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// maxInHand is how many deliveries a replica has in hand: more than it makes attempts at a time, for the log is written, and
// PostbackDeliveries are made, beside the attempts.
const maxInHand = 1024

// settler tells the server what became of a message, as jetstream.Msg does.
type settler interface {
	Ack() error
	Nak() error
	NakWithDelay(time.Duration) error
	InProgress() error
}

// held is a message in hand.
type held struct {
	msg settler
	// hand is the one that holds it.
	hand *hand
	// parked is set for a message of the waiting stream.
	parked *parked
	d      *v1alpha1.PostbackDelivery
	// stored is when the stream took it, since when it was taken in hand.
	stored, since time.Time
	// tries is how often it was given out, this time included.
	tries uint64

	settled atomic.Bool
}

// hand is what a replica has taken out of the stream and is not done with.
type hand struct {
	slots *semaphore.Weighted
	gauge prometheus.Gauge

	mu   sync.Mutex
	held map[*held]struct{}
}

func newHand(gauge prometheus.Gauge, size int64) *hand {
	return &hand{slots: semaphore.NewWeighted(size), gauge: gauge, held: map[*held]struct{}{}}
}

// take waits for a slot and takes a message, or returns false when ctx ends.
func (x *hand) take(ctx context.Context, h *held) bool {
	if x.slots.Acquire(ctx, 1) != nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h.hand = x
	x.held[h] = struct{}{}
	x.gauge.Set(float64(len(x.held)))
	return true
}

// settle tells the server what became of a message, once. If that is lost the message comes again, and is known by its
// traces.
func (x *hand) settle(h *held, tell func() error) {
	if !h.settled.CompareAndSwap(false, true) {
		return
	}
	_ = tell() // It fails without a connection, and is not needed then.
	x.mu.Lock()
	delete(x.held, h)
	x.gauge.Set(float64(len(x.held)))
	x.mu.Unlock()
	x.slots.Release(1)
}

func (x *hand) all() []*held {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]*held, 0, len(x.held))
	for h := range x.held {
		all = append(all, h)
	}
	return all
}

// beat tells the server every now and then that what has been in hand for long is still being worked on, until ctx ends.
func (x *hand) beat(ctx context.Context) {
	ticker := time.NewTicker(ackWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, h := range x.all() {
			if !h.settled.Load() {
				_ = h.msg.InProgress() // Without a connection there is nobody to tell.
			}
		}
	}
}
