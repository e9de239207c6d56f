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
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// gate delays the first call that reaches it until it is opened.
type gate struct {
	once            sync.Once
	reached, opened chan struct{}
	open            func()
}

// newGate returns a closed gate, which opens at the latest when the test ends.
func newGate(t *testing.T) *gate {
	t.Helper()
	x := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	x.open = sync.OnceFunc(func() { close(x.opened) })
	t.Cleanup(x.open)
	return x
}

func (x *gate) pass() {
	x.once.Do(func() {
		close(x.reached)
		<-x.opened
	})
}

// slowAPI is an API server whose first read takes long, as when etcd starts.
type slowAPI struct {
	intake.API

	gate *gate
}

func (x slowAPI) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	x.gate.pass()
	return x.API.Get(ctx, key, object, options...)
}

// slowConn is a connection whose first request with a text takes long to leave.
type slowConn struct {
	net.Conn

	text []byte
	gate *gate
}

func (x *slowConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, x.text) {
		x.gate.pass()
	}
	return x.Conn.Write(b)
}

// slowDialer makes slowConns. It implements nats.CustomDialer.
type slowDialer struct {
	text string
	gate *gate
}

func (x *slowDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial(network, address)
	return &slowConn{conn, []byte(x.text), x.gate}, err
}

// A replica looks for the record of a delivery that NATS delivers again, while the elected replica delivers the same
// event from the waiting stream. Whichever look-up is slow, the endpoint gets the event once.
func TestDeliveredDuringTheLookUps(t *testing.T) {
	for name, test := range map[string]struct {
		retry bool
		slow  func(r *rig, gate *gate) *replica
	}{
		"a copy, while the API server does not answer": {slow: func(r *rig, gate *gate) *replica {
			y := r.replica(false)
			y.consumer.API = slowAPI{r.api, gate}
			return y
		}},
		"a copy, while the waiting stream does not answer":  {slow: slowWaitingStream},
		"a retry, while the waiting stream does not answer": {retry: true, slow: slowWaitingStream},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := newRig(t, natsserver.Options{})
			e := newEndpoint(t)
			crm := r.postback("crm", e)
			x := r.replica(false)
			x.holdsLease.Store(false)
			metadata, original := x.storeAndFetch(crm, "evt_0")
			gate := newGate(t)
			looking := test.slow(r, gate)
			looking.holdsLease.Store(false)
			if test.retry {
				x.putRetry(r.failed(crm, "evt_0", 1, time.Now()), metadata.Timestamp)
			} else {
				x.putCopy(crm, metadata.Timestamp)
			}
			g.Expect(original.Nak()).To(Succeed())
			looking.consume()
			g.Eventually(gate.reached).WithTimeout(patience).Should(BeClosed())

			r.replica(true)
			g.Eventually(func() *v1alpha1.PostbackDelivery { return x.logged(crm, "evt_0") }).WithTimeout(patience).ShouldNot(BeNil())
			g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
			gate.open()
			g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
			g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
			g.Expect(e.count("evt_0")).To(Equal(1))
		})
	}
}

// A copy is stored after the look-up for it, while the API server does not answer the next one. The endpoint gets the
// event once, whichever replica drains the copy.
func TestCopiedDuringTheLookUps(t *testing.T) {
	for name, another := range map[string]bool{"the same replica drains": false, "another replica drains": true} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			r := newRig(t, natsserver.Options{})
			e := newEndpoint(t)
			crm := r.postback("crm", e)
			x := r.replica(false)
			x.holdsLease.Store(false)
			metadata, original := x.storeAndFetch(crm, "evt_0")
			g.Expect(original.Nak()).To(Succeed())
			gate := newGate(t)
			looking := r.replica(false)
			looking.holdsLease.Store(!another)
			looking.consumer.API = slowAPI{r.api, gate}
			looking.consume()
			g.Eventually(gate.reached).WithTimeout(patience).Should(BeClosed())

			x.putCopy(crm, metadata.Timestamp)
			if another {
				r.replica(true)
				g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
			} else {
				g.Eventually(looking.givenBack).WithTimeout(patience).Should(BeNumerically(">", 0))
			}
			gate.open()
			g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
			g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
			g.Expect(e.count("evt_0")).To(Equal(1))
			g.Expect(x.logged(crm, "evt_0")).NotTo(BeNil())
		})
	}
}

