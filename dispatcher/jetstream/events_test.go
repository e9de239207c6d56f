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
	"net/http"
	"testing"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// sender publishes events to NATS.
type sender struct {
	t         *testing.T
	js        jetstream.JetStream
	namespace string
}

func (p *sender) publish(body string, headers ...string) {
	p.t.Helper()
	m := &nats.Msg{Subject: "postback.events." + p.namespace, Data: []byte(body), Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if _, err := p.js.PublishMsg(p.t.Context(), m); err != nil {
		p.t.Fatal(err)
	}
}

// events makes a replica pull published events, and returns a sender for the rig's namespace.
func (x *replica) events() *sender {
	x.rig.t.Helper()
	acceptor, err := accept.New(accept.Options{Intake: x.intake, Routes: x.rig.routes, Backlog: x.pending, Log: logr.Discard()})
	if err != nil {
		x.rig.t.Fatal(err)
	}
	consumer := &Events{Connection: x.connection, Acceptor: acceptor, MaxBodyBytes: 256 << 10, Log: logr.Discard()}
	ctx, cancel := context.WithCancel(x.rig.t.Context())
	done := make(chan error, 1)
	go func() { done <- consumer.Start(ctx) }()
	x.rig.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			x.rig.t.Error(err)
		}
	})
	js, err := jetstream.New(x.rig.servers.Connect(x.rig.t))
	if err != nil {
		x.rig.t.Fatal(err)
	}
	return &sender{t: x.rig.t, js: js, namespace: x.rig.namespace}
}

// published returns the number of events in the stream.
func (p *sender) published() uint64 {
	stream, err := p.js.Stream(p.t.Context(), "POSTBACK_EVENTS")
	if err != nil {
		p.t.Error(err)
		return 0
	}
	return stream.CachedInfo().State.Msgs
}

func TestPublishedEventsAreDelivered(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	r.postback("crm", e)
	p := r.replica(true).events()

	p.publish(`{"id": "evt_1", "event": "lead.created", "data": {"n": 12345678901234567890}}`)
	// Headers may have the attributes of a CloudEvent, in any case.
	p.publish(`{"n": 1}`, "ce-specversion", "1.0", "ce-id", "7", "ce-source", "/shop", "ce-type", "lead.created", "content-type", "application/json")
	p.publish(`{"event": "lead.created", "data": {}}`)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(3))
	g.Eventually(p.published).WithTimeout(patience).Should(BeZero())
	g.Expect(e.bodies["evt_1"]).To(HaveLen(1))
	g.Expect(e.bodies["evt_1"][0]).To(ContainSubstring(`"data":{"n": 12345678901234567890}`))

	// The repeated event is recognised by its id.
	p.publish(`{"id": "evt_1", "event": "lead.created", "data": {"n": 12345678901234567890}}`)
	g.Eventually(p.published).WithTimeout(patience).Should(BeZero())
	g.Consistently(func() int { return e.count("evt_1") }).Should(Equal(1))
}

// An invalid message delays no other, and is not delivered again.
func TestInvalidEventsAreTakenOut(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	r.postback("crm", e)
	p := r.replica(true).events()
	for _, body := range []string{"no JSON", "", `{"event": "a b", "data": {}}`} {
		p.publish(body)
	}
	p.publish(`{"event": "lead.created", "data": {}}`, "Content-Type", "text/plain")
	p.publish(`{"id": "evt_1", "event": "lead.created", "data": {}}`)
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(p.published).WithTimeout(patience).Should(BeZero())
	g.Expect(e.total()).To(Equal(1))
}

// An event that every Postback refuses waits until one accepts it.
func TestPublishedEventWaitsForRoom(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(http.StatusServiceUnavailable)
	full := *r.postback("crm", e)
	full.MaxPending = 0
	r.routes.Set(&full)
	p := r.replica(true).events()
	p.publish(`{"id": "evt_1", "event": "lead.created", "data": {}}`)
	g.Consistently(func() int { return int(p.published()) + e.total() }).Should(Equal(1))
	g.Expect(e.total()).To(BeZero())

	roomy := full
	roomy.MaxPending = 1000
	r.routes.Set(&roomy)
	g.Eventually(func() int { return e.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Eventually(p.published).WithTimeout(patience).Should(BeZero())
}
