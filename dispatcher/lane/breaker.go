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

import "time"

const (
	// These are defaults of Recovery.
	tripAfter   = 5
	tripQuiet   = time.Second
	firstOpen   = 10 * time.Second
	longestOpen = 5 * time.Minute
	share       = 0.25
)

// circuit is the state of a breaker.
type circuit int

const (
	// circuitClosed lets all attempts begin.
	circuitClosed circuit = iota
	// circuitOpen lets no attempt begin before the time of the next probe.
	circuitOpen
	// circuitHalfOpen waits for the outcome of a probe.
	circuitHalfOpen
)

// breaker is a circuit breaker with one probe at a time. It is not safe for concurrent use.
type breaker struct {
	recovery Recovery
	circuit  circuit
	// failures counts the failures in a row while the circuit is closed.
	failures int
	// answered is the time of the newest attempt without trouble.
	answered time.Time
	// probeAt is the time from which an open circuit allows a probe.
	probeAt time.Time
	wait    time.Duration
	// probing is true while a probe is in flight.
	probing bool
}

func newBreaker(r Recovery) *breaker { return &breaker{recovery: r, wait: r.FirstOpen} }

// open opens the circuit of an endpoint whose newest known attempt failed, so a probe comes first.
func (b *breaker) open() { b.circuit = circuitOpen }

func (b *breaker) closed() bool { return b.circuit == circuitClosed }

// allows reports whether an attempt may begin. If not, at is the time from which it may; zero means after the probe
// in flight.
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

// begin records the begin of an attempt and reports whether it is a probe. A manual attempt passes an open circuit
// and is a probe, too.
func (b *breaker) begin() (probe bool) {
	if b.closed() {
		return false
	}
	b.circuit = circuitHalfOpen
	b.probing = true
	return true
}

// end records the end of an attempt: with trouble, without, or not sent at all. While the circuit is not closed, only
// a probe counts, because other attempts began before it opened.
func (b *breaker) end(now time.Time, probe, attempted, trouble bool) {
	if !probe && !b.closed() {
		return
	}
	if probe {
		b.probing = false
	}
	switch {
	case !attempted:
	case trouble:
		b.fail(now)
	default:
		if probe {
			b.wait = b.recovery.FirstOpen
		}
		b.succeed(now)
	}
}

// succeed closes the circuit, unless it is open: then a later probe failed before the earlier one succeeded.
func (b *breaker) succeed(now time.Time) {
	b.answered = now
	if b.circuit != circuitOpen {
		b.circuit, b.failures = circuitClosed, 0
	}
}

// fail opens the circuit if the failures in a row are beyond chance, or if the attempt was a probe. The wait for the
// next probe doubles each time.
func (b *breaker) fail(now time.Time) {
	if b.closed() {
		if b.failures++; !b.recovery.beyondChance(b.failures, now.Sub(b.answered)) {
			return
		}
	}
	b.circuit, b.failures = circuitOpen, 0
	b.probeAt = now.Add(b.wait)
	b.wait = min(2*b.wait, b.recovery.LongestOpen)
}

// probeNow lets the next probe begin at once.
func (b *breaker) probeNow() { b.probeAt, b.wait = time.Time{}, b.recovery.FirstOpen }
