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
	"time"

	"github.com/nats-io/nats.go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// lookbackTimeout bounds a look-up for the record of a delivery.
	lookbackTimeout = 10 * time.Second
	// lastWrite is the time left to record finished attempts once the process must end.
	lastWrite = 4 * time.Second

	// backStep is the usual delay before NATS delivers a message again, backInFlight the delay while an attempt of
	// the same delivery is in flight here.
	backStep     = time.Second
	backInFlight = time.Second
	// A message whose PostbackDelivery is refused goes back for backRefused. Each further time doubles the delay, up
	// to longestRefused. The time at which a quota or policy changes is unknown.
	backRefused    = 30 * time.Second
	longestRefused = 16 * time.Minute
	// A message for which the waiting stream has no space goes back for backNoSpace. Each further time doubles the
	// delay, up to longestNoSpace.
	backNoSpace    = 500 * time.Millisecond
	longestNoSpace = time.Minute
)

// errRefused means that the API server refuses the PostbackDelivery for a lasting reason.
var errRefused = errors.New("the API server refuses the PostbackDelivery")

// errOther means that another event is stored under the name of a delivery.
var errOther = errors.New("another event is stored under the same id")

func (c *Consumer) done(u *unsettled) { u.set.settle(u, u.msg.Ack) }

// giveBack gives a message back to its stream. After a delay NATS delivers it again, or the drain reads it again.
func (c *Consumer) giveBack(u *unsettled, after time.Duration) {
	u.set.settle(u, func() error {
		if after == 0 {
			return u.msg.Nak()
		}
		return u.msg.NakWithDelay(after)
	})
}

// claim reserves a delivery for this message. Look-ups for a record say nothing about another attempt in flight here,
// whose message is a copy. If another message has the claim, claim gives this one back.
func (c *Consumer) claim(u *unsettled) (release func(), ok bool) {
	release, ok = c.Attempter.Claim(client.ObjectKeyFromObject(u.d))
	if !ok {
		c.giveBack(u, backInFlight)
	}
	return release, ok
}

// attempt makes the next attempt of a delivery if it is still due.
func (c *Consumer) attempt(ctx context.Context, u *unsettled, sent func(*v1alpha1.Attempt)) {
	release, ok := c.claim(u)
	if !ok {
		return
	}
	defer release()
	r := c.Routes.Of(u.d.Namespace, u.d.Spec.PostbackRef)
	end, ok := c.begin(ctx, u, r)
	if !ok {
		return
	}
	defer end()
	_, err := c.Attempter.AttemptWith(ctx, u.d, r, attempt.Cause{TakenOver: u.takenOver()}, sent, func(ctx context.Context, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error) {
		return c.record(ctx, u, apply)
	})
	switch {
	case err == nil, errors.Is(err, delivery.ErrGone), errors.Is(err, delivery.ErrUnrecordable):
		c.done(u)
	case errors.Is(err, errRefused):
		after := backoff(backRefused, longestRefused, u.tries)
		c.Log.Error(err, "An attempt has no record; it will be repeated", "delivery", klog.KObj(u.d), "after", after.String())
		c.giveBack(u, after)
	default:
		c.Log.Error(err, "An attempt has no record; it will be repeated", "delivery", klog.KObj(u.d))
		c.giveBack(u, 0)
	}
}

// begin reports whether the attempt of a delivery may begin; otherwise it settles the message. If ok is true, the
// caller must call end after the attempt.
func (c *Consumer) begin(ctx context.Context, u *unsettled, r *route.Route) (end func(), ok bool) {
	switch enabled := r != nil && r.State == v1alpha1.PostbackEnabled; {
	case ctx.Err() != nil:
		c.giveBack(u, 0)
	case u.waiting != nil && !enabled:
		c.giveBack(u, backStep)
	case u.waiting == nil && (!enabled || r.Exclusive()):
		c.copyToWaiting(u) //nolint:contextcheck // It goes on until Stop.
	case c.copyMayWait(u): //nolint:contextcheck // It goes on until Stop.
		// This look-up precedes those for a record: the drain may attempt and remove the copy during them.
		c.copyToWaiting(u) //nolint:contextcheck // It goes on until Stop.
	case c.settledBefore(u): //nolint:contextcheck // It goes on until Stop.
	case u.waiting != nil:
		if end, ok = u.waiting.begin(); !ok {
			c.giveBack(u, backStep)
		}
		return end, ok
	default:
		return func() {}, true
	}
	return nil, false
}

