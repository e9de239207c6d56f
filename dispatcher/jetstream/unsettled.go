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

// maxUnsettled bounds the unsettled messages of a replica. It exceeds the concurrent attempts, because records and
// PostbackDeliveries are written at the same time.
const maxUnsettled = 1024

// settler settles a message, as jetstream.Msg does.
type settler interface {
	Ack() error
	Nak() error
	NakWithDelay(time.Duration) error
	InProgress() error
}

// unsettled is a message that a replica has received and not settled.
type unsettled struct {
	msg settler
	// set is the set that contains it.
	set *unsettledSet
	// waiting is not nil for a message of the waiting stream.
	waiting *waitingMessage
	d       *v1alpha1.PostbackDelivery
	// stored is when the delivery was accepted. since is when this replica received it, or when a waiting delivery
	// is due.
	stored, since time.Time
	// tries is how often NATS has delivered the message, or the drain has read it, including this time.
	tries uint64

	settled atomic.Bool
}

// takenOver reports whether the previous elected replica may have made the due retry without recording it.
func (u *unsettled) takenOver() bool {
	return u.waiting != nil && u.waiting.doubtful && u.d.Status.AttemptCount > 0 && u.since.Before(u.waiting.drain.consumer.Owner.Inherited())
}

// unsettledSet has the unsettled messages of one stream. It is safe for concurrent use.
type unsettledSet struct {
	slots *semaphore.Weighted
	gauge prometheus.Gauge

	mu       sync.Mutex
	messages map[*unsettled]struct{}
}

func newUnsettledSet(gauge prometheus.Gauge, size int64) *unsettledSet {
	return &unsettledSet{slots: semaphore.NewWeighted(size), gauge: gauge, messages: map[*unsettled]struct{}{}}
}

// add waits for a slot and adds a message. It returns false when ctx ends.
func (x *unsettledSet) add(ctx context.Context, u *unsettled) bool {
	if x.slots.Acquire(ctx, 1) != nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	u.set = x
	x.messages[u] = struct{}{}
	x.gauge.Set(float64(len(x.messages)))
	return true
}

// settle settles a message once. If tell fails, NATS delivers the message again, and its record is found.
func (x *unsettledSet) settle(u *unsettled, tell func() error) {
	if !u.settled.CompareAndSwap(false, true) {
		return
	}
	_ = tell() // It fails without a connection, after which NATS delivers the message again.
	x.mu.Lock()
	delete(x.messages, u)
	x.gauge.Set(float64(len(x.messages)))
	x.mu.Unlock()
	x.slots.Release(1)
}

func (x *unsettledSet) all() []*unsettled {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]*unsettled, 0, len(x.messages))
	for u := range x.messages {
		all = append(all, u)
	}
	return all
}

// beat reports progress of the unsettled messages to the server every third of ackWait, until ctx ends.
func (x *unsettledSet) beat(ctx context.Context) {
	ticker := time.NewTicker(ackWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, u := range x.all() {
			if !u.settled.Load() {
				_ = u.msg.InProgress() // Without a connection, nothing can be reported.
			}
		}
	}
}
