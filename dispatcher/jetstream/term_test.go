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
	"testing"
	"time"

	. "github.com/onsi/gomega"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/test/natsserver"
)

// A replica may begin a term while an attempt of its former term is in flight. The retry of that attempt comes
// after the new term has read the retries.
func TestRetryOfAFormerTerm(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{})
	crm := r.postback("crm", newEndpoint(t))
	x := r.replica(false)
	d, stored, due := x.consumer.drain, time.Now().Add(-time.Hour), time.Now().Add(-2*recordsReach)
	former := &term{inLanes: 1}
	d.last = former
	now, err := d.currentTerm(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	x.putRetry(r.failed(crm, "evt_other", 1, time.Now()), stored)
	u := &unsettled{d: r.failed(crm, "evt_0", 1, due).Object, stored: stored}
	g.Expect(d.hasRetry(t.Context(), now, u, false)).To(BeFalse())
	x.putRetry(r.failed(crm, "evt_0", 2, time.Now()), stored)
	g.Expect(d.hasRetry(t.Context(), now, u, false)).To(BeTrue())

	g.Expect(d.recordsOf(now, postbackKey{r.namespace, crm.UID}).from).To(BeTemporally("<", due), "no retry of this delivery is older")
	former.inLanes = 0
	d.forget(now, nil)
	g.Expect(now.former).To(BeNil())
}

// After a new connection to NATS, a message cannot be removed before the streams are compared. The drain must not
// forget it.
func TestRemovalWithAnUnknownEpochIsTriedAgain(t *testing.T) {
	g := NewWithT(t)
	key := cursorKey{postbackKey{"partner", "crm"}, 1}
	clock := clocktesting.NewFakeClock(time.Now())
	d := &drain{consumer: &Consumer{ConsumerOptions: ConsumerOptions{Clock: clock}}, wake: make(chan struct{}, 1), woken: map[postbackKey]bool{}}
	now := &term{sameEpoch: func() bool { return false }, cursors: map[cursorKey]*cursor{key: {}}}
	w := &waitingMessage{drain: d, term: now, key: key, sequence: 7}
	w.count(1)
	g.Expect(w.Ack()).To(MatchError(errOtherEpoch))
	g.Expect(now.cursors[key].again).To(HaveKeyWithValue(uint64(7), reread{at: clock.Now().Add(backStep)}))
}

// Messages stay in a lane whose endpoint becomes throttled. They take no slots of other endpoints.
func TestThrottledMessagesTakeNoPlaces(t *testing.T) {
	g := NewWithT(t)
	crm, shop := cursorKey{postbackKey{"partner", "crm"}, 0}, cursorKey{postbackKey{"partner", "shop"}, 0}
	now := &term{cursors: map[cursorKey]*cursor{crm: {}, shop: {}}}
	ofCRM, ofShop := &waitingMessage{term: now, key: crm, size: 100}, &waitingMessage{term: now, key: shop, size: 10}
	ofCRM.count(1)
	ofCRM.count(1)
	ofShop.count(1)
	g.Expect([]int{now.inLanes, now.flowing, now.throttledBytes}).To(Equal([]int{3, 3, 0}))
	now.classify(crm.postbackKey, true)
	now.classify(crm.postbackKey, true)
	g.Expect([]int{now.inLanes, now.flowing, now.throttledBytes}).To(Equal([]int{3, 1, 200}))
	ofCRM.count(-1)
	now.classify(crm.postbackKey, false)
	g.Expect([]int{now.inLanes, now.flowing, now.throttledBytes}).To(Equal([]int{2, 2, 0}))
}