// refused emits an Event on the Postback, because the API server refuses an accepted delivery. It returns an error
// that says so.
func (c *Consumer) refused(d *v1alpha1.PostbackDelivery, o intake.Outcome) error {
	o.Announce(c.Attempter.Events, c.Routes.Of(d.Namespace, d.Spec.PostbackRef))
	return fmt.Errorf("%w: %s: %s", errRefused, o.Reason, o.Message)
}

// backoff returns the delay for a message that NATS has delivered this often.
func backoff(first, longest time.Duration, tries uint64) time.Duration {
	const doublings = 16 // More could overflow.
	return min(first<<min(max(tries, 1)-1, doublings), longest)
}

// same reports whether two deliveries are of the same event for the same Postback.
func same(existing, d *v1alpha1.PostbackDelivery) bool {
	a, b := &existing.Spec, &d.Spec
	return a.PostbackRef == b.PostbackRef && a.Event.ID == b.Event.ID && a.Event.Type == b.Event.Type && a.Body == b.Body
}

// moveToWaiting moves a delivery to the waiting stream, unless an attempt of it is in flight here.
func (c *Consumer) moveToWaiting(u *unsettled) {
	if release, ok := c.claim(u); ok {
		defer release()
		c.copyToWaiting(u)
	}
}

// copyToWaiting copies a claimed delivery to the waiting stream and acknowledges the original. NATS refuses a second
// copy by its id.
func (c *Consumer) copyToWaiting(u *unsettled) {
	if c.settledBefore(u) {
		return
	}
	m := c.Connection.names.Waiting(u.d, u.stored)
	if u.tries > 1 || c.Connection.memory.givenOut(u.stored) {
		m.Header.Set(message.DoubtfulHeader, message.Yes)
	}
	ack, err := c.Connection.intoWaiting.publishAck(c.Stop, m)
	if err == nil && ack.Duplicate {
		var known bool
		if known, err = c.isCopy(c.Stop, u, ack.Sequence); err == nil && !known {
			if c.settledBefore(u) { // The drain may have attempted and removed a copy since the look-ups.
				return
			}
			// The id belongs to another event, or to an earlier one that has left the stream.
			m.Header.Set(nats.MsgIdHdr, m.Header.Get(nats.MsgIdHdr)+"/"+u.stored.UTC().Format(time.RFC3339Nano))
			_, err = c.Connection.intoWaiting.publishAck(c.Stop, m)
		}
	}
	switch {
	case err == nil:
		movedToWaiting.Inc()
		c.done(u)
		c.announceMove(u.d)
	case isFull(err):
		c.giveBack(u, wait.Jitter(backoff(backNoSpace, longestNoSpace, u.tries), 1))
	default:
		c.Log.V(1).Info("Cannot put a delivery into the waiting stream yet", "delivery", klog.KObj(u.d), "reason", err.Error())
		c.giveBack(u, backStep)
	}
}

// announceMove tells the elected replica that it can attempt a moved delivery at once. If the notice is lost, the
// next poll shows the delivery.
func (c *Consumer) announceMove(d *v1alpha1.PostbackDelivery) {
	r := c.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	if r != nil && r.Exclusive() {
		_ = c.Connection.nats.Publish(c.Connection.names.Moves(), []byte(c.Connection.names.WaitingSubject(r.Namespace, r.UID)))
	}
}

// isCopy reports whether the message with the id of a delivery is a copy of it. The message is in the waiting
// stream, or its record is in the delivery log.
func (c *Consumer) isCopy(ctx context.Context, u *unsettled, sequence uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookbackTimeout)
	defer cancel()
	first, err := c.Connection.ask(ctx, c.Connection.names.WaitingStream(), whichMessage{From: sequence})
	if err != nil {
		return false, err
	}
	if first != nil {
		existing, _, err := c.Connection.names.ParseWaiting(first.Subject, first.Header, first.Data)
		return err == nil && same(existing, u.d), nil
	}
	existing, err := c.Connection.logged(ctx, u.d)
	return isRecord(existing, u), err
}

// isRecord reports whether an entry of the delivery log, or nil, is the record of a delivery. An entry with another
// time is of an earlier event with the same id.
func isRecord(existing *v1alpha1.PostbackDelivery, u *unsettled) bool {
	return existing != nil && existing.CreationTimestamp.Time.Equal(message.Created(u.stored).Time)
}

