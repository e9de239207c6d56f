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

package lane

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Random failures over ten minutes do not open the circuit.
func TestChanceDoesNotOpenTheCircuit(t *testing.T) {
	for _, test := range []struct {
		perSecond int
		share     float64
	}{{1800, 0.05}, {1800, 0.2}, {1800, 0.4}, {200, 0.2}, {50, 0.2}} {
		t.Run(fmt.Sprintf("%d a second, of which %g fail", test.perSecond, test.share), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			b := newBreaker(Recovery{}.withDefaults())
			now, longest, row := time.Unix(0, 0), 0, 0
			for i := range test.perSecond * 600 {
				failed := i > 0 && random.Float64() < test.share
				now = now.Add(time.Second / time.Duration(test.perSecond))
				b.end(now, b.begin(), true, failed)
				if !b.closed() {
					t.Fatalf("attempt %d opens the circuit", i)
				}
				if row++; !failed {
					row = 0
				}
				longest = max(longest, row)
			}
			if test.share >= 0.2 && longest < tripAfter {
				t.Errorf("at most %d attempts in a row failed: the test shows nothing", longest)
			}
		})
	}
}

// The circuit of a dead endpoint opens after a second, or after five failures if they take longer.
func TestDeadEndpointOpensTheCircuit(t *testing.T) {
	for _, test := range []struct {
		perSecond float64
		after     time.Duration
	}{{1800, time.Second}, {100, time.Second}, {5, time.Second}, {1, 5 * time.Second}, {1. / 60, 5 * time.Minute}} {
		t.Run(fmt.Sprintf("%.2g a second", test.perSecond), func(t *testing.T) {
			b := newBreaker(Recovery{}.withDefaults())
			died := time.Unix(0, 0)
			every := time.Duration(float64(time.Second) / test.perSecond)
			b.end(died, b.begin(), true, false)
			now := died
			for b.closed() {
				now = now.Add(every)
				b.end(now, b.begin(), true, true)
			}
			if took := now.Sub(died); took < test.after || took > test.after+every {
				t.Errorf("it took %s, want %s", took, test.after)
			}
		})
	}
}

// sometimes returns the attempts of an endpoint that fails at random, with the given probability.
func sometimes(share float64) func() *v1alpha1.Attempt {
	random := rand.New(rand.NewPCG(3, 4))
	return func() *v1alpha1.Attempt { // The endpoint calls it under its mutex.
		if random.Float64() < share {
			return of(1, v1alpha1.OutcomeFailed5xx, http.StatusServiceUnavailable)
		}
		return succeeded()
	}
}

// submitEvery submits attempts at a rate during a span, and calls check every second.
func submitEvery(l *Lanes, e *endpoint, perSecond int, span time.Duration, check func()) {
	for i := range int(span.Seconds()) * perSecond {
		l.Submit(target("crm"), e.work(fmt.Sprintf("%07d", i), time.Now()))
		time.Sleep(time.Second / time.Duration(perSecond)) //nolint:forbidigo // The bubble's clock.
		if i%perSecond == 0 {
			check()
		}
	}
}

func TestRandomFailuresKeepTheRateAndTheHealth(t *testing.T) {
	const perSecond, seconds = 1800, 20
	r := &reporter{}
	inBubble(t, Options{Report: r.report}, func(t *testing.T, l *Lanes) {
		e := &endpoint{takes: 5 * time.Millisecond}
		submitEvery(l, e, 10, time.Second, func() {})
		e.set(sometimes(0.2))
		submitEvery(l, e, perSecond, seconds*time.Second, func() {
			want(t, "throttled", l.Throttled(types.UID("crm")), false)
		})
		want(t, "attempts", len(e.got()), 10+perSecond*seconds)
		for _, h := range r.all() {
			if h.Status == "False" {
				t.Errorf("the endpoint is reported as failing: %+v", h)
			}
		}
	})
}

// A recovered endpoint gets its full rate again although a fifth of its attempts fail at random.
func TestSlowStartEndsDespiteRandomFailures(t *testing.T) {
	for _, share := range []float64{0, 0.2, 0.25} {
		t.Run(fmt.Sprintf("%g of the attempts fail", share), func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, l *Lanes) {
				e := &endpoint{takes: time.Millisecond, attempt: timedOut}
				for i := range tripAfter {
					l.Submit(target("crm"), e.work(fmt.Sprint(i), time.Now()))
				}
				time.Sleep(time.Second) //nolint:forbidigo // The bubble's clock.
				want(t, "throttled in the outage", l.Throttled(types.UID("crm")), true)
				e.set(sometimes(share))
				recovered, second := 0, 0
				submitEvery(l, e, 1000, 40*time.Second, func() {
					if second++; recovered == 0 && !l.Throttled(types.UID("crm")) {
						recovered = second
					}
				})
				t.Logf("full rate after %d s", recovered)
				// The probe comes after 10 s; then 9 doublings exceed 2,000 attempts per second.
				if recovered == 0 || recovered > 30 {
					t.Errorf("full rate after %d s, 0 means never", recovered)
				}
			})
		})
	}
}

func TestTooFast(t *testing.T) {
	for name, test := range map[string]struct {
		attempts, troubled int
		want               bool
	}{
		"few failures say nothing":     {4, 4, false},
		"all fail":                     {5, 5, true},
		"a fifth fails":                {100, 20, false},
		"a third fails":                {99, 33, false},
		"more than a third fails":      {100, 34, true},
		"a few of many":                {1000, 5, false},
		"a half of the few there were": {10, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, "too fast", tooFast(test.attempts, test.troubled), test.want)
		})
	}
}
