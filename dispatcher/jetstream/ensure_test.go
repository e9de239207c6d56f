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
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// stores makes a replica store an event, as soon as it accepts any.
func (x *replica) stores(target *route.Route, id string) {
	x.rig.t.Helper()
	NewWithT(x.rig.t).Eventually(func() intake.Outcome { return x.store(target, id, data(1)) }).WithTimeout(patience).
		Should(HaveField("Result", BeElementOf(intake.Stored, intake.Duplicate)), id)
}

// NATS returns without its store. Every event accepted afterwards arrives, through each replica.
func TestLostStore(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x, y := r.replica(true), r.replica(true)
	x.stores(crm, "evt_before")
	g.Eventually(func() int { return e.count("evt_before") }).WithTimeout(patience).Should(Equal(1))

	g.Expect(r.servers.LoseStore(t.Context())).To(Succeed())
	const each = 20
	for i := range each {
		x.stores(crm, fmt.Sprintf("evt_x_%d", i))
		y.stores(crm, fmt.Sprintf("evt_y_%d", i))
	}
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(1 + 2*each))
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
}

// A replica corrects streams and consumers while it is connected, whatever was changed.
func TestStreamsAreCorrected(t *testing.T) {
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	js, err := jetstream.New(r.servers.Connect(t))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	deliveries, events, log := x.connection.names.DeliveriesStream(), x.connection.names.EventsStream(), x.connection.names.LogStream()
	for name, harm := range map[string]func(context.Context) error{
		"the deliveries stream is deleted": func(ctx context.Context) error { return js.DeleteStream(ctx, deliveries) },
		"the log is deleted":               func(ctx context.Context) error { return js.DeleteStream(ctx, log) },
		"the events stream is deleted":     func(ctx context.Context) error { return js.DeleteStream(ctx, events) },
		"a consumer is deleted":            func(ctx context.Context) error { return js.DeleteConsumer(ctx, deliveries, consumerName) },
		"another consumer is deleted":      func(ctx context.Context) error { return js.DeleteConsumer(ctx, events, consumerName) },
		"a consumer is paused": func(ctx context.Context) error {
			_, err := js.PauseConsumer(ctx, deliveries, consumerName, time.Now().Add(time.Hour))
			return err
		},
		"a consumer is replaced": func(ctx context.Context) error {
			if err := js.DeleteConsumer(ctx, deliveries, consumerName); err != nil {
				return err
			}
			_, err := js.CreateConsumer(ctx, deliveries, jetstream.ConsumerConfig{Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 1, MaxAckPending: 1})
			return err
		},
		"a stream is reconfigured": func(ctx context.Context) error {
			stream, err := js.Stream(ctx, deliveries)
			if err != nil {
				return err
			}
			changed := stream.CachedInfo().Config
			changed.NoAck, changed.MaxMsgs, changed.Subjects = true, 1, []string{"elsewhere.*"}
			_, err = js.UpdateStream(ctx, changed)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(harm(t.Context())).To(Succeed())
			right := func(stream string) func() bool {
				return func() bool {
					consumer, err := js.Consumer(t.Context(), stream, consumerName)
					return err == nil && serves(consumer.CachedInfo())
				}
			}
			g.Eventually(right(deliveries)).WithTimeout(patience).Should(BeTrue())
			g.Eventually(right(events)).WithTimeout(patience).Should(BeTrue())
			for _, want := range x.connection.streams() {
				want.Duplicates = boundedWindow(want)
				g.Eventually(func() error {
					stream, err := js.Stream(t.Context(), want.Name)
					if err != nil {
						return err
					}
					if have := stream.CachedInfo().Config; !reflect.DeepEqual(have, withNeeds(have, want)) {
						return fmt.Errorf("stream %s: %+v", want.Name, have)
					}
					return nil
				}).WithTimeout(patience).Should(Succeed())
			}
			id := "evt_" + strings.ReplaceAll(name, " ", "_")
			x.stores(crm, id)
			g.Eventually(func() int { return e.count(id) }).WithTimeout(patience).Should(Equal(1))
			g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
		})
	}
}

// A stream that cannot be corrected makes the replica unready, with the reason, and the replica accepts no event.
func TestUnfitStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(true)
	js, err := jetstream.New(r.servers.Connect(t))
	g.Expect(err).NotTo(HaveOccurred())
	name := x.connection.names.LogStream()
	alien := jetstream.StreamConfig{Name: name, Subjects: []string{x.connection.names.AllLog()}, Retention: jetstream.InterestPolicy}
	g.Eventually(func() error {
		_ = js.DeleteStream(t.Context(), name)
		_, err := js.CreateStream(t.Context(), alien) // It fails if the replica is faster.
		return err
	}).WithTimeout(patience).Should(Succeed())
	g.Eventually(x.connection.Available).WithTimeout(patience).Should(MatchError(ContainSubstring("retention Interest")))
	g.Expect(x.store(crm, "evt_1", data(1)).Result).To(Equal(intake.Unstored))
	g.Expect(js.DeleteStream(t.Context(), name)).To(Succeed())
	g.Eventually(x.connection.Available).WithTimeout(patience).Should(Succeed())
	x.stores(crm, "evt_1")
}

