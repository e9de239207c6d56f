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
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// pullMessages bounds the messages in flight to a replica.
	pullMessages = 512
	// lookAgain is the time between two checks for a free slot in a lane.
	lookAgain = 5 * time.Millisecond
)

// Routes are the routes that this replica has loaded.
type Routes interface {
	attempt.Routes
	// Get returns nil if the Postback has no route.
	Get(postback types.UID) *route.Route
}

// Owner is this replica's part in the election of the replica that owns the retries.
type Owner interface {
	// HoldsLease reports whether the replica is elected and its Lease has not expired.
	HoldsLease() bool
	// Begin reports whether an attempt of the elected replica may begin. If so, the caller must call end once the
	// attempt is recorded.
	Begin() (end func(), ok bool)
	// Inherited returns when the replica took over from one that had not released the Lease, or the zero time.
	Inherited() time.Time
}

// ConsumerOptions configure a Consumer. All are required.
type ConsumerOptions struct {
	Connection *Connection
	Routes     Routes
	Lanes      *lane.Lanes
	Attempter  *attempt.Attempter
	API        intake.API
	Unfinished *unfinished.Index
	Pending    *Pending
	// Owner tells whether this replica is elected: only the elected replica drains the waiting stream.
	Owner Owner
	// PostbackExists asks the API server whether a Postback exists.
	PostbackExists func(ctx context.Context, namespace, name string, uid types.UID) (bool, error)
	// Synced reports whether Routes and Unfinished have loaded the initial state.
	Synced func() bool
	// Stop ends when work in flight has to be interrupted.
	Stop  context.Context //nolint:containedctx // It outlives the context of Start.
	Clock clock.PassiveClock
	Log   logr.Logger
}

// Consumer makes the attempts of deliveries in the streams. It is a runnable of every replica.
type Consumer struct {
	ConsumerOptions

	unsettled *unsettledSet
	drain     *drain
	failures  *failureObjects
	records   recordsIndex
}

// NewConsumer returns a Consumer. Start makes it take messages.
func NewConsumer(o ConsumerOptions) *Consumer {
	c := &Consumer{ConsumerOptions: o, unsettled: newUnsettledSet(unsettledGauge, maxUnsettled), failures: newFailureObjects()}
	c.drain = newDrain(c)
	return c
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (c *Consumer) NeedLeaderElection() bool { return false }

// Start consumes until ctx ends. It returns once all received messages are settled.
func (c *Consumer) Start(ctx context.Context) error {
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go c.unsettled.beat(beating)
	ready := func() bool { return c.Synced() && c.Connection.Available() == nil }
	var sweeping sync.WaitGroup
	sweeping.Go(func() { c.sweep(ctx, ready) })
	sweeping.Go(func() { c.drain.run(ctx, ready) })
	sweeping.Go(func() { c.drain.serveActs(ctx) })
	sweeping.Go(func() { c.drain.hearMoves(ctx) })
	c.Connection.pullIf(ctx, c.Synced, c.Connection.names.DeliveriesStream(), pullMessages, c.Log, func(msg jetstream.Msg) { c.receive(ctx, msg) })
	sweeping.Wait()
	c.finish()
	return nil
}

// receive takes a message. It blocks later messages while the lane of this one is full and moves, or while
// maxUnsettled messages are unsettled.
func (c *Consumer) receive(ctx context.Context, msg jetstream.Msg) {
	u, err := c.parse(msg)
	if err != nil {
		c.refuse(err, msg.Subject())
		_ = msg.TermWithReason("not a delivery") // Otherwise NATS would deliver it again.
		return
	}
	if u.tries > 1 {
		redelivered.Inc()
	}
	if !c.unsettled.add(ctx, u) {
		_ = msg.Nak() // NATS delivers it to another replica at once.
		return
	}
	c.place(ctx, u, false)
}

// refuse logs and counts a message that is not a delivery.
func (c *Consumer) refuse(err error, subject string) {
	invalid.Inc()
	c.Log.Error(err, "A message is not a delivery, and was removed from the stream", "subject", subject)
}

func (c *Consumer) parse(msg jetstream.Msg) (*unsettled, error) {
	metadata, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	d, err := c.Connection.names.ParseDelivery(msg.Subject(), msg.Headers(), msg.Data())
	if err != nil {
		return nil, err
	}
	now := c.Clock.Now()
	c.Pending.given(metadata.NumPending, now)
	return &unsettled{msg: msg, d: d, stored: metadata.Timestamp, since: now, tries: metadata.NumDelivered}, nil
}

// place gives a message to the lane of its endpoint or to the waiting stream. It blocks until then, or, unless beside
// is true, until the lane pauses.
func (c *Consumer) place(ctx context.Context, u *unsettled, beside bool) {
	for {
		r := c.Routes.Of(u.d.Namespace, u.d.Spec.PostbackRef)
		switch decide(r, c.Lanes.Pressure) {
		case moveToWaiting:
			go c.moveToWaiting(u) //nolint:contextcheck // It goes on until Stop.
			return
		case attemptNow:
			c.intoLane(r, u)
			return
		case waitBeside:
			if !beside {
				go c.place(ctx, u, true)
				return
			}
		case waitForPlace:
		}
		select {
		case <-ctx.Done():
			c.giveBack(u, 0)
			return
		case <-time.After(lookAgain):
		}
	}
}

// intoLane submits a message to a lane.
func (c *Consumer) intoLane(r *route.Route, u *unsettled) {
	key, after := client.ObjectKeyFromObject(u.d), time.Duration(0)
	if u.waiting != nil {
		// The key differs from that of a PostbackDelivery of the same name, so that neither replaces the other in
		// the lane.
		key.Name, after = fmt.Sprintf("%s/%d", key.Name, u.waiting.sequence), backStep
	}
	c.Lanes.Submit(r, &lane.Work{
		Key: key, Due: u.since,
		Do:      func(ctx context.Context, sent func(*v1alpha1.Attempt)) { c.attempt(ctx, u, sent) },
		Dropped: func() { c.giveBack(u, after) },
	})
}

// finish waits for the unsettled messages. When the time is over, it gives the rest back to the stream.
func (c *Consumer) finish() {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	var last <-chan time.Time
	stop := c.Stop.Done()
	for len(c.allUnsettled()) > 0 {
		select {
		case <-ticker.C:
		case <-stop:
			// lastWrite is left to record the attempts.
			stop, last = nil, time.After(lastWrite)
		case <-last:
			for _, u := range c.allUnsettled() {
				c.giveBack(u, 0)
			}
		}
	}
}

func (c *Consumer) allUnsettled() []*unsettled {
	return append(c.unsettled.all(), c.drain.unsettled.all()...)
}
