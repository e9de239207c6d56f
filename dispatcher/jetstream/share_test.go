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
	"fmt"
	"math"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/natsserver"
)

func TestAdmissionToTheWaitingStream(t *testing.T) {
	tests := map[string]struct {
		used, share float64
		waits       bool
		want        admission
	}{
		"an empty stream":                                 {waits: true},
		"a Postback alone, below 80 %":                    {used: 0.79, share: 0.79, waits: true},
		"a Postback alone, above 80 %":                    {used: 0.81, share: 0.81, waits: true, want: overShare},
		"its endpoint answers now, but some retries fail": {used: 0.81, share: 0.81, want: overShare},
		"another one beside it":                           {used: 0.81, waits: true},
		"half of the stream, while it has room":           {used: 0.75, share: 0.5, waits: true},
		"half of the stream, when it becomes full":        {used: 0.88, share: 0.5, waits: true, want: overShare},
		"two Postbacks, below 44 % each":                  {used: 0.88, share: 0.44, waits: true},
		"a small one, up to 95 %":                         {used: 0.94, share: 0.1, waits: true},
		"a small one, from 95 % on":                       {used: 0.95, share: 0.1, waits: true, want: streamFull},
		"an endpoint that answers, from 95 % on":          {used: 0.96, share: 0.1},
		"nothing of it waits, and the stream is full":     {used: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := admit(test.used, test.share, test.waits); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

func TestSharesOfTheWaitingStream(t *testing.T) {
	small, large, retries := postbackKey{"acme", "small"}, postbackKey{"acme", "large"}, postbackKey{"acme", "retries"}
	tests := map[string]struct {
		counts map[postbackKey]levelCounts
		sizes  map[postbackKey]float64
		want   map[postbackKey]float64
	}{
		"none": {want: map[postbackKey]float64{}},
		"equal sizes: by the counts of all levels": {
			counts: map[postbackKey]levelCounts{small: {100}, retries: {100, 100, 50, 50}},
			want:   map[postbackKey]float64{small: 0.2, retries: 0.6},
		},
		"large bodies": {
			counts: map[postbackKey]levelCounts{small: {100}, large: {100}}, sizes: map[postbackKey]float64{small: 1000, large: 7000},
			want: map[postbackKey]float64{small: 0.1, large: 0.7},
		},
		"a Postback without events has the mean size": {
			counts: map[postbackKey]levelCounts{small: {100}, large: {100}}, sizes: map[postbackKey]float64{large: 3000},
			want: map[postbackKey]float64{small: 0.2, large: 0.6},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := shares(test.counts, test.sizes, 1000, 0.8)
			if len(got) != len(test.want) {
				t.Fatalf("%v, want %v", got, test.want)
			}
			for key, want := range test.want {
				if math.Abs(got[key]-want) > 1e-9 {
					t.Errorf("%s: %f, want %f", key.postback, got[key], want)
				}
			}
		})
	}
}

func TestHoldersOfACrowdedStream(t *testing.T) {
	tests := map[string]struct {
		used   float64
		shares map[postbackKey]float64
		want   []types.UID
	}{
		"room for all":   {used: 0.5, shares: map[postbackKey]float64{{"a", "crm"}: 0.5}},
		"one takes most": {used: 0.9, shares: map[postbackKey]float64{{"a", "crm"}: 0.6, {"a", "erp"}: 0.3}, want: []types.UID{"crm"}},
		"full, by one: the others have their room": {
			used:   0.96,
			shares: map[postbackKey]float64{{"a", "crm"}: 0.9, {"a", "erp"}: 0.06, {"a", "shop"}: 0.0001},
			want:   []types.UID{"crm"},
		},
		"full, by many, and one above its share": {
			used:   0.96,
			shares: map[postbackKey]float64{{"a", "a"}: 0.15, {"a", "b"}: 0.13, {"a", "c"}: 0.14, {"a", "d"}: 0.12, {"a", "e"}: 0.42},
			want:   []types.UID{"e"},
		},
		"full, by many, and none above its share": {
			used:   0.96,
			shares: map[postbackKey]float64{{"a", "a"}: 0.15, {"a", "b"}: 0.13, {"a", "c"}: 0.14, {"a", "d"}: 0.12, {"a", "e"}: 0.01},
			want:   []types.UID{"a", "c", "b"},
		},
		"full, and one of few holders": {used: 0.96, shares: map[postbackKey]float64{{"a", "a"}: 0.15, {"a", "b"}: 0.01}, want: []types.UID{"a"}},
		"full, by very many":           {used: 0.96, shares: map[postbackKey]float64{{"a", "a"}: 0.01, {"a", "b"}: 0.02}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			use := &waitingUse{test.used, test.shares}
			var got []types.UID
			for _, holder := range use.holders() {
				got = append(got, holder.Postback)
			}
			g.Expect(got).To(Equal(test.want))
		})
	}
}

// One Postback fills its share of a small stream. Another one, whose endpoint is down, too, still finds room, and the
// accepted deliveries of the first still get their retries.
func TestNoPostbackTakesTheWholeWaitingStream(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, natsserver.Options{}, func(o *Options) { o.MaxBytes = 2 << 20 })
	e := newEndpoint(t)
	greedy, modest := r.postback("greedy", e), r.postback("modest", e)
	x := r.replica(false)
	x.throttle(greedy, time.Hour)
	x.throttle(modest, time.Hour)
	const accepted = 33 // They take 82 % of the stream.
	body := fmt.Sprintf(`{"n": "%0*d"}`, 50<<10, 1)
	for i := range accepted {
		d := r.make(greedy, fmt.Sprintf("evt_%d", i), body)
		_, err := x.connection.intoWaiting.publish(t.Context(), x.connection.names.Waiting(d.Object, time.Now()))
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Eventually(func() float64 { return x.pending.Share(greedy) }).WithTimeout(patience).Should(BeNumerically("~", 0.82, 0.02))
	g.Expect(x.pending.Crowding().Holders).To(ConsistOf(HaveField("Postback", greedy.UID)))

	refused := x.store(greedy, "evt_refused", body)
	g.Expect(refused.Result).To(Equal(intake.Unstored))
	g.Expect(refused.Reason).To(Equal(intake.StreamFull))
	g.Expect(refused.Err).To(MatchError(intake.ErrNoRoomToWait))
	g.Expect(refused.Message).To(And(ContainSubstring("greedy"), ContainSubstring("more than its share")))
	g.Expect(x.store(modest, "evt_modest", body).Result).To(Equal(intake.Stored))
	x.putRetry(r.failed(greedy, "evt_retry", 1, time.Now()), time.Now())
	x.shutDown()

	// When the endpoint answers, the backlog drains, and events are stored again.
	y := r.replica(true)
	g.Eventually(e.total).WithTimeout(patience).Should(Equal(accepted + 2))
	g.Eventually(func() intake.Result { return y.store(greedy, "evt_again", body).Result }).WithTimeout(patience).Should(Equal(intake.Stored))
}
