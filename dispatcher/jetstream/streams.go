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

	"github.com/nats-io/nats.go/jetstream"
)

const (
	consumerName = "dispatcher"
	// ackWait is after what time without a word a message goes to another replica.
	ackWait = 30 * time.Second
	// maxAckPending bounds what all replicas have in hand, together with what waits to be given out again.
	maxAckPending = 1 << 16
)

// setUp makes the streams that are not there, and gives the others the limits that are asked for.
func (c *Connection) setUp(ctx context.Context) error {
	if !c.nats.IsConnected() {
		return errDisconnected
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	c.memory.note()
	for _, want := range c.streams() {
		info, err := c.ensure(ctx, want)
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		if want.Name == c.names.DeliveriesStream() {
			c.memory.seen(info)
		}
	}
	return nil
}

func (c *Connection) streams() []jetstream.StreamConfig {
	o := &c.options
	return []jetstream.StreamConfig{
		{
			Name: c.names.DeliveriesStream(), Subjects: []string{c.names.AllDeliveries()},
			Description: "Deliveries that wait for their first attempt",
			Retention:   jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
			MaxBytes: o.MaxBytes, Duplicates: o.DuplicateWindow, Replicas: o.Replicas,
			// A delivery is there once, also when its id is forgotten.
			MaxMsgsPerSubject: 1, DiscardNewPerSubject: true,
			// Pending counts by it.
			AllowDirect: true, AllowAtomicPublish: o.GroupCommit,
		},
		{
			Name: c.names.LogStream(), Subjects: []string{c.names.AllLog()},
			Description: "Deliveries that succeeded at their first attempt",
			Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
			MaxBytes: o.LogMaxBytes, MaxAge: o.LogMaxAge, Duplicates: DefaultDuplicateWindow, Replicas: o.Replicas,
			// It is read a page at a time, by any of the servers that have it.
			AllowDirect: true, AllowAtomicPublish: o.GroupCommit,
		},
		{
			Name: c.names.EventsStream(), Subjects: []string{c.names.AllEvents()},
			Description: "Events that producers have published, to be matched with Postbacks",
			Retention:   jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
			MaxBytes: o.MaxBytes, Duplicates: o.DuplicateWindow, Replicas: o.Replicas,
		},
	}
}

// ensure makes a stream. One that is there keeps what somebody may have chosen for it: on how many servers it is, and where.
func (c *Connection) ensure(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	want.Duplicates = boundedWindow(want)
	stream, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = c.js.CreateOrUpdateStream(ctx, want)
		if err != nil {
			return nil, err
		}
		c.options.Log.Info("Made a stream", "stream", want.Name, "replicas", want.Replicas, "maxBytes", want.MaxBytes)
		return stream.CachedInfo(), grouped(stream, want)
	}
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	have := info.Config
	if have.Retention != want.Retention {
		return nil, fmt.Errorf("it has retention %s, and needs %s: it was made by somebody else; use another --nats-stream-prefix", have.Retention, want.Retention)
	}
	if have.Replicas != want.Replicas {
		c.options.Log.Info("A stream keeps the number of its replicas, which is not that of --nats-replicas", "stream", want.Name, "replicas", have.Replicas)
	}
	changed := have
	changed.Subjects, changed.Description, changed.Discard = want.Subjects, want.Description, want.Discard
	changed.MaxBytes, changed.MaxAge, changed.Duplicates = want.MaxBytes, want.MaxAge, want.Duplicates
	changed.AllowDirect, changed.DiscardNewPerSubject = want.AllowDirect, want.DiscardNewPerSubject
	changed.AllowAtomicPublish = want.AllowAtomicPublish
	if want.DiscardNewPerSubject {
		changed.MaxMsgsPerSubject = want.MaxMsgsPerSubject
	}
	if sameLimits(&have, &changed) {
		return info, nil
	}
	stream, err = c.js.UpdateStream(ctx, changed)
	if err != nil {
		return nil, err
	}
	return info, grouped(stream, want)
}

// grouped returns an error if a server is older than group commits, of which it says nothing.
func grouped(have jetstream.Stream, want jetstream.StreamConfig) error {
	if want.AllowAtomicPublish && !have.CachedInfo().Config.AllowAtomicPublish {
		return errors.New("the server takes no messages in groups: it has to be of version 2.12 or newer, or --nats-group-commit be left out")
	}
	return nil
}

// boundedWindow: NATS takes no duplicate window beyond the age of what it keeps.
func boundedWindow(s jetstream.StreamConfig) time.Duration {
	if s.MaxAge > 0 {
		return min(s.Duplicates, s.MaxAge)
	}
	return s.Duplicates
}

func sameLimits(a, b *jetstream.StreamConfig) bool {
	return a.MaxBytes == b.MaxBytes && a.MaxAge == b.MaxAge && a.Duplicates == b.Duplicates && a.Discard == b.Discard && a.AllowDirect == b.AllowDirect &&
		a.AllowAtomicPublish == b.AllowAtomicPublish && a.MaxMsgsPerSubject == b.MaxMsgsPerSubject && a.DiscardNewPerSubject == b.DiscardNewPerSubject &&
		a.Description == b.Description && len(a.Subjects) == len(b.Subjects) && a.Subjects[0] == b.Subjects[0]
}

// consumer makes the one of a stream that all replicas share.
func (c *Connection) consumer(ctx context.Context, stream string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: consumerName, Description: "All dispatcher replicas", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: maxAckPending, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return nil, fmt.Errorf("make the consumer of stream %s: %w", stream, err)
	}
	return consumer, nil
}
