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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// record records an attempt: a success in the delivery log, a failure as a PostbackDelivery or as a retry in the
// waiting stream.
func (c *Consumer) record(ctx context.Context, u *unsettled, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error) {
	attempted := *u.d
	attempted.Generation, attempted.CreationTimestamp = 1, message.Created(u.stored)
	attempted.Status = *u.d.Status.DeepCopy()
	apply(&attempted)
	if attempted.Status.Phase == v1alpha1.DeliveryDelivered {
		if err := c.recordInLog(ctx, u, *delivery.Newest(&attempted)); err != nil {
			return nil, err
		}
		return &attempted, nil
	}
	r := c.Routes.Of(u.d.Namespace, u.d.Spec.PostbackRef)
	switch recordOf(&attempted, r != nil && c.Unfinished.Count(r) < maxObjects) {
	case recordObject:
		return c.recordInObject(ctx, u, apply)
	case recordObjectIfFree:
		if c.failures.take(postbackKey{u.d.Namespace, u.d.Spec.PostbackRef.UID}, c.Clock.Now()) {
			defer c.failures.done()
			return c.recordInObject(ctx, u, apply)
		}
	case recordRetry:
	}
	switch err := c.retryLater(ctx, u, &attempted); {
	case errors.Is(err, errNoRoom):
		return c.recordInObject(ctx, u, apply)
	case err != nil:
		return nil, err
	}
	return &attempted, nil
}

// recordKind is the kind of record of a failed attempt.
type recordKind int

const (
	// recordRetry means in a message of the waiting stream.
	recordRetry recordKind = iota
	// recordObject means in a PostbackDelivery.
	recordObject
	// recordObjectIfFree means in a PostbackDelivery, unless the bounds of failureObjects are reached.
	recordObjectIfFree
)

// recordOf returns where to record the newest attempt of a delivery, which failed. few is true while its Postback has
// few PostbackDeliveries.
func recordOf(attempted *v1alpha1.PostbackDelivery, few bool) recordKind {
	switch {
	case attempted.Status.Phase.Finished(), attempted.Spec.Test:
		return recordObject // Users look for it among the PostbackDeliveries.
	case attempted.Status.AttemptCount == 1 && few:
		return recordObjectIfFree
	}
	return recordRetry
}

// errNoRoom means that the waiting stream is full, or the message too large for it.
var errNoRoom = errors.New("the waiting stream has no room for the retry")

// retryLater publishes a delivery to the waiting stream, for its next attempt. It repeats that until ctx ends.
func (c *Consumer) retryLater(ctx context.Context, u *unsettled, attempted *v1alpha1.PostbackDelivery) error {
	m, err := c.Connection.names.Retry(attempted, u.stored)
	if err != nil {
		return err
	}
	if int64(m.Size()+logRoom) > c.Connection.nats.MaxPayload() {
		return fmt.Errorf("%w: with its record it exceeds max_payload", errNoRoom) // An earlier build has stored it.
	}
	if u.waiting == nil {
		// The first copy gets the id of the delivery, as in moveToWaiting.
		retryID := m.Header.Get(nats.MsgIdHdr)
		m.Header.Set(nats.MsgIdHdr, message.ID(u.d))
		return c.publishRetry(ctx, m, func(ctx context.Context, ack *jetstream.PubAck) (bool, error) {
			known, err := c.isCopy(ctx, u, ack.Sequence)
			m.Header.Set(nats.MsgIdHdr, retryID) // The id of the delivery belongs to another event, or to an earlier one.
			return known, err
		})
	}
	return c.publishRetry(ctx, m, func(context.Context, *jetstream.PubAck) (bool, error) { return true, nil })
}

// publishRetry publishes a retry, and repeats that until it succeeds or ctx ends. known reports whether a duplicate
// is of the same delivery.
func (c *Consumer) publishRetry(ctx context.Context, m *nats.Msg, known func(context.Context, *jetstream.PubAck) (bool, error)) error {
	var last error
	err := delivery.RecordBackoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		ack, err := c.Connection.intoWaiting.publishAck(ctx, m)
		switch {
		case isFull(err), errors.Is(err, nats.ErrMaxPayload):
			return false, fmt.Errorf("%w: %w", errNoRoom, err)
		case err == nil && ack.Duplicate:
			done, err := known(ctx, ack)
			last = err
			return done && err == nil, nil
		case err != nil && last == nil:
			logf.FromContext(ctx).Info("A retry is not in the waiting stream yet", "reason", err.Error())
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	retriesStored.Inc()
	return nil
}

// recordInLog publishes a success to the delivery log, and repeats that until it succeeds or ctx ends.
func (c *Consumer) recordInLog(ctx context.Context, u *unsettled, a v1alpha1.Attempt) error {
	m, err := c.Connection.names.Log(u.d, u.stored, a)
	if err != nil {
		return err
	}
	var last error
	err = delivery.RecordBackoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		_, err := c.Connection.intoLog.publish(ctx, m)
		if err != nil && last == nil {
			logf.FromContext(ctx).Info("A success is not in the log yet", "reason", err.Error())
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	logged.Inc()
	return nil
}

// recordInObject creates the PostbackDelivery of an attempted delivery, with its attempts in the status.
func (c *Consumer) recordInObject(ctx context.Context, u *unsettled, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error) {
	d, object := u.d, u.d.DeepCopy()
	var last error
	err := delivery.RecordBackoff.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		existing, outcome := intake.Create(ctx, c.API, object)
		switch {
		case existing != nil && !same(existing, d):
			return false, fmt.Errorf("%w: %w", delivery.ErrGone, errOther)
		case existing != nil:
			object = existing
			return true, nil
		case outcome.Result == intake.Stored:
			return true, nil
		case outcome.Result == intake.Skipped:
			return false, delivery.ErrGone
		case outcome.Result == intake.Refused:
			return false, c.refused(d, outcome)
		}
		if last == nil {
			logf.FromContext(ctx).Info("Cannot record an attempt yet", "reason", outcome.Err.Error())
		}
		last = outcome.Err
		return false, nil
	})
	if err != nil {
		return nil, errors.Join(err, last)
	}
	return c.Attempter.Recorder.Record(ctx, object, func(o *v1alpha1.PostbackDelivery) {
		withAttempts(o, u.d)
		apply(o)
	})
}

// withAttempts copies the attempts of a waiting delivery into a new PostbackDelivery.
func withAttempts(object, d *v1alpha1.PostbackDelivery) {
	if object.Status.AttemptCount == 0 && d.Status.AttemptCount > 0 {
		object.Status = *d.Status.DeepCopy()
	}
}

// restoreAttempts adds the earlier attempts to a PostbackDelivery whose maker died before it wrote them.
func (c *Consumer) restoreAttempts(ctx context.Context, existing *v1alpha1.PostbackDelivery, u *unsettled) error {
	if existing.Status.AttemptCount > 0 || u.d.Status.AttemptCount == 0 {
		return nil
	}
	_, err := c.Attempter.Recorder.Record(ctx, existing, func(o *v1alpha1.PostbackDelivery) { withAttempts(o, u.d) })
	return err
}
