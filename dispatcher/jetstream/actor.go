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
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// maxActs bounds the concurrent acts, actQueue the queued requests. The HTTP door bounds the requests of users.
	maxActs  = 8
	actQueue = 256
	// actTimeout bounds one act: the door waits a little longer.
	actTimeout = actPatience - time.Second
	// longestAttempt is the largest timeout that a Postback can have.
	longestAttempt = 30 * time.Second
)

// serveActs carries out the acts of users while this replica is elected, until ctx ends.
func (d *drain) serveActs(ctx context.Context) {
	c := d.consumer.Connection
	requests := make(chan *nats.Msg, actQueue)
	subscription, err := c.nats.ChanSubscribe(c.names.ActRequests(), requests)
	if err != nil {
		d.consumer.Log.Error(err, "Nobody can drop or redeliver waiting deliveries by this replica")
		return
	}
	defer func() { _ = subscription.Unsubscribe() }() // Without a connection it fails, and the subscription has ended.
	var acting errgroup.Group
	acting.SetLimit(maxActs)
	for {
		select {
		case <-ctx.Done():
			_ = acting.Wait() // No act returns an error.
			return
		case m := <-requests:
			acting.Go(func() error {
				d.answer(ctx, m)
				return nil
			})
		}
	}
}

// answer carries out an act and answers it. Only the elected replica answers.
func (d *drain) answer(ctx context.Context, m *nats.Msg) {
	c := d.consumer.Connection
	var a deliverylog.Act
	if !strings.HasPrefix(m.Reply, c.names.ActAnswers()) || json.Unmarshal(m.Data, &a) != nil {
		return
	}
	d.mu.Lock()
	now := d.term
	d.mu.Unlock()
	if now == nil || !now.sameEpoch() {
		return
	}
	// No other replica is elected before the call of end, unless the Lease expires.
	end, ok := d.consumer.Owner.Begin()
	if !ok {
		return
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	done, err := d.act(ctx, now, a)
	answer, encodeErr := json.Marshal(answerOf(done, err))
	if encodeErr == nil {
		encodeErr = c.nats.Publish(m.Reply, answer)
	}
	if encodeErr != nil {
		d.consumer.Log.Info("Cannot answer a request for waiting deliveries", "verb", a.Verb, "namespace", a.Namespace, "reason", encodeErr.Error())
	}
}

func (d *drain) act(ctx context.Context, now *term, a deliverylog.Act) (deliverylog.Done, error) {
	switch a.Verb {
	case deliverylog.Drop, deliverylog.Restore:
		return d.actOnOne(ctx, now, a)
	case deliverylog.DropAll:
		return d.dropAll(ctx, now, a)
	}
	return deliverylog.Done{}, fmt.Errorf("%w: the verb %q is of a later version: update all replicas", deliverylog.ErrUnknown, a.Verb)
}

// actOnOne drops or restores one delivery.
func (d *drain) actOnOne(ctx context.Context, now *term, a deliverylog.Act) (deliverylog.Done, error) {
	u, err := d.find(ctx, a)
	if err != nil {
		return deliverylog.Done{}, err
	}
	r := d.consumer.Routes.Of(u.d.Namespace, u.d.Spec.PostbackRef)
	if d.mayBeInherited(now, r, a.Sequence) {
		return deliverylog.Done{}, fmt.Errorf("%w: an earlier owner may not have finished it", deliverylog.ErrInFlight)
	}
	if err := d.block(now, a.Sequence); err != nil {
		return deliverylog.Done{}, err
	}
	if err = d.stillWaits(ctx, now, u, a.Sequence); err == nil && a.Verb == deliverylog.Restore {
		err = d.restore(ctx, u)
	}
	if err != nil {
		d.unblock(now, a.Sequence)
		return deliverylog.Done{}, err
	}
	if err := now.remove(ctx, a.Sequence); err != nil {
		if a.Verb == deliverylog.Drop {
			d.unblock(now, a.Sequence)
		} // A restored one stays blocked: its PostbackDelivery is the record that the next look-up finds.
		return deliverylog.Done{}, fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	d.announce(a, r, u.d.Spec.PostbackRef.Name, 1)
	return deliverylog.Done{Deliveries: 1}, nil
}

// find returns the message that an act names. Its error does not tell a missing delivery from one of another
// namespace.
func (d *drain) find(ctx context.Context, a deliverylog.Act) (*unsettled, error) {
	c := d.consumer.Connection
	m, err := c.ask(ctx, c.names.WaitingStream(), whichMessage{From: a.Sequence})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	if m == nil {
		return nil, deliverylog.ErrNotWaiting
	}
	delivery, stored, err := c.names.ParseWaiting(m.Subject, m.Header, m.Data)
	if err != nil || delivery.Namespace != a.Namespace || delivery.Name != a.Name {
		return nil, deliverylog.ErrNotWaiting
	}
	return &unsettled{d: delivery, stored: stored}, nil
}

// mayBeInherited reports whether an attempt of the previous elected replica may be in flight, because that replica
// did not release the Lease. readable waits for the same time.
func (d *drain) mayBeInherited(now *term, r *route.Route, sequence uint64) bool {
	timeout := longestAttempt
	if r != nil {
		timeout = r.Timeout.Duration
	}
	early := d.consumer.Clock.Now().Before(d.consumer.Owner.Inherited().Add(timeout + inheritGrace))
	d.mu.Lock()
	defer d.mu.Unlock()
	return early && sequence <= now.doubtfulUpTo
}

// stillWaits returns nil if a delivery has no record: neither an entry of the delivery log, nor a PostbackDelivery,
// nor a later retry.
func (d *drain) stillWaits(ctx context.Context, now *term, u *unsettled, sequence uint64) error {
	existing, err := d.consumer.Connection.logged(ctx, u.d)
	if err != nil {
		return fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	if isRecord(existing, u) {
		return deliverylog.ErrNotWaiting
	}
	d.mu.Lock()
	doubtful := now.isDoubtful(postbackKey{u.d.Namespace, u.d.Spec.PostbackRef.UID}, sequence)
	d.mu.Unlock()
	if doubtful {
		switch retried, err := d.hasRetry(ctx, now, u, false); {
		case err != nil:
			return fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
		case retried:
			return deliverylog.ErrNotWaiting
		}
	}
	err = d.consumer.API.Get(ctx, client.ObjectKeyFromObject(u.d), &v1alpha1.PostbackDelivery{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	return deliverylog.ErrNotWaiting
}

// restore creates the PostbackDelivery of a message, with its attempts.
func (d *drain) restore(ctx context.Context, u *unsettled) error {
	object := u.d.DeepCopy()
	if u.d.Status.AttemptCount == 0 {
		object = d.consumer.deferred(u.d)
	} // A deferred one would be attempted before its earlier attempts are written.
	existing, outcome := intake.Create(ctx, d.consumer.API, object)
	switch {
	case existing != nil && !same(existing, u.d):
		return fmt.Errorf("%w: %w", deliverylog.ErrRefused, errOther)
	case existing != nil:
		object = existing
	case outcome.Result == intake.Stored:
	case outcome.Result == intake.Skipped:
		return deliverylog.ErrNotWaiting
	case outcome.Result == intake.Refused:
		return fmt.Errorf("%w: %s: %s", deliverylog.ErrRefused, outcome.Reason, outcome.Message)
	default:
		return fmt.Errorf("%w: %w", deliverylog.ErrUnknown, outcome.Err)
	}
	if err := d.consumer.restoreAttempts(ctx, object, u); err != nil {
		return fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	return nil
}

// deferred returns the object of a delivery that is left to the elected replica.
func (c *Consumer) deferred(d *v1alpha1.PostbackDelivery) *v1alpha1.PostbackDelivery {
	object := d.DeepCopy()
	if object.Annotations == nil {
		object.Annotations = map[string]string{}
	}
	object.Annotations[v1alpha1.DeferredAnnotation] = intake.Deferral(c.Routes.Of(object.Namespace, object.Spec.PostbackRef))
	return object
}

// dropAll removes the messages that wait for a Postback now.
func (d *drain) dropAll(ctx context.Context, now *term, a deliverylog.Act) (deliverylog.Done, error) {
	info, err := now.stream.Info(ctx)
	if err != nil {
		return deliverylog.Done{}, fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
	}
	key, last := postbackKey{a.Namespace, a.UID}, info.State.LastSeq
	r := d.consumer.Routes.Get(a.UID)
	if r == nil || r.Namespace != a.Namespace {
		return deliverylog.Done{}, deliverylog.ErrNotWaiting
	}
	if d.mayBeInherited(now, r, 1) {
		return deliverylog.Done{}, fmt.Errorf("%w: an earlier owner may not have finished it", deliverylog.ErrInFlight)
	}
	done := deliverylog.Done{InFlight: d.blockAll(now, key, last)}
	for _, subject := range d.consumer.Connection.names.WaitingSubjects(a.Namespace, a.UID) {
		purged, err := d.consumer.Connection.purge(ctx, subject, last)
		done.Deliveries += purged
		if err != nil {
			d.unblockAll(now, key)
			d.announce(a, r, r.Name, done.Deliveries)
			return done, fmt.Errorf("%w: %w", deliverylog.ErrUnknown, err)
		}
	}
	done.Deliveries = max(done.Deliveries-done.InFlight, 0)
	d.announce(a, r, r.Name, done.Deliveries)
	return done, nil
}

// purge removes the messages of a subject of the waiting stream up to a sequence, and returns their number.
func (c *Connection) purge(ctx context.Context, subject string, upTo uint64) (int, error) {
	request, err := json.Marshal(map[string]any{"filter": subject, "seq": upTo + 1})
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, err)
	}
	m, err := c.nats.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.PURGE."+c.names.WaitingStream(), request)
	if err != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, err)
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Purged int                 `json:"purged"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, err)
	}
	if answer.Error != nil {
		return 0, fmt.Errorf("purge %s: %w", subject, answer.Error)
	}
	return answer.Purged, nil
}

// announce logs an act, and emits an Event on the Postback for a drop. If r is nil, it emits none.
func (d *drain) announce(a deliverylog.Act, r *route.Route, postback string, deliveries int) {
	if deliveries == 0 {
		return
	}
	if a.Verb == deliverylog.Restore {
		d.consumer.Log.Info("Made a PostbackDelivery of a waiting delivery", audit.Key, audit.DeliveryRestoredAction,
			"namespace", a.Namespace, "delivery", a.Name, "user", a.User)
		return
	}
	dropped.Add(float64(deliveries))
	d.consumer.Log.Info("Dropped waiting deliveries", audit.Key, audit.DeliveriesDroppedAction,
		"namespace", a.Namespace, "postback", postback, "count", deliveries, "delivery", a.Name, "user", a.User)
	if r == nil {
		return
	}
	// Events with the same action and objects become a series with the note of the first. So the Event of a single
	// drop names its delivery.
	if a.Verb == deliverylog.DropAll {
		d.consumer.Attempter.Events.Eventf(r.Postback(), nil, corev1.EventTypeNormal, v1alpha1.DeliveriesDroppedReason, "DropAll",
			"%s dropped %d waiting deliveries", a.User, deliveries)
		return
	}
	delivery := &v1alpha1.PostbackDelivery{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PostbackDelivery"}}
	delivery.Namespace, delivery.Name = a.Namespace, a.Name
	d.consumer.Attempter.Events.Eventf(r.Postback(), delivery, corev1.EventTypeNormal, v1alpha1.DeliveriesDroppedReason, "Drop",
		"%s dropped the waiting delivery %s", a.User, a.Name)
}
