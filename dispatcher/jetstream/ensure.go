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
	"net/http"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// checkEvery is the time between two checks of the streams and consumers.
	checkEvery = 2 * time.Second
	// unansweredFor is how long a replica relies on the last check while nobody answers, because a cluster may be
	// electing a leader.
	unansweredFor = 15 * time.Second
)

// Start checks streams and consumers every few seconds and after each new connection, and corrects their
// configuration, until ctx ends.
func (c *Connection) Start(ctx context.Context) error {
	var said string
	for {
		err := c.ensure(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if c.judge(err, time.Now()) {
			said = ""
		} else if err.Error() != said {
			said = err.Error()
			c.options.Log.Error(err, "The streams have a wrong configuration; this replica accepts no events")
		}
		pause := checkEvery
		if err != nil {
			pause = setupRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.again:
		case <-time.After(pause):
		}
	}
}

// judge applies the result of a check, and reports whether the streams count as ready.
func (c *Connection) judge(err error, now time.Time) bool {
	if err == nil {
		c.rightAt = now
		c.wrong.Store(nil)
		streamsReadyGauge.Set(1)
		return true
	}
	if c.wrong.Load() == nil && isUnanswered(err) && now.Sub(c.rightAt) < unansweredFor {
		return true
	}
	c.wrong.Store(&err)
	streamsReadyGauge.Set(0)
	return false
}

// isUnanswered reports whether an error tells nothing about the streams. A cluster that elects a leader answers 503.
func isUnanswered(err error) bool {
	answer, answered := errors.AsType[*jetstream.APIError](err)
	return (!answered || answer.Code == http.StatusServiceUnavailable) && !errors.Is(err, errUnfit)
}

// errUnfit means that the configuration of a stream cannot be corrected.
var errUnfit = errors.New("it cannot be used")

// ensure creates missing streams and consumers, and corrects those that differ from the wanted configuration.
func (c *Connection) ensure(ctx context.Context) error {
	if !c.nats.IsConnected() {
		return errDisconnected
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	c.memory.note()
	connections := c.dials.count.Load()
	for _, want := range c.streams() {
		info, err := c.ensureStream(ctx, want)
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		c.see(want.Name, identity{created: info.Created, last: info.State.LastSeq})
		if want.Name == c.names.DeliveriesStream() {
			c.memory.seen(info)
		}
	}
	for _, stream := range c.workQueues() {
		info, err := c.ensureConsumer(ctx, stream)
		if err != nil {
			return fmt.Errorf("consumer %s of stream %s: %w", consumerName, stream, err)
		}
		c.see(stream+" "+consumerName, identity{created: info.Created})
	}
	c.epoch.checked(connections)
	return nil
}

// see records the identity of a stream or consumer. If it was replaced, the memory is void.
func (c *Connection) see(name string, now identity) {
	if !c.epoch.see(name, now) {
		return
	}
	c.memory.remade()
	remade.Inc()
	c.options.Log.Error(errRemade, "NATS has lost a stream or a consumer", "name", name, "created", now.created)
}

var errRemade = errors.New("it was created again while this replica ran: its messages may be lost")

func (c *Connection) ensureStream(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
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
		return nil, fmt.Errorf("%w: it has retention %s, and needs %s: it belongs to another application; use another --nats-stream-prefix", errUnfit, have.Retention, want.Retention)
	}
	if have.Replicas != want.Replicas && c.replicas[want.Name] != have.Replicas {
		c.options.Log.Info("A stream keeps its number of replicas, which differs from --nats-replicas", "stream", want.Name, "replicas", have.Replicas)
	}
	c.replicas[want.Name] = have.Replicas
	needed := withNeeds(have, want)
	if reflect.DeepEqual(have, needed) {
		return info, nil
	}
	stream, err = c.js.UpdateStream(ctx, needed)
	if err != nil {
		return nil, err
	}
	c.options.Log.Info("Corrected a stream", "stream", want.Name)
	return info, grouped(stream, want)
}

// grouped returns an error if a server is too old for group commits. Such a server reports no error itself.
func grouped(have jetstream.Stream, want jetstream.StreamConfig) error {
	if want.AllowAtomicPublish && !have.CachedInfo().Config.AllowAtomicPublish {
		return fmt.Errorf("%w: the server does not support batches: upgrade it to 2.12 or newer, or omit --nats-group-commit", errUnfit)
	}
	return nil
}

// ensureConsumer creates or updates the consumer of a work queue. If the consumer cannot be updated, it is recreated.
func (c *Connection) ensureConsumer(ctx context.Context, stream string) (*jetstream.ConsumerInfo, error) {
	consumer, err := c.js.Consumer(ctx, stream, consumerName)
	switch {
	case err == nil && serves(consumer.CachedInfo()):
		return consumer.CachedInfo(), nil
	case err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrNotPullConsumer):
		return nil, err
	}
	if err == nil && consumer.CachedInfo().Paused {
		if _, err := c.js.ResumeConsumer(ctx, stream, consumerName); err != nil {
			return nil, err
		}
	}
	made, err := c.js.CreateOrUpdateConsumer(ctx, stream, sharedConsumer())
	if _, refused := errors.AsType[*jetstream.APIError](err); refused && consumer != nil {
		// The new consumer delivers all messages again. Records in the delivery log or at the API server keep
		// deliveries from being repeated.
		if err := c.js.DeleteConsumer(ctx, stream, consumerName); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, err
		}
		made, err = c.js.CreateConsumer(ctx, stream, sharedConsumer())
	}
	if err != nil {
		return nil, err
	}
	c.options.Log.Info("Made or corrected a consumer", "stream", stream, "consumer", consumerName)
	return made.CachedInfo(), nil
}