// copyMayWait reports whether a copy of a delivery may be in the waiting stream: a replica may have died between the
// copy and the acknowledgement.
func (c *Consumer) copyMayWait(u *unsettled) bool {
	if u.waiting != nil || u.tries == 1 && !c.Connection.memory.givenOut(u.stored) {
		return false
	}
	ctx, cancel := context.WithTimeout(c.Stop, lookbackTimeout)
	defer cancel()
	waits, err := c.Connection.hasWaiting(ctx, u.d.Namespace, u.d.Spec.PostbackRef.UID)
	return waits || err != nil
}

// settledBefore looks for the record of a claimed delivery that may have been attempted before. If it finds one, or a
// look-up fails, it settles the message and returns true. It is called when the attempt is due, because the same
// message may be in the lane twice.
func (c *Consumer) settledBefore(u *unsettled) bool {
	switch {
	case u.tries > 1, c.Unfinished.Recent(u.d):
		return !c.settleUnlessNew(u)
	case u.waiting != nil && u.waiting.doubtful && c.mayHaveFailed(u.d):
		return !c.settleUnlessNew(u)
	case u.waiting != nil && u.waiting.doubtful, u.waiting == nil && c.Connection.memory.givenOut(u.stored):
		return c.settledByRecord(u) // The first case has looked for an unfinished PostbackDelivery.
	}
	return false
}

// mayHaveFailed reports whether a limit may have made a delivery Failed. The index of unfinished deliveries lacks
// such a delivery.
func (c *Consumer) mayHaveFailed(d *v1alpha1.PostbackDelivery) bool {
	r := c.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	return r != nil && (r.MaxAttempts > 0 || r.GiveUpAfter.Duration > 0)
}

// settleUnlessNew reports whether a delivery has no record in the delivery log, in the waiting stream or at the API
// server. Otherwise, or if a look-up fails, it settles the message.
func (c *Consumer) settleUnlessNew(u *unsettled) bool {
	if c.settledByRecord(u) {
		return false
	}
	ctx, cancel := context.WithTimeout(c.Stop, lookbackTimeout)
	defer cancel()
	existing := &v1alpha1.PostbackDelivery{}
	err := c.API.Get(ctx, client.ObjectKeyFromObject(u.d), existing)
	if apierrors.IsNotFound(err) {
		// The API server may have taken long, and another replica may have delivered a copy meanwhile.
		return !c.settledByRecord(u)
	}
	if err == nil {
		err = c.restoreAttempts(ctx, existing, u)
	}
	if err != nil && !errors.Is(err, delivery.ErrGone) {
		c.giveBack(u, backStep)
		return false
	}
	c.done(u)
	return false
}

// settledByRecord looks for a record of a claimed delivery in the streams, as settledBefore does. A delivery goes from
// a retry to the log. It is in the log before its retry is removed, so in this order none is missed.
func (c *Consumer) settledByRecord(u *unsettled) bool {
	return c.settledByRetry(u) || c.settledByLog(u)
}

// settledByRetry reports whether a later retry of a delivery is in the waiting stream, or a look-up fails. It then
// settles the message.
func (c *Consumer) settledByRetry(u *unsettled) bool {
	ctx, cancel := context.WithTimeout(c.Stop, lookbackTimeout)
	defer cancel()
	switch retried, err := c.hasRetry(ctx, u); {
	case err != nil:
		c.giveBack(u, backStep)
		return true
	case !retried:
		return false
	}
	c.done(u)
	return true
}

func (c *Consumer) hasRetry(ctx context.Context, u *unsettled) (bool, error) {
	if u.waiting != nil {
		return u.waiting.drain.hasRetry(ctx, u.waiting.term, u, u.waiting.tries > 1 || u.waiting.marked)
	}
	records := c.records.of(c.Connection, postbackKey{u.d.Namespace, u.d.Spec.PostbackRef.UID}, c.Clock.Now())
	err := records.read(ctx, u.stored.Add(-clockSlack))
	return err == nil && records.show(u.d, u.stored), err
}

// settledByLog reports whether a delivery is recorded in the delivery log, or a look-up fails. It then settles the
// message.
func (c *Consumer) settledByLog(u *unsettled) bool {
	ctx, cancel := context.WithTimeout(c.Stop, lookbackTimeout)
	defer cancel()
	existing, err := c.Connection.logged(ctx, u.d)
	switch {
	case err != nil:
		c.giveBack(u, backStep)
		return true
	case !isRecord(existing, u):
		return false
	}
	c.done(u)
	return true
}
