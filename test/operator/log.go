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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

// logBatch is how many messages of the log are asked for at a time.
const logBatch = 500

const streamNames = message.Names(message.DefaultPrefix)

// Waiting counts the deliveries of a namespace that wait in the stream of the intake JetStream, or are being attempted from
// there. Deliveries beyond this count are on record.
func (o *Operator) Waiting(ctx context.Context, namespace string) (int, error) {
	if o.NATS == nil {
		return 0, nil
	}
	js, end, err := o.jetStream()
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	defer end()
	stream, err := js.Stream(ctx, streamNames.DeliveriesStream())
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(streamNames.DeliverySubjects(namespace, "")))
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	sum := 0
	for _, count := range info.State.Subjects {
		sum += int(count)
	}
	return sum, nil
}

func (o *Operator) jetStream() (js jetstream.JetStream, end func(), err error) {
	connection, err := nats.Connect(o.NATS.URL())
	if err != nil {
		return nil, nil, err
	}
	if js, err = jetstream.New(connection); err != nil {
		connection.Close()
		return nil, nil, err
	}
	return js, connection.Close, nil
}

// Logged returns the deliveries of a namespace that the log stream of the intake JetStream holds, oldest first. With the other
// intake there are none.
func (o *Operator) Logged(ctx context.Context, namespace string) ([]v1alpha1.PostbackDelivery, error) {
	if o.NATS == nil {
		return nil, nil
	}
	js, end, err := o.jetStream()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer end()
	var logged []v1alpha1.PostbackDelivery
	for next := uint64(1); ; {
		batch, err := jetstreamext.GetBatch(ctx, js, streamNames.LogStream(), logBatch,
			jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchSubject(streamNames.LogSubjects(namespace, "")))
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		from := next
		for m, err := range batch {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read the log: %w", err)
			}
			d, err := streamNames.ParseLog(m.Subject, m.Header, m.Data)
			if err != nil {
				return nil, fmt.Errorf("read the log: %w", err)
			}
			logged = append(logged, *d)
			next = m.Sequence + 1
		}
		if next == from {
			return logged, nil
		}
	}
}
