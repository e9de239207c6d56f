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
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

// TestStray starts a server on files with acknowledged messages that are not removed, as after a kill between the two
// steps. The test combines files from before and after the acknowledgements.
func TestStray(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	r := newRig(t, natsserver.Options{Dir: dir, SyncAlways: true})
	e := newEndpoint(t)
	crm := r.postback("crm", e)
	x := r.replica(false)
	pending, logged, unknown := r.make(crm, "evt_pending", data(1)), r.make(crm, "evt_logged", data(2)), r.make(crm, "evt_unknown", data(3))
	for _, d := range []*intake.Delivery{pending, logged, unknown} {
		g.Expect(x.intake.Store(t.Context(), d).Result).To(Equal(intake.Stored))
	}
	taken := x.fetch(3)
	metadata, err := taken[1].Metadata()
	g.Expect(err).NotTo(HaveOccurred())
	x.log(logged, metadata.Timestamp)

	messages := filepath.Join(dir, "nats1", "store", "jetstream", "$G", "streams", x.connection.names.DeliveriesStream(), "msgs")
	kept := filepath.Join(t.TempDir(), "msgs")
	g.Expect(os.CopyFS(kept, os.DirFS(messages))).To(Succeed())
	// Acknowledge the later messages only: when a server starts, it removes messages below its acknowledgement floor.
	g.Expect(taken[1].DoubleAck(t.Context())).To(Succeed())
	g.Expect(taken[2].DoubleAck(t.Context())).To(Succeed())
	g.Expect(r.servers.Stop()).To(Succeed())
	g.Expect(os.RemoveAll(messages)).To(Succeed())
	g.Expect(os.CopyFS(messages, os.DirFS(kept))).To(Succeed())
	g.Expect(r.servers.StartAll(t.Context())).To(Succeed())
	g.Eventually(x.connection.Available).WithTimeout(patience).Should(Succeed())
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(3))

	always := func() bool { return true }
	floor, err := x.consumer.settleStrays(t.Context(), 3, always)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(floor).To(BeZero())
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(3)) // The first message is unacknowledged, so the floor is below it.
	g.Expect(taken[0].DoubleAck(t.Context())).To(Succeed())
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(2))
	floor, err = x.consumer.settleStrays(t.Context(), floor, always)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(floor).To(BeEquivalentTo(3))
	g.Expect(x.inDeliveries()).To(BeEquivalentTo(2)) // The server may be about to remove them.
	_, err = x.consumer.settleStrays(t.Context(), floor, always)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(x.inDeliveries()).To(BeZero())
	g.Expect(x.listed(crm)).To(And(HaveLen(1), HaveKey("evt_unknown")))
	x.consume()
	g.Eventually(x.inWaiting).WithTimeout(patience).Should(BeZero())
	g.Expect(e.count("evt_unknown")).To(Equal(1))
	g.Expect(e.total()).To(Equal(1))
	g.Expect(r.objects()).To(BeEmpty())
}
