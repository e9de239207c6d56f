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
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/natsapi"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// A published event reaches a healthy Postback once while another one holds more than its share, for longer than NATS
// remembers ids.
func TestPublishedEventBesideAPostbackAboveItsShare(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{}, func(o *Options) { o.MaxBytes, o.DuplicateWindow = 2<<20, time.Second })
	down, up := newEndpoint(t), newEndpoint(t)
	greedy := r.postback("greedy", down)
	r.postback("healthy", up)
	x := r.replica(true)
	x.throttle(greedy, time.Hour)
	x.fillShare(greedy)
	g.Eventually(x.connection.memory.short).WithTimeout(patience).Should(BeFalse())
	x.openDoor()

	x.publishEvent("evt_1")
	g.Eventually(func() int { return up.count("evt_1") }).WithTimeout(patience).Should(Equal(1))
	g.Consistently(func() int { return up.count("evt_1") }).WithTimeout(4 * time.Second).Should(Equal(1))
	g.Expect(x.inEvents()).To(BeZero())
	g.Expect(down.total()).To(BeZero())
}

// A published event waits in its stream while its only Postback holds more than its share.
func TestPublishedEventForAPostbackAboveItsShare(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{}, func(o *Options) { o.MaxBytes = 2 << 20 })
	e := newEndpoint(t)
	greedy := r.postback("greedy", e)
	x := r.replica(true)
	x.throttle(greedy, time.Hour)
	x.fillShare(greedy)
	x.openDoor()

	x.publishEvent("evt_1")
	g.Consistently(x.inEvents).WithTimeout(2 * time.Second).Should(BeEquivalentTo(1))
	stream, err := x.connection.js.Stream(t.Context(), x.connection.names.WaitingStream())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stream.Purge(t.Context())).To(Succeed())
	g.Eventually(x.inEvents).WithTimeout(patience).Should(BeZero())
}

// fillShare stores retries of a Postback, due in an hour, that take more than its share of 2 MiB.
func (x *replica) fillShare(target *route.Route) {
	x.rig.t.Helper()
	g := NewWithT(x.rig.t)
	body := fmt.Sprintf(`{"n": "%0*d"}`, 50<<10, 1)
	for i := range 34 {
		failed := x.rig.failed(target, fmt.Sprintf("evt_waits_%d", i), 1, time.Now().Add(time.Hour))
		m, err := x.connection.names.Retry(failed.Object, time.Now())
		g.Expect(err).NotTo(HaveOccurred())
		m.Data = []byte(body)
		_, err = x.connection.intoWaiting.publish(x.rig.t.Context(), m)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Eventually(func() float64 { return x.pending.Share(target) }).WithTimeout(patience).Should(BeNumerically(">", 0.81))
}

// openDoor starts the door for published events, which stores by the replica's intake.
func (x *replica) openDoor() {
	x.rig.t.Helper()
	acceptor, err := accept.New(accept.Options{Intake: x.intake, Routes: x.rig.routes, Backlog: x.pending, Log: logr.Discard()})
	NewWithT(x.rig.t).Expect(err).NotTo(HaveOccurred())
	door := &natsapi.Events{Streams: x.connection, Acceptor: acceptor, MaxBodyBytes: 256 << 10, Log: logr.Discard()}
	ctx, cancel := context.WithCancel(x.rig.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = door.Start(ctx) })
	x.rig.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func (x *replica) publishEvent(id string) {
	x.rig.t.Helper()
	body := fmt.Sprintf(`{"id": %q, "event": "lead.created", "data": {}}`, id)
	_, err := x.connection.js.Publish(x.rig.t.Context(), x.connection.names.EventSubject(x.rig.namespace), []byte(body))
	NewWithT(x.rig.t).Expect(err).NotTo(HaveOccurred())
}

// inEvents returns the number of messages in the stream of published events.
func (x *replica) inEvents() (uint64, error) {
	stream, err := x.connection.js.Stream(x.rig.t.Context(), x.connection.names.EventsStream())
	if err != nil {
		return 0, fmt.Errorf("find the stream of events: %w", err)
	}
	return stream.CachedInfo().State.Msgs, nil
}
