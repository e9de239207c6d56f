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
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

const (
	// The defaults of Recovery.
	tripAfter   = 5
	firstOpen   = 10 * time.Second
	longestOpen = 5 * time.Minute
	share       = 0.25
	// never is for the library's own clock: ours says when a circuit is half open.
	never = 1 << 62
)

// breaker is a circuit breaker with one probe at a time. It is not safe for concurrent use.
type breaker struct {
	recovery Recovery
	circuit  circuitbreaker.CircuitBreaker[any]
	// probeAt is when an open circuit becomes half open.
	probeAt time.Time
	wait    time.Duration
	// probing says that a probe is in flight.
	probing bool
}

func newBreaker(r Recovery) *breaker {
	return &breaker{
		recovery: r,
		circuit:  circuitbreaker.NewBuilder[any]().WithFailureThreshold(r.TripAfter).WithSuccessThreshold(1).WithDelay(never).Build(),
		wait:     r.FirstOpen,
	}
}

// doubt has an endpoint of which nothing but trouble is known probed before more goes there.
func (b *breaker) doubt() { b.circuit.Open() }

func (b *breaker) closed() bool { return b.circuit.IsClosed() }

// allows reports whether work may begin, and if not, when it may; the zero time means when the probe ends.
func (b *breaker) allows(now time.Time) (ok bool, at time.Time) {
	switch {
	case b.closed():
		return true, time.Time{}
	case b.probing:
		return false, time.Time{}
	case now.Before(b.probeAt):
		return false, b.probeAt
	}
	return true, time.Time{}
}

// begin says that work begins, and reports whether it is a probe. Work that does not wait for an open circuit is one,
// too.
func (b *breaker) begin() (probe bool) {
	if b.closed() {
		return false
	}
	b.circuit.HalfOpen()
	b.probing = true
	return true
}

// end says how work ended: with trouble, without, or, if there was no attempt, not at all. While the circuit is not
// closed, only a probe counts: what began before it opened says nothing new.
func (b *breaker) end(now time.Time, probe, attempted, trouble bool) {
	switch {
	case !probe && !b.closed():
		return
	case probe:
		b.probing = false
	}
	switch {
	case !attempted:
		return
	case !trouble:
		if probe {
			b.wait = b.recovery.FirstOpen
		}
		b.circuit.RecordSuccess()
		return
	}
	b.circuit.RecordFailure()
	if b.circuit.IsOpen() {
		b.probeAt = now.Add(b.wait)
		b.wait = min(2*b.wait, b.recovery.LongestOpen)
	}
}

// probeNow lets the next probe begin at once.
func (b *breaker) probeNow() { b.probeAt, b.wait = time.Time{}, b.recovery.FirstOpen }
