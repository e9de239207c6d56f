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

package deliverylog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// followed is the number of messages that a follower prefetches.
const followed = 100

// followRest is the pause after a message could not be fetched.
const followRest = 200 * time.Millisecond

// checkEvery is the time between two checks that the delivery log is still the same stream.
const checkEvery = 3 * time.Second

// errAnew means that the delivery log was recreated, so sequences of the former log are void.
var errAnew = errors.New("the delivery log was made anew")

// Follow calls tell for each message after a sequence, in the order of the delivery log. d is nil if the query does
// not select the message. Follow ends when ctx ends or tell fails. It survives a lost connection. If the delivery log
// was recreated, it continues from the start of the new log.
func (r *Reader) Follow(ctx context.Context, q Query, after uint64, tell func(sequence uint64, d *v1alpha1.PostbackDelivery) error) error {
	filter, some := r.filter(q)
	if !some {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		f := &follower{reader: r, sequence: after}
		err := f.follow(ctx, filter, func(m *jetstream.RawStreamMsg) error {
			d := r.decode(m)
			if d != nil && !q.selects(d) {
				d = nil
			}
			return tell(m.Sequence, d)
		})
		if !errors.Is(err, errAnew) {
			return err
		}
		after = 0
	}
}

// follower follows one log.
type follower struct {
	reader *Reader
	// created is the creation time of the delivery log, sequence the newest sequence passed to tell, checked the time of the
	// last check.
	created  time.Time
	sequence uint64
	checked  time.Time
}

// follow passes the messages to tell. It returns errAnew if the delivery log was recreated.
func (f *follower) follow(ctx context.Context, filter string, tell func(*jetstream.RawStreamMsg) error) error {
	if err := f.check(ctx); err != nil {
		return err
	}
	consumer, err := f.reader.JetStream.OrderedConsumer(ctx, f.reader.Names.LogStream(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.sequence + 1,
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
		m, err := f.next(ctx, messages)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if meta.Sequence.Stream <= f.sequence {
			return errAnew
		}
		f.sequence = meta.Sequence.Stream
		if err := tell(&jetstream.RawStreamMsg{Subject: m.Subject(), Sequence: f.sequence, Header: m.Headers(), Data: m.Data()}); err != nil {
			return err
		}
	}
}

// next returns the next message, or nil if none arrives within checkEvery.
func (f *follower) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	waiting, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(waiting))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, jetstream.ErrMsgIteratorClosed):
		return nil, unavailable(err)
	case err != nil && waiting.Err() == nil:
		// An ordered consumer recreates itself after an error, so the error is not final.
		rest(ctx, followRest)
	}
	if time.Since(f.checked) >= checkEvery {
		if checked := f.check(ctx); errors.Is(checked, errAnew) {
			return nil, errAnew
		}
	}
	if err != nil {
		return nil, nil
	}
	return m, nil
}

// check returns errAnew if the delivery log was recreated.
func (f *follower) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxScanTime)
	defer cancel()
	f.checked = time.Now()
	stream, err := f.reader.JetStream.Stream(ctx, f.reader.Names.LogStream())
	if err != nil {
		return unavailable(err)
	}
	info := stream.CachedInfo()
	if info.State.LastSeq < f.sequence || !f.created.IsZero() && !f.created.Equal(info.Created) {
		return errAnew
	}
	f.created = info.Created
	return nil
}

// rest waits for a time, or until ctx ends.
func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