// A replica with a delivery of a lost store does not acknowledge the later delivery with the same sequence.
func TestAcknowledgementOfALostStore(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	name := x.connection.names.DeliveriesStream()
	pulled := make(chan jetstream.Msg, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- x.connection.pull(ctx, name, 1, x.connection.options.Log, func(m jetstream.Msg) { pulled <- m })
	}()
	x.stores(crm, "evt_lost")
	var lost jetstream.Msg
	g.Eventually(pulled).WithTimeout(patience).Should(Receive(&lost))

	g.Expect(r.servers.LoseStore(t.Context())).To(Succeed())
	g.Eventually(ended).WithTimeout(patience).Should(Receive(MatchError(errReplaced)))
	cancel()
	x.stores(crm, "evt_later")
	later := x.fetch(1)[0]
	g.Expect(later.NakWithDelay(time.Hour)).To(Succeed()) // As if its endpoint were down.
	had, err := lost.Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	has, err := later.Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(has.Sequence.Stream).To(Equal(had.Sequence.Stream), "the test needs the same number")
	g.Expect(lost.Ack()).To(Succeed())
	g.Expect(x.connection.nats.Flush()).To(Succeed())
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(1))
}

// An id of a deleted stream is known from the delivery log.
func TestPostedAgainAfterTheStreamWasDeleted(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(true)
	first := r.make(crm, "evt_1", data(1))
	g.Expect(x.intake.Store(t.Context(), first).Result).To(Equal(intake.Stored))
	g.Eventually(func() bool { return x.logged(crm, "evt_1") != nil }).WithTimeout(patience).Should(BeTrue())
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	sameEpoch, _ := x.connection.epoch.now()
	g.Expect(x.connection.js.DeleteStream(t.Context(), x.connection.names.DeliveriesStream())).To(Succeed())
	g.Eventually(sameEpoch).WithTimeout(patience).Should(BeFalse())
	x.knows(first)
	g.Expect(e.count("evt_1")).To(Equal(1))
}

func TestEpoch(t *testing.T) {
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	for name, test := range map[string]struct {
		then       identity
		reconnects uint64
		replaced   bool
		sameEpoch  bool
	}{
		"the same":                       {then: identity{early, 7}, sameEpoch: true},
		"with more messages":             {then: identity{early, 9}, sameEpoch: true},
		"made later":                     {then: identity{late, 9}, replaced: true},
		"that counts from the beginning": {then: identity{early, 1}, replaced: true},
		"after a new connection":         {then: identity{early, 7}, reconnects: 1},
	} {
		t.Run(name, func(t *testing.T) {
			reconnects := uint64(0)
			e := newEpoch(func() uint64 { return reconnects })
			e.see("stream", identity{early, 7})
			sameEpoch, over := e.now()
			reconnects = test.reconnects
			if replaced := e.see("stream", test.then); replaced != test.replaced {
				t.Errorf("replaced %v", replaced)
			}
			if got := sameEpoch(); got != test.sameEpoch {
				t.Errorf("goes on %v", got)
			}
			select {
			case <-over:
				if !test.replaced {
					t.Error("it is over")
				}
			default:
				if test.replaced {
					t.Error("it is not over")
				}
			}
			e.checked(reconnects)
			if got := sameEpoch(); got == test.replaced {
				t.Errorf("after a comparison it goes on: %v", got)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	at := time.Unix(1000, 0)
	unanswered := context.DeadlineExceeded
	refused := error(&jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeStreamNotFound})
	electing := error(&jetstream.APIError{Code: 503, ErrorCode: 10008})
	for name, test := range map[string]struct {
		before error
		err    error
		after  time.Duration
		right  bool
	}{
		"right":                         {right: true},
		"unanswered for a moment":       {err: unanswered, after: unansweredFor - time.Second, right: true},
		"unanswered for long":           {err: unanswered, after: unansweredFor},
		"answered with a refusal":       {err: refused},
		"while a leader is elected":     {err: electing, after: unansweredFor - time.Second, right: true},
		"unfit":                         {err: fmt.Errorf("%w: other retention", errUnfit)},
		"unanswered after it was wrong": {before: refused, err: unanswered},
		"right after it was wrong":      {before: refused, right: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Connection{}
			c.judge(nil, at)
			if test.before != nil {
				c.judge(test.before, at)
			}
			if got := c.judge(test.err, at.Add(test.after)); got != test.right {
				t.Errorf("right %v", got)
			}
			if got := c.wrong.Load() == nil; got != test.right {
				t.Errorf("available %v", got)
			}
		})
	}
}
