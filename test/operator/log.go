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
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

// logBatch is the number of entries that are fetched together.
const logBatch = 500

const streamNames = message.Names(message.DefaultPrefix)

// Waiting counts the deliveries of a namespace that wait in a stream, or are attempted from there. Deliveries beyond
// this count are recorded.
func (o *Operator) Waiting(ctx context.Context, namespace string) (int, error) {
	switch {
	case o.EmbedsNATS():
		return o.waitingEmbedded(ctx, namespace)
	case o.NATS == nil:
		return 0, nil
	}
	sum, err := WaitingAt(ctx, o.NATS.URL(), namespace)
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	return sum, nil
}

// WaitingAt is Waiting at a NATS server. It counts every stream with the default prefix except the delivery log and
// the stream of published events.
func WaitingAt(ctx context.Context, server, namespace string) (int, error) {
	js, end, err := connect(server)
	if err != nil {
		return 0, err
	}
	defer end()
	streams := js.StreamNames(ctx)
	var names []string
	for name := range streams.Name() {
		names = append(names, name)
	}
	if err := streams.Err(); err != nil {
		return 0, err
	}
	// A delivery moves from DELIVERIES or QUEUE to WAITING. In this order none is missed.
	slices.Sort(names)
	sum := 0
	for _, name := range names {
		if !strings.HasPrefix(name, message.DefaultPrefix+"_") || name == streamNames.LogStream() || name == streamNames.EventsStream() {
			continue
		}
		n, err := messagesOf(ctx, js, name, namespace)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// messagesOf counts the messages of a namespace in a stream. The namespace is the third token of each subject.
func messagesOf(ctx context.Context, js jetstream.JetStream, name, namespace string) (int, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(strings.ToLower(message.DefaultPrefix)+".*."+namespace+".>"))
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, count := range info.State.Subjects {
		sum += int(count)
	}
	return sum, nil
}

func (o *Operator) jetStream() (js jetstream.JetStream, end func(), err error) {
	return connect(o.NATS.URL())
}

func connect(server string) (js jetstream.JetStream, end func(), err error) {
	connection, err := nats.Connect(server)
	if err != nil {
		return nil, nil, err
	}
	if js, err = jetstream.New(connection); err != nil {
		connection.Close()
		return nil, nil, err
	}
	return js, connection.Close, nil
}

// Logged returns the entries of a namespace in the delivery log, oldest first. Without the JetStream intake there are
// none.
func (o *Operator) Logged(ctx context.Context, namespace string) ([]v1alpha1.PostbackDelivery, error) {
	switch {
	case o.EmbedsNATS():
		return o.loggedEmbedded(ctx, namespace)
	case o.NATS == nil:
		return nil, nil
	}
	logged, err := o.read(ctx, streamNames.LogStream(), streamNames.LogSubjects(namespace, ""), streamNames.ParseLog)
	if err != nil {
		return nil, fmt.Errorf("read the delivery log: %w", err)
	}
	return logged, nil
}

// InWaiting returns the deliveries of a namespace in the waiting stream, oldest first. Without the JetStream intake
// there are none.
func (o *Operator) InWaiting(ctx context.Context, namespace string) ([]v1alpha1.PostbackDelivery, error) {
	if o.NATS == nil {
		return nil, nil
	}
	parse := func(subject string, header nats.Header, data []byte) (*v1alpha1.PostbackDelivery, error) {
		d, _, err := streamNames.ParseWaiting(subject, header, data)
		if err == nil {
			d.Status.Phase = cmp.Or(d.Status.Phase, v1alpha1.DeliveryPending)
		}
		return d, err
	}
	waiting, err := o.read(ctx, streamNames.WaitingStream(), streamNames.WaitingSubjects(namespace, "")[0], parse)
	if err != nil {
		return nil, fmt.Errorf("read the waiting stream: %w", err)
	}
	return waiting, nil
}

// read returns the deliveries in the messages of a stream with a subject.
func (o *Operator) read(ctx context.Context, stream, subject string,
	parse func(subject string, header nats.Header, data []byte) (*v1alpha1.PostbackDelivery, error),
) (all []v1alpha1.PostbackDelivery, err error) {
	js, end, err := o.jetStream()
	if err != nil {
		return nil, err
	}
	defer end()
	for next := uint64(1); ; {
		batch, err := jetstreamext.GetBatch(ctx, js, stream, logBatch, jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchSubject(subject))
		if err != nil {
			return nil, err
		}
		from := next
		for m, err := range batch {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return nil, err
			}
			d, err := parse(m.Subject, m.Header, m.Data)
			if err != nil {
				return nil, err
			}
			all = append(all, *d)
			next = m.Sequence + 1
		}
		if next == from {
			return all, nil
		}
	}
}
