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

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/test/natsserver"
	"github.com/postback-dev/postback-operator/test/operator"
)

// streams are those that the dispatcher makes.
const streams = message.Names(message.DefaultPrefix)

// broker is the NATS server of the demo, which it has with INTAKE=jetstream alone.
type broker struct {
	dir     string
	servers *natsserver.Cluster
	client  *nats.Conn
}

// URL of the server.
func (b *broker) URL() string { return b.servers.URL() }

func (d *demo) startNATS(ctx context.Context) error {
	d.out.step("A NATS server with JetStream")
	d.broker = &broker{}
	var err error
	if d.broker.dir, err = os.MkdirTemp("", "postback-demo-nats-"); err != nil {
		return fmt.Errorf("make the folder of the NATS server: %w", err)
	}
	if d.broker.servers, err = natsserver.Start(ctx, natsserver.Options{SyncAlways: true, Dir: d.broker.dir}, &progress{out: d.out}); err != nil {
		return err
	}
	if d.broker.client, err = nats.Connect(d.broker.URL(), nats.Name("demo")); err != nil {
		return fmt.Errorf("connect to the NATS server: %w", err)
	}
	d.out.say("%s writes to the disk before it says that something is stored (sync_interval: always).", d.broker.URL())
	return nil
}

// stop ends the server and removes what it stored.
func (b *broker) stop() error {
	if b.client != nil {
		b.client.Close()
	}
	var err error
	if b.servers != nil {
		err = b.servers.Stop()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// openLog starts a replica with TLS, through which the kubectl plugin and its console read the log: a client certificate takes TLS.
func (d *demo) openLog(ctx context.Context, intake []operator.Option) error {
	second, err := d.op.StartDispatcher(ctx, "postback-dispatcher-demo-tls", append(intake, operator.WithTLS())...)
	if err != nil {
		return err
	}
	d.out.say("A second replica serves TLS, as both do in a cluster. Without a kubelet there is no port-forward to it, so the")
	d.out.say("Lease names its URL to the kubectl plugin:")
	lease := "lease/" + v1alpha1.IntakeLeaseName
	if err := d.kubectl(ctx, "-n", operator.Namespace, "wait", "--for=create", "--timeout=60s", lease); err != nil {
		return err
	}
	return d.kubectl(ctx, "-n", operator.Namespace, "annotate", lease, v1alpha1.IngestURLAnnotation+"="+second.IngestURL())
}

// publish sends an event by NATS alone.
func (d *demo) publish(ctx context.Context) error {
	d.out.step("Publish an event to NATS, without ingest")
	d.out.say("NATS knows who may, by the subject; here everybody. See docs/jetstream.md.")
	const id, eventType = "order-7", "sale.created"
	data := event.Sample(eventType)
	subject := streams.EventSubject(namespace)
	d.out.command(fmt.Sprintf("nats request %s '{\"id\":%q,\"event\":%q,\"data\":%s…}'", subject, id, eventType, data[:min(len(data), shownData)]))
	body, err := json.Marshal(map[string]any{"id": id, "event": eventType, "data": data})
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	js, err := jetstream.New(d.broker.client)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	ack, err := js.Publish(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	d.out.output(fmt.Sprintf("stored in %s as message %d", ack.Stream, ack.Sequence))
	d.events = append(d.events, posted{
		id: id, eventType: eventType, when: "published, after that", standard: []string{"key 2"}, dub: []string{"key 2"}, known: []string{"key 1", "key 2"}, attempts: 1,
	})
	return d.await(ctx, len(d.events)+1)
}

// logged is what the log stream says about an event.
type logged struct {
	event   v1alpha1.EventReference
	attempt v1alpha1.Attempt
}

// showStreams shows where the events are that needed one attempt only: nothing of them is at the API server.
func (d *demo) showStreams(ctx context.Context) error {
	d.out.step("The streams")
	var log []logged
	var rows [][]string
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	// The endpoint has an event a moment before the log has.
	want := len(slices.DeleteFunc(slices.Clone(d.events), func(p posted) bool { return p.attempts > 1 }))
	err := wait.PollUntilContextCancel(ctx, lookInterval, true, func(ctx context.Context) (done bool, err error) {
		if rows, log, err = d.readStreams(ctx); err != nil {
			return false, err
		}
		return len(log) >= want && rows[1][1] == "0", nil
	})
	if err != nil {
		return fmt.Errorf("wait until %d events are in the log stream: %w; it has %d", want, err, len(log))
	}
	d.out.say("Nothing waits, and what succeeded in its first attempt is in the log:")
	d.out.table(rows)
	d.out.say("")
	table := [][]string{{"EVENT", "ID", "ATTEMPT", "OUTCOME", "HTTP", "TOOK"}}
	for _, l := range log {
		table = append(table, []string{
			l.event.Type, shorten(l.event.ID), strconv.Itoa(int(l.attempt.Number)), string(l.attempt.Outcome),
			strconv.Itoa(int(ptr.Deref(l.attempt.StatusCode, 0))), l.attempt.Duration.Round(100 * time.Microsecond).String(),
		})
	}
	d.out.table(table)
	return d.checkLog(log)
}

// readStreams returns a table of the streams, and what the log holds.
func (d *demo) readStreams(ctx context.Context) (rows [][]string, log []logged, err error) {
	js, err := jetstream.New(d.broker.client)
	if err != nil {
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	rows = [][]string{{"STREAM", "MESSAGES", "BYTES", "STORED SO FAR"}}
	for _, name := range []string{streams.DeliveriesStream(), streams.EventsStream(), streams.LogStream()} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return nil, nil, fmt.Errorf("read stream %s: %w", name, err)
		}
		state := stream.CachedInfo().State
		rows = append(rows, []string{name, strconv.FormatUint(state.Msgs, 10), strconv.FormatUint(state.Bytes, 10), strconv.FormatUint(state.LastSeq, 10)})
		if name != streams.LogStream() {
			continue
		}
		for sequence := state.FirstSeq; sequence <= state.LastSeq && state.Msgs > 0; sequence++ {
			m, err := stream.GetMsg(ctx, sequence)
			if err != nil {
				return nil, nil, fmt.Errorf("read message %d of the log: %w", sequence, err)
			}
			delivery, err := streams.ParseLog(m.Subject, m.Header, m.Data)
			if err != nil {
				return nil, nil, fmt.Errorf("message %d of the log: %w", sequence, err)
			}
			log = append(log, logged{delivery.Spec.Event, delivery.Status.Attempts[0]})
		}
	}
	return rows, log, nil
}

// checkLog compares the log with the posted events: it holds those of one attempt once, and none that failed first.
func (d *demo) checkLog(log []logged) error {
	var wrong []string
	for _, p := range d.events {
		want := 1
		if p.attempts > 1 {
			want = 0
		}
		found := slices.DeleteFunc(slices.Clone(log), func(l logged) bool { return l.event.ID != p.id })
		if len(found) != want {
			wrong = append(wrong, fmt.Sprintf("%s %s is in the log stream %d times, not %d", p.eventType, p.id, len(found), want))
		}
	}
	if len(wrong) > 0 {
		return errors.New("the log stream is not as it has to be:\n  - " + strings.Join(wrong, "\n  - "))
	}
	return nil
}
