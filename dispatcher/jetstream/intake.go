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
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// These errorCodes of the JetStream API have no names in nats.go.
const (
	codeStoreFailed      = 10077 // For example "maximum bytes exceeded".
	codeStorageExceeded  = 10047
	codeResourcesMissing = 10023
)

// logRoom bounds the bytes that the record of a success adds to a delivery: one attempt, in escaped JSON.
const logRoom = 24 << 10

// publishPause is the time between two tries to publish.
const publishPause = 100 * time.Millisecond

// Lanes report the load of an endpoint.
type Lanes interface {
	Pressure(r *route.Route) lane.Pressure
}

// Intake stores deliveries in the deliveries stream, whatever the state of their Postback, so that this stream
// recognizes duplicates. There is one exception. While the stream may have forgotten ids, a delivery whose Postback has
// waiting ones goes to the waiting stream, which recognizes it by the id of its first copy there. If the waiting stream
// is full, Intake refuses the deliveries that would move there, and before that those of Postbacks that hold more than
// their share. It leaves deliveries too large for a message to the API server.
type Intake struct {
	Connection *Connection
	Kubernetes *intake.Kubernetes
	Unfinished *unfinished.Index
	Lanes      Lanes
	Pending    *Pending
}

// Store implements accept.Intake.
func (i *Intake) Store(ctx context.Context, d *intake.Delivery) intake.Outcome {
	if err := i.Connection.Available(); err != nil {
		return intake.Outcome{Result: intake.Unstored, Err: err}
	}
	m := i.Connection.names.Delivery(d.Object)
	if int64(m.Size()+message.MaxStatus+logRoom) > i.Connection.nats.MaxPayload() {
		return i.deferDelivery(ctx, d)
	}
	i.Pending.noteSize(d.Route, m.Size())
	if refused := i.Pending.admits(d.Route, func() bool { return decide(d.Route, i.Lanes.Pressure) == moveToWaiting }); refused.Result != "" {
		return refused
	}
	if i.Unfinished.Recent(d.Object) {
		existing := &v1alpha1.PostbackDelivery{}
		switch err := i.Kubernetes.API.Get(ctx, client.ObjectKeyFromObject(d.Object), existing); {
		case err == nil:
			return d.Compare(existing)
		case !apierrors.IsNotFound(err):
			return intake.OutcomeOf(err)
		}
	}
	if i.Connection.memory.short() {
		existing, err := i.Connection.stored(ctx, d.Object)
		switch {
		case err != nil:
			return intake.Outcome{Result: intake.Unstored, Err: err}
		case existing != nil:
			return d.Compare(existing)
		}
		// The waiting stream has no subject for a single delivery. A message there is a duplicate by the id of the
		// first copy. Later copies have other ids: docs/jetstream.md names this gap.
		switch waits, err := i.Connection.hasWaiting(ctx, d.Route.Namespace, d.Route.UID); {
		case err != nil:
			return intake.Outcome{Result: intake.Unstored, Err: err}
		case waits:
			return i.publish(ctx, d, i.Connection.intoWaiting, i.Connection.names.Waiting(d.Object, time.Now()))
		}
	}
	return i.publish(ctx, d, i.Connection.intoDeliveries, m)
}

// deferDelivery leaves a delivery to the API server, unless it is already in the deliveries stream or the delivery
// log.
func (i *Intake) deferDelivery(ctx context.Context, d *intake.Delivery) intake.Outcome {
	existing, err := i.Connection.stored(ctx, d.Object)
	switch {
	case err != nil:
		return intake.Outcome{Result: intake.Unstored, Err: err}
	case existing != nil:
		return d.Compare(existing)
	}
	outcome := i.Kubernetes.Defer(ctx, d)
	if outcome.Result == intake.Stored {
		overflows.Inc()
	}
	return outcome
}

// publish tries until ctx ends. A try without an answer may have stored the message: then the next try reports a
// duplicate.
func (i *Intake) publish(ctx context.Context, d *intake.Delivery, into *publisher, m *nats.Msg) intake.Outcome {
	for {
		duplicate, err := into.publish(ctx, m)
		switch {
		case err == nil && duplicate:
			// The server reports a duplicate, and no copy is left to compare: report Duplicate.
			return i.compare(ctx, d, intake.Outcome{Result: intake.Duplicate})
		case isTaken(err):
			return i.compare(ctx, d, intake.Outcome{Result: intake.Unstored, Err: err})
		case err == nil:
			published.Inc()
			return intake.Outcome{Result: intake.Stored, Delay: hold(i.Lanes.Pressure(d.Route), i.Pending.outrun(time.Now()))}
		case isFull(err):
			return intake.Outcome{Result: intake.Unstored, Reason: intake.StreamFull, Err: err}
		case !mayPass(err):
			return intake.Outcome{Result: intake.Unstored, Err: err}
		}
		select {
		case <-ctx.Done():
			return intake.Outcome{Result: intake.Unstored, Err: errors.Join(err, ctx.Err())}
		case <-time.After(publishPause):
		}
	}
}

// mayPass reports whether another try may succeed, because only the leader or an answer was lost.
func mayPass(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse)
}

// isTaken reports whether the stream already has a message of the subject. Its id is forgotten, because it has
// waited for longer than the deduplication window.
func isTaken(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == codeStoreFailed && strings.Contains(api.Description, "per subject")
}

func isFull(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == codeStoreFailed || api.ErrorCode == codeStorageExceeded || api.ErrorCode == codeResourcesMissing)
}

// compare returns Duplicate or Conflict if a delivery of the same name is stored, and otherwise gone.
func (i *Intake) compare(ctx context.Context, d *intake.Delivery, gone intake.Outcome) intake.Outcome {
	existing, err := i.find(ctx, d.Object)
	switch {
	case err != nil:
		return intake.Outcome{Result: intake.Unstored, Err: err}
	case existing == nil:
		return gone
	}
	return d.Compare(existing)
}
