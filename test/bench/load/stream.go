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

package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	bareStream      = "BARE"
	bareSubject     = "bare.events"
	publishPatience = time.Minute
	// pulled bounds the messages in flight.
	pulled = 2000
)

// BareStreamOrders configure bareStreamLoop.
type BareStreamOrders struct {
	Server, URL string
	// Messages is the number of messages, Size the length of each in bytes, Connections the number of concurrent
	// posts.
	Messages, Size, Connections int
}

// bareStreamLoop only consumes, signs, posts and acknowledges messages. It does not count their publication.
func bareStreamLoop(ctx context.Context, o BareStreamOrders) (report LoopReport, err error) {
	connection, err := nats.Connect(o.Server)
	if err != nil {
		return report, fmt.Errorf("connect to NATS: %w", err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return report, err
	}
	consumer, err := fill(ctx, js, o)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, js.DeleteStream(context.WithoutCancel(ctx), bareStream)) }()
	messages := make(chan jetstream.Msg, pulled)
	consuming, err := consumer.Consume(func(m jetstream.Msg) { messages <- m }, jetstream.PullMaxMessages(pulled))
	if err != nil {
		return report, err
	}
	defer consuming.Stop()
	post, err := poster(BareHTTPOrders{URL: o.URL, Connections: o.Connections})
	if err != nil {
		return report, err
	}
	return loop(ctx, o.Messages, o.Connections, func(ctx context.Context, i int) error {
		select {
		case m := <-messages:
			if err := post(ctx, i, m.Data()); err != nil {
				return err
			}
			return m.Ack()
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// fill creates a stream with messages, and its consumer.
func fill(ctx context.Context, js jetstream.JetStream, o BareStreamOrders) (jetstream.Consumer, error) {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: bareStream, Subjects: []string{bareSubject}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		return nil, fmt.Errorf("make the stream: %w", err)
	}
	body := []byte(padding(o.Size))
	for range o.Messages {
		if _, err := js.PublishAsync(bareSubject, body, jetstream.WithStallWait(publishPatience)); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(publishPatience):
		return nil, errors.New("publish: not all is acknowledged")
	}
	return js.CreateConsumer(ctx, bareStream, jetstream.ConsumerConfig{Durable: "bare", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
}
