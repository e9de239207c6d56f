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

package natsapi

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

const (
	patience  = time.Minute
	namespace = "acme"
)

// store is an intake that keeps deliveries by the id of their event. The first failures stores fail.
type store struct {
	mu       sync.Mutex
	bodies   map[string]string
	failures int
}

// Store implements accept.Intake.
func (s *store) Store(_ context.Context, d *intake.Delivery) intake.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.failures--
		return intake.Outcome{Result: intake.Unstored, Err: context.DeadlineExceeded}
	}
	if _, known := s.bodies[d.Event.ID]; known {
		return intake.Outcome{Result: intake.Duplicate}
	}
	s.bodies[d.Event.ID] = d.Object.Spec.Body
	return intake.Outcome{Result: intake.Stored}
}

func (s *store) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

func (s *store) body(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[id]
}

// rig is the door on a real NATS server, with a real Acceptor for one Postback.
type rig struct {
	t      *testing.T
	store  *store
	routes *route.Index
	js     natsjs.JetStream
}

func newRig(t *testing.T, target *route.Route) *rig {
	t.Helper()
	g := NewWithT(t)
	servers := natsserver.New(t, natsserver.Options{})
	connection, err := jetstream.Connect(jetstream.Options{
		URL: servers.URL(), Names: message.DefaultPrefix, Replicas: 1, DuplicateWindow: jetstream.DefaultDuplicateWindow,
		MaxBytes: 64 << 20, LogMaxBytes: 64 << 20, LogMaxAge: time.Hour, Identity: "test", Log: logr.Discard(),
	})
	g.Expect(err).NotTo(HaveOccurred())
	r := &rig{t: t, store: &store{bodies: map[string]string{}}, routes: doors.Index(target)}
	acceptor, err := accept.New(accept.Options{Intake: r.store, Routes: r.routes, Backlog: doors.Backlog{}, Log: logr.Discard()})
	g.Expect(err).NotTo(HaveOccurred())
	door := &Events{Streams: connection, Acceptor: acceptor, MaxBodyBytes: 256 << 10, Log: logr.Discard()}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, start := range []func(context.Context) error{connection.Start, door.Start} {
		running.Go(func() {
			if err := start(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		connection.Close()
	})
	g.Eventually(connection.Available).WithTimeout(patience).Should(Succeed())
	r.js, err = natsjs.New(servers.Connect(t))
	g.Expect(err).NotTo(HaveOccurred())
	return r
}

func (r *rig) publish(body string, headers ...string) {
	r.t.Helper()
	m := &nats.Msg{Subject: "postback.events." + namespace, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if _, err := r.js.PublishMsg(r.t.Context(), m); err != nil {
		r.t.Fatal(err)
	}
}

// left returns the number of events in the stream.
func (r *rig) left() (uint64, error) {
	stream, err := r.js.Stream(r.t.Context(), "POSTBACK_EVENTS")
	if err != nil {
		return 0, fmt.Errorf("find the stream of events: %w", err)
	}
	return stream.CachedInfo().State.Msgs, nil
}

func TestPublishedEventsAreStored(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, doors.LooseRoute(namespace, "crm", "", "*"))
	r.publish(`{"id": "evt_1", "event": "lead.created", "data": {"n": 12345678901234567890}}`)
	// Headers may have the attributes of a CloudEvent, in any case.
	r.publish(`{"n": 1}`, "ce-specversion", "1.0", "ce-id", "7", "ce-source", "/shop", "ce-type", "lead.created", "content-type", "application/json")
	r.publish(`{"event": "lead.created", "data": {}}`)
	g.Eventually(r.store.total).WithTimeout(patience).Should(Equal(3))
	g.Eventually(r.left).WithTimeout(patience).Should(BeZero())
	g.Expect(r.store.body("evt_1")).To(ContainSubstring(`"data":{"n": 12345678901234567890}`))

	r.publish(`{"id": "evt_1", "event": "lead.created", "data": {"n": 12345678901234567890}}`)
	g.Eventually(r.left).WithTimeout(patience).Should(BeZero())
	g.Expect(r.store.total()).To(Equal(3))
}

// NATS delivers an event again that was not stored. Its id stays the same, also if the producer gave it none.
func TestUnstoredEventIsDeliveredAgain(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, doors.LooseRoute(namespace, "crm", "", "*"))
	r.store.mu.Lock()
	r.store.failures = 2
	r.store.mu.Unlock()
	r.publish(`{"event": "lead.created", "data": {}}`)
	g.Eventually(r.store.total).WithTimeout(patience).Should(Equal(1))
	g.Eventually(r.left).WithTimeout(patience).Should(BeZero())
	g.Expect(r.store.total()).To(Equal(1))
}

// An invalid message delays no other, and is not delivered again.
func TestInvalidEventsAreTakenOut(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, doors.LooseRoute(namespace, "crm", "", "*"))
	for _, body := range []string{"no JSON", "", `{"event": "a b", "data": {}}`} {
		r.publish(body)
	}
	r.publish(`{"event": "lead.created", "data": {}}`, "Content-Type", "text/plain")
	r.publish(`{"id": "evt_1", "event": "lead.created", "data": {}}`)
	g.Eventually(func() string { return r.store.body("evt_1") }).WithTimeout(patience).ShouldNot(BeEmpty())
	g.Eventually(r.left).WithTimeout(patience).Should(BeZero())
	g.Expect(r.store.total()).To(Equal(1))
}

// An event that every Postback refuses waits until one accepts it.
func TestPublishedEventWaitsForRoom(t *testing.T) {
	g := NewWithT(t)
	full := doors.LooseRoute(namespace, "crm", "", v1alpha1.Trigger("*"))
	full.MaxPending = 0
	r := newRig(t, full)
	r.publish(`{"id": "evt_1", "event": "lead.created", "data": {}}`)
	g.Consistently(r.left).Should(BeEquivalentTo(1))
	g.Expect(r.store.total()).To(BeZero())

	roomy := *full
	roomy.MaxPending = 1000
	r.routes.Set(&roomy)
	g.Eventually(r.store.total).WithTimeout(patience).Should(Equal(1))
	g.Eventually(r.left).WithTimeout(patience).Should(BeZero())
}
