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

	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
)

// A reconnect to NATS begins another term while an attempt of the former one is in flight.
func TestActsSeeAttemptsOfAFormerTerm(t *testing.T) {
	g := NewWithT(t)
	d := newDrain(&Consumer{ConsumerOptions: ConsumerOptions{Clock: clocktesting.NewFakePassiveClock(time.Now())}})
	key, former, now := postbackKey{"partner-acme", "uid"}, &term{}, &term{}
	for sequence, begun := range map[uint64]bool{1: true, 2: false} {
		w := &waitingMessage{drain: d, term: former, key: cursorKey{key, 0}, sequence: sequence, begun: begun}
		g.Expect(d.unsettled.add(t.Context(), &unsettled{msg: w, waiting: w})).To(BeTrue())
	}
	g.Expect(d.block(now, 1)).To(MatchError(deliverylog.ErrInFlight))
	g.Expect(d.block(now, 2)).To(Succeed())
	g.Expect(d.blockAll(now, key, 2)).To(Equal(1))
}
