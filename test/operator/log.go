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

package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

const (
	// logBatch is how many messages of the log are asked for at a time.
	logBatch = 500
	// forgotten is when a consumer of the log goes that nobody asks any more.
	forgotten = 2 * time.Second
)

// Logged returns the deliveries of a namespace that the log stream of the intake JetStream holds, oldest first. With the other
// intake there are none.
func (o *Operator) Logged(ctx context.Context, namespace string) ([]v1alpha1.PostbackDelivery, error) {
	if o.NATS == nil {
		return nil, nil
	}
	connection, err := nats.Connect(o.NATS.URL())
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	const names = message.Names(message.DefaultPrefix)
	consumer, err := js.OrderedConsumer(ctx, names.LogStream(), jetstream.OrderedConsumerConfig{
		// It goes soon after its last use: tests look often, and a stream has a bound for its consumers.
		FilterSubjects: []string{names.LogSubjects(namespace, "")}, InactiveThreshold: forgotten,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	var logged []v1alpha1.PostbackDelivery
	for {
		batch, err := consumer.FetchNoWait(logBatch)
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		count := 0
		for m := range batch.Messages() {
			d, err := names.ParseLog(m.Subject(), m.Headers(), m.Data())
			if err != nil {
				return nil, fmt.Errorf("read the log: %w", err)
			}
			logged = append(logged, *d)
			count++
		}
		if err := batch.Error(); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if count == 0 {
			return logged, nil
		}
	}
}