// givenBack returns the number of waiting messages that lanes have given back, to be read again.
func (x *replica) givenBack() (n int) {
	d := x.consumer.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.term != nil {
		for _, c := range d.term.cursors {
			n += len(c.again)
		}
	}
	return n
}

// The elected replica attempts a copy, which fails and becomes a retry, while another replica looks for a record of
// the original. No second copy is made, which would be attempted before its time.
func TestFailedDuringTheLookUps(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(http.StatusServiceUnavailable)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.holdsLease.Store(false)
	metadata, original := x.storeAndFetch(crm, "evt_0")
	x.putCopy(crm, metadata.Timestamp)
	g.Expect(original.Nak()).To(Succeed())
	gate := newGate(t)
	x.consumer.API = slowAPI{r.api, gate}
	x.consume()
	g.Eventually(gate.reached).WithTimeout(patience).Should(BeClosed())

	r.drainWithoutObjects(crm)
	g.Eventually(x.retries(crm)).WithTimeout(patience).Should(Equal(1))
	gate.open()
	g.Eventually(x.inDeliveries).WithTimeout(patience).Should(BeZero())
	g.Expect(x.inWaiting()).To(BeEquivalentTo(1))
	g.Expect(e.count("evt_0")).To(Equal(1))
}

// A second copy is stored after the deduplication window, because a look-up took so long. The retry of the first copy
// is found although the drain had read the retries before.
func TestSecondCopyAfterTheRetryOfTheFirst(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	e := newEndpoint(t)
	e.status.Store(http.StatusServiceUnavailable)
	crm := r.postback("crm", e)
	x := r.replica(false)
	x.holdsLease.Store(false)
	stored := time.Now().Add(-time.Minute)
	x.putCopy(crm, stored)
	r.drainWithoutObjects(crm)
	g.Eventually(x.retries(crm)).WithTimeout(patience).Should(Equal(1))
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(1))

	second := x.connection.names.Waiting(r.make(crm, "evt_0", data(1)).Object, stored)
	second.Header.Del(nats.MsgIdHdr)
	second.Header.Set(message.DoubtfulHeader, message.Yes)
	_, err := x.connection.intoWaiting.publish(t.Context(), second)
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeEquivalentTo(1))
	g.Expect(e.count("evt_0")).To(Equal(1))
}

// putCopy puts a copy of evt_0 into the waiting stream.
func (x *replica) putCopy(target *route.Route, stored time.Time) {
	x.rig.t.Helper()
	m := x.connection.names.Waiting(x.rig.make(target, "evt_0", data(1)).Object, stored)
	if _, err := x.connection.intoWaiting.publish(x.rig.t.Context(), m); err != nil {
		x.rig.t.Fatal(err)
	}
}

// drainWithoutObjects starts an elected replica that makes no PostbackDelivery of a failure.
func (r *rig) drainWithoutObjects(target *route.Route) {
	r.t.Helper()
	z := r.replica(false)
	for z.consumer.failures.take(postbackKey{target.Namespace, target.UID}, time.Now()) {
		z.consumer.failures.done()
	}
	z.consume()
}

// retries returns a function that counts the retries of a Postback, 0 or 1.
func (x *replica) retries(target *route.Route) func() (int, error) {
	return func() (int, error) {
		m, err := x.connection.first(x.rig.t.Context(), x.connection.names.RetrySubjects(target.Namespace, target.UID))
		if m == nil {
			return 0, err
		}
		return 1, err
	}
}

// slowWaitingStream starts a replica whose first look-up in the waiting stream takes long.
func slowWaitingStream(r *rig, gate *gate) *replica {
	before := r.options.Embedded
	r.options.Embedded = []nats.Option{nats.SetCustomDialer(&slowDialer{"STREAM.MSG.GET.POSTBACK_WAITING", gate})}
	defer func() { r.options.Embedded = before }()
	return r.replica(false)
}
