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

// Package natsapi is the door for events that producers publish to NATS. It decodes them and passes them to package
// accept.
package natsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/decode"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

const (
	// maxStoring bounds the published events that a replica stores concurrently, pullEvents those in flight to it.
	maxStoring = 64
	pullEvents = 128
	// backUnstored is the delay before NATS delivers an event again of which not all deliveries were stored, backFull
	// the delay if every Postback refused it.
	backUnstored = time.Second
	backFull     = 10 * time.Second
	// acceptTimeout bounds the time to accept one message.
	acceptTimeout = 10 * time.Second
)

// Acceptor accepts posted events. It is an *accept.Acceptor.
type Acceptor interface {
	Accept(ctx context.Context, namespace string, posted []event.Posted) (accept.Results, error)
	Synced() bool
}

// Streams delivers the messages of a stream. It is a *jetstream.Connection.
type Streams interface {
	Names() message.Names
	// Pull passes the messages of a stream to take, one after another, until ctx ends. Up to ahead messages are in
	// flight to this replica. Once ctx has ended, take must give back the remaining ones.
	Pull(ctx context.Context, stream string, ahead int, log logr.Logger, take func(jetstream.Msg))
}

// Events pulls events that producers have published to NATS, and accepts them. NATS has authorized the producer for
// the namespace by the subject. It is a runnable of every replica.
type Events struct {
	Streams  Streams
	Acceptor Acceptor
	// MaxBodyBytes bounds the body of a message.
	MaxBodyBytes int64
	Log          logr.Logger
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (e *Events) NeedLeaderElection() bool { return false }

// Start pulls events until ctx ends, then finishes those in progress.
func (e *Events) Start(ctx context.Context) error {
	slots := semaphore.NewWeighted(maxStoring)
	var storing sync.WaitGroup
	e.Streams.Pull(ctx, e.Streams.Names().EventsStream(), pullEvents, e.Log, func(msg jetstream.Msg) {
		if slots.Acquire(ctx, 1) != nil {
			_ = msg.Nak()
			return
		}
		storing.Go(func() {
			defer slots.Release(1)
			e.accept(context.WithoutCancel(ctx), msg)
		})
	})
	storing.Wait()
	return nil
}

// accept accepts a message and settles it.
func (e *Events) accept(ctx context.Context, msg jetstream.Msg) {
	end, err := e.store(ctx, msg)
	eventsTaken.WithLabelValues(string(end)).Inc()
	switch end {
	case dispositionTaken:
		_ = msg.Ack()
	case dispositionInvalid:
		e.Log.Error(err, "A published event is invalid, and was removed from the stream", "subject", msg.Subject())
		_ = msg.TermWithReason("not an event")
	case dispositionFull:
		_ = msg.NakWithDelay(backFull)
	case dispositionAgain:
		e.Log.Info("A published event is not stored yet", "subject", msg.Subject(), "reason", err.Error())
		_ = msg.NakWithDelay(backUnstored)
	}
}

// disposition is the way in which a message is settled. Its values are labels of a metric.
type disposition string

const (
	// dispositionTaken means that every delivery of the event is stored, or will never be.
	dispositionTaken disposition = "Taken"
	// dispositionInvalid means that the message is not a valid event.
	dispositionInvalid disposition = "Invalid"
	// dispositionFull means that every Postback refuses the event, or has no room in the waiting stream. NATS delivers
	// the message again.
	dispositionFull disposition = "Full"
	// dispositionAgain means that some deliveries are not stored. NATS delivers the message again soon, before the
	// stored deliveries are forgotten.
	dispositionAgain disposition = "Again"
)

var errNotLoaded = errors.New("the Postbacks are not loaded yet")

// store accepts the events of a message. The error is the reason for a disposition other than Taken.
func (e *Events) store(ctx context.Context, msg jetstream.Msg) (disposition, error) {
	namespace, postback, ok := e.Streams.Names().Owner(msg.Subject())
	metadata, err := msg.Metadata()
	if !ok || postback != "" || err != nil {
		return dispositionInvalid, fmt.Errorf("subject %q is not that of events", msg.Subject())
	}
	if !e.Acceptor.Synced() {
		return dispositionAgain, errNotLoaded
	}
	posted, err := e.decode(namespace, metadata, msg)
	if err != nil {
		accept.CountInvalid()
		return dispositionInvalid, err
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	results, err := e.Acceptor.Accept(ctx, namespace, posted)
	if tooMany, ok := errors.AsType[*accept.TooManyError](err); ok {
		accept.CountInvalid()
		return dispositionInvalid, fmt.Errorf("the message makes %d deliveries, and one message may make %d: publish at most its first %d events at once",
			tooMany.Deliveries, tooMany.Max, tooMany.Fit)
	}
	end, err := dispositionOf(results)
	if end != dispositionTaken {
		return end, err
	}
	results.Count()
	e.report(namespace, results)
	results.Wait(ctx)
	return dispositionTaken, nil
}

// dispositionOf derives the disposition from the results of a message's events. A Postback without room in the waiting
// stream counts as full: it may stay so for hours, and at each try after the deduplication window the Postbacks that
// have the event would get it again.
func dispositionOf(results accept.Results) (disposition, error) {
	var full, failed error
	for i := range results {
		for _, d := range results[i].Deliveries {
			switch {
			case isFull(d):
				full = cmp.Or(full, fmt.Errorf("no Postback accepts the event; %s refuses it: %s %s", d.Postback, d.Reason, d.Message))
			case d.Result == intake.Unstored:
				failed = cmp.Or(failed, fmt.Errorf("store delivery for Postback %s: %w", d.Postback, d.Err))
			}
		}
	}
	counts := results.Tally()
	switch {
	case failed != nil:
		return dispositionAgain, failed
	case full != nil && counts[intake.Stored]+counts[intake.Duplicate] == 0:
		return dispositionFull, full
	}
	return dispositionTaken, nil
}

// isFull reports whether the Postback may accept the same event once it has fewer deliveries.
func isFull(d accept.DeliveryResult) bool {
	return d.Result == intake.Refused && d.Reason != intake.TooLarge ||
		d.Result == intake.Unstored && errors.Is(d.Err, intake.ErrNoRoomToWait)
}

// decode returns the events of a message. Its headers mean the same as in an HTTP request; without Content-Type the
// body is JSON.
func (e *Events) decode(namespace string, metadata *jetstream.MsgMetadata, msg jetstream.Msg) ([]event.Posted, error) {
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, fmt.Errorf("%q is not the name of a namespace", namespace)
	}
	if int64(len(msg.Data())) > e.MaxBodyBytes {
		return nil, fmt.Errorf("the body is larger than %d bytes", e.MaxBodyBytes)
	}
	header := textproto.MIMEHeader{}
	for name, values := range msg.Headers() {
		for _, value := range values {
			header.Add(name, value) // Header names are case-sensitive in NATS, but not in package decode.
		}
	}
	if header.Get("Content-Type") == "" && !decode.IsBinary(header) {
		header.Set("Content-Type", "application/json")
	}
	if header.Get(decode.IdempotencyKey) == "" {
		// The key is the same for each delivery of the message. The time distinguishes it from a message of a
		// recreated stream with the same sequence.
		header.Set(decode.IdempotencyKey, fmt.Sprintf("%s/%d/%d", metadata.Stream, metadata.Sequence.Stream, metadata.Timestamp.UnixNano()))
	}
	d, err := decode.New(header, namespace)
	if err != nil {
		return nil, err
	}
	posted, err := d.Decode(msg.Data(), metadata.Timestamp)
	if invalid, ok := errors.AsType[*event.InvalidError](err); ok {
		// The pointer may quote data of the event, and this error is logged.
		err = errors.New(invalid.Detail)
	}
	return posted, err
}

// report logs the refused deliveries, which an HTTP producer would see in the answer.
func (e *Events) report(namespace string, results accept.Results) {
	for i := range results {
		for _, d := range results[i].Deliveries {
			switch d.Result {
			case intake.Refused, intake.Conflict, intake.Unstored:
				e.Log.Info("A published event is not stored for a Postback", "namespace", namespace, "eventID", results[i].ID,
					"postback", d.Postback, "reason", string(d.Result)+" "+string(d.Reason))
			case intake.Stored, intake.Duplicate, intake.Skipped:
			}
		}
	}
}
