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
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	const tripAfter = 3
	recovery := Recovery{TripAfter: tripAfter, TripQuiet: time.Second, FirstOpen: 10 * time.Second, LongestOpen: 25 * time.Second}
	begin := time.Unix(0, 0)
	trip := func(b *breaker) {
		for range tripAfter {
			b.end(begin, b.begin(), true, true)
		}
	}
	for _, test := range []struct {
		name string
		// steps precede the check.
		steps  func(*breaker)
		closed bool
		// allowed is whether an attempt may begin then; allowedAfter, if not 0, is how long later it may.
		allowed      bool
		allowedAfter time.Duration
	}{
		{name: "is closed at first", steps: func(*breaker) {}, closed: true, allowed: true},
		{name: "stays closed after fewer failures in a row", steps: func(b *breaker) {
			for range tripAfter - 1 {
				b.end(begin, b.begin(), true, true)
			}
			b.end(begin, b.begin(), true, false)
			b.end(begin, b.begin(), true, true)
		}, closed: true, allowed: true},
		{name: "opens after enough failures in a row", steps: trip, allowedAfter: 10 * time.Second},
		{name: "stays closed after any number of failures within a second of a success", steps: func(b *breaker) {
			b.end(begin.Add(time.Millisecond-time.Second), b.begin(), true, false)
			for range 100 * tripAfter {
				b.end(begin, b.begin(), true, true)
			}
		}, closed: true, allowed: true},
		{name: "opens a second after the last success", steps: func(b *breaker) {
			b.end(begin.Add(-time.Second), b.begin(), true, false)
			trip(b)
		}, allowedAfter: 10 * time.Second},
		{name: "stays closed a second after the last success while failures are few", steps: func(b *breaker) {
			b.end(begin.Add(-time.Second), b.begin(), true, false)
			b.end(begin, b.begin(), true, true)
		}, closed: true, allowed: true},
		{name: "does not count work without an attempt", steps: func(b *breaker) {
			for range 2 * tripAfter {
				b.end(begin, b.begin(), false, true)
			}
		}, closed: true, allowed: true},
		{name: "ignores the late success of work that began before it opened", steps: func(b *breaker) {
			trip(b)
			b.end(begin, false, true, false)
		}, allowedAfter: 10 * time.Second},
		{name: "begins with a probe if it is opened at the start", steps: (*breaker).open, allowed: true},
		{name: "allows one probe at a time", steps: func(b *breaker) {
			b.open()
			b.begin()
		}},
		{name: "allows another probe after one without an attempt", steps: func(b *breaker) {
			b.open()
			b.end(begin, b.begin(), false, false)
		}, allowed: true},
		{name: "closes after a probe that succeeds", steps: func(b *breaker) {
			trip(b)
			b.end(begin, b.begin(), true, false)
		}, closed: true, allowed: true},
		{name: "counts failures anew after it closed", steps: func(b *breaker) {
			trip(b)
			b.end(begin, b.begin(), true, false)
			b.end(begin, b.begin(), true, true)
		}, closed: true, allowed: true},
		{name: "waits twice as long after a probe that fails", steps: func(b *breaker) {
			trip(b)
			b.end(begin, b.begin(), true, true)
		}, allowedAfter: 20 * time.Second},
		{name: "waits no longer than LongestOpen", steps: func(b *breaker) {
			trip(b)
			for range 5 {
				b.end(begin, b.begin(), true, true)
			}
		}, allowedAfter: 25 * time.Second},
		{name: "stays open if a second probe succeeds after the first has failed", steps: func(b *breaker) {
			trip(b)
			first, second := b.begin(), b.begin()
			b.end(begin, first, true, true)
			b.end(begin, second, true, false)
		}, allowedAfter: 20 * time.Second},
		{name: "allows a probe at once after probeNow", steps: func(b *breaker) {
			trip(b)
			b.probeNow()
		}, allowed: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBreaker(recovery)
			test.steps(b)
			if b.closed() != test.closed {
				t.Errorf("closed: %t, want %t", b.closed(), test.closed)
			}
			allowed, at := b.allows(begin)
			if allowed != test.allowed {
				t.Errorf("work may begin: %t, want %t", allowed, test.allowed)
			}
			switch after := test.allowedAfter; {
			case after == 0 && !at.IsZero():
				t.Errorf("work may begin at %s, want no time", at)
			case after != 0:
				if !at.Equal(begin.Add(after)) {
					t.Errorf("work may begin at %s, want %s", at, begin.Add(after))
				}
				if allowed, _ := b.allows(begin.Add(after)); !allowed {
					t.Errorf("no work may begin after %s", after)
				}
			}
		})
	}
}
