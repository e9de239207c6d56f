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

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// pullRetry is the pause before the next pull.
	pullRetry = time.Second
	// readyPoll is the time between two checks whether the stream is ready. It is short, because ingest takes events
	// as soon as the stream is ready.
	readyPoll = 20 * time.Millisecond
)

var errEnded = errors.New("the consumer has ended")

// Pull passes the messages of a work queue to take, one after another, until ctx ends. Up to ahead messages are in
// flight to this replica. Once ctx has ended, take must give back the remaining ones.
func (c *Connection) Pull(ctx context.Context, stream string, ahead int, log logr.Logger, take func(jetstream.Msg)) {
	c.pullIf(ctx, func() bool { return true }, stream, ahead, log, take)
}

// pullIf is Pull, once ready returns true.
func (c *Connection) pullIf(ctx context.Context, ready func() bool, stream string, ahead int, log logr.Logger, take func(jetstream.Msg)) {
	pull := func(ctx context.Context) error { return c.pull(ctx, stream, ahead, log, take) }
	pullAgain(ctx, func() bool { return ready() && c.Available() == nil }, pull, func(err error) {
		log.Info("Cannot pull messages; trying again", "stream", stream, "reason", err.Error())
	})
}

// pullAgain calls pull repeatedly, each time once ready returns true, until ctx ends. It passes errors to failed.
func pullAgain(ctx context.Context, ready func() bool, pull func(context.Context) error, failed func(error)) {
	poll := func(context.Context) (bool, error) { return ready(), nil }
	for ctx.Err() == nil && wait.PollUntilContextCancel(ctx, readyPoll, true, poll) == nil {
		if err := pull(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pullRetry):
		}
	}
}

// errReplaced means that the stream or its consumer was replaced during the pull.
var errReplaced = errors.New("the stream or its consumer was made anew")

// pull passes the messages of a stream to take, one after another, until ctx or the consumer ends. Up to ahead
// messages are in flight to this replica. Once ctx has ended, take must give back the remaining ones.
func (c *Connection) pull(ctx context.Context, stream string, ahead int, log logr.Logger, take func(jetstream.Msg)) error {
	sameEpoch, over := c.epoch.now()
	consumer, err := c.consumer(ctx, stream)
	if err != nil {
		return err
	}
	handOn := func(msg jetstream.Msg) { take(&bound{msg, sameEpoch}) }
	consuming, err := consumer.Consume(handOn, jetstream.PullMaxMessages(ahead),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			log.V(1).Info("The stream reports a problem", "reason", err.Error())
		}))
	if err != nil {
		return err
	}
	var why error
	select {
	case <-consuming.Closed():
		return errEnded
	case <-over:
		why = errReplaced
	case <-ctx.Done():
	}
	consuming.Drain()
	select {
	case <-consuming.Closed():
	case <-time.After(drainTimeout):
		consuming.Stop()
	}
	return why
}

// consumer returns the consumer of a stream that all replicas share.
func (c *Connection) consumer(ctx context.Context, stream string) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	consumer, err := c.js.Consumer(ctx, stream, consumerName)
	if err != nil {
		return nil, fmt.Errorf("find the consumer of stream %s: %w", stream, err)
	}
	return consumer, nil
}
