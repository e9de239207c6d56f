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
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/dispatcher/ingest"
)

const (
	// maxTaking is how many published events a replica stores at a time, and pullEvents how many are on their way to it.
	maxTaking  = 64
	pullEvents = 128
	// An event goes back into the stream for so long if not all of it could be stored, and if nobody has room.
	backUnstored = time.Second
	backFull     = 10 * time.Second
)

// Taker stores what was published.
type Taker interface {
	Take(ctx context.Context, p *ingest.Published) (ingest.Verdict, error)
}

// Events takes the events that producers publish to NATS themselves, and hands them in as if they had been posted. Whether a
// producer may publish for a namespace NATS has judged, by the subject. It is a runnable of every replica.
type Events struct {
	Connection *Connection
	Taker      Taker
	Log        logr.Logger
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (e *Events) NeedLeaderElection() bool { return false }

// Start takes events until ctx ends, and then finishes those that it has begun.
func (e *Events) Start(ctx context.Context) error {
	pullAgain(ctx, func() bool { return e.Connection.Available() == nil }, e.consume, func(err error) {
		e.Log.Info("Cannot take published events; trying again", "reason", err.Error())
	})
	return nil
}

// consume takes messages until ctx ends, or the consumer does.
func (e *Events) consume(ctx context.Context) error {
	places := make(chan struct{}, maxTaking)
	var taking sync.WaitGroup
	defer taking.Wait()
	return e.Connection.pull(ctx, e.Connection.names.EventsStream(), pullEvents, e.Log, func(msg jetstream.Msg) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			_ = msg.Nak()
			return
		}
		taking.Go(func() {
			defer func() { <-places }()
			e.take(context.WithoutCancel(ctx), msg)
		})
	})
}

// take hands an event in and tells the stream what became of it.
func (e *Events) take(ctx context.Context, msg jetstream.Msg) {
	verdict, err := e.handIn(ctx, msg)
	eventsTaken.WithLabelValues(string(verdict)).Inc()
	switch verdict {
	case ingest.Taken:
		_ = msg.Ack()
	case ingest.Invalid:
		e.Log.Error(err, "A published event is invalid, and taken out of the stream", "subject", msg.Subject())
		_ = msg.TermWithReason("not an event")
	case ingest.Full:
		_ = msg.NakWithDelay(backFull)
	case ingest.Again:
		e.Log.Info("A published event is not stored yet", "subject", msg.Subject(), "reason", err.Error())
		_ = msg.NakWithDelay(backUnstored)
	}
}

func (e *Events) handIn(ctx context.Context, msg jetstream.Msg) (ingest.Verdict, error) {
	namespace, postback, ok := e.Connection.names.Owner(msg.Subject())
	metadata, err := msg.Metadata()
	if !ok || postback != "" || err != nil {
		return ingest.Invalid, fmt.Errorf("subject %q is not that of events", msg.Subject())
	}
	header := http.Header{}
	for name, values := range msg.Headers() {
		for _, value := range values {
			header.Add(name, value) // NATS minds the case of names, HTTP does not.
		}
	}
	return e.Taker.Take(ctx, &ingest.Published{
		Namespace: namespace, Header: header, Body: msg.Data(), At: metadata.Timestamp,
		// A stream that was made anew counts from 1 again, but not at the same time.
		Key: fmt.Sprintf("%s/%d/%d", metadata.Stream, metadata.Sequence.Stream, metadata.Timestamp.UnixNano()),
	})
}
