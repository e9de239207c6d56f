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

package successlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// followed is how many messages are fetched ahead for somebody who follows the log.
const followed = 100

// followRest is the pause after a message could not be fetched.
const followRest = 200 * time.Millisecond

// Follow calls tell for each delivery that a query selects and that is logged after a place, in the order of the log, until
// ctx ends or tell fails. The place that it gives is that of the message; it is told of places without a delivery, too. If
// the server goes, it goes on when that is there again.
func (r *Reader) Follow(ctx context.Context, q Query, after uint64, tell func(place uint64, d *v1alpha1.PostbackDelivery) error) error {
	filter, some := r.filter(q)
	if !some {
		<-ctx.Done()
		return ctx.Err()
	}
	consumer, err := r.JetStream.OrderedConsumer(ctx, r.Names.LogStream(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return unavailable(err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(followed))
	if err != nil {
		return unavailable(err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return unavailable(err)
		case err != nil:
			// The consumer makes itself anew; what it says meanwhile is no end.
			rest(ctx, followRest)
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		d := r.decode(&jetstream.RawStreamMsg{Subject: m.Subject(), Sequence: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data()})
		if d != nil && !q.takes(d) {
			d = nil
		}
		if err := tell(meta.Sequence.Stream, d); err != nil {
			return err
		}
	}
}

// rest waits for a time, or until ctx ends.
func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
