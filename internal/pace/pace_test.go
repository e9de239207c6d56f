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

package pace

import (
	"fmt"
	"math"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestNoLimit(t *testing.T) {
	l := New(0, 0, clocktesting.NewFakePassiveClock(start))
	for range 10_000 {
		if wait, ok := l.Acquire("orders", 100, 0); !ok || wait != 0 {
			t.Fatalf("got %v, %v", wait, ok)
		}
	}
}

func TestEachCallerHasABurstAndARate(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(start)
	l := New(10, 100, clock)
	if _, ok := l.Acquire("orders", 100, 0); !ok {
		t.Fatal("the burst is not taken")
	}
	if wait, ok := l.Acquire("orders", 5, 0); ok || wait != 500*time.Millisecond {
		t.Errorf("got %v, %v", wait, ok)
	}
	if _, ok := l.Acquire("invoices", 100, 0); !ok {
		t.Error("one caller is charged for another")
	}
	clock.SetTime(start.Add(500 * time.Millisecond))
	if _, ok := l.Acquire("orders", 5, 0); !ok {
		t.Error("not taken after the time that was given")
	}
	if _, ok := l.Acquire("orders", 1, 0); ok {
		t.Error("more than the rate is taken")
	}
}

// A refused caller has to wait until the rate permits the whole request, even if a part was acquired.
func TestWaitCoversWhatWasTaken(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(start)
	l := New(1, 100, clock)
	l.Acquire("orders", 90, 0)
	if _, ok := l.Acquire("orders", 1, 0); !ok {
		t.Fatal("the first of the request is refused")
	}
	wait, ok := l.Acquire("orders", 49, 1)
	if ok || wait != 41*time.Second {
		t.Fatalf("got %v, %v", wait, ok)
	}
	clock.SetTime(start.Add(wait))
	if _, ok := l.Acquire("orders", 1, 0); !ok {
		t.Error("the first is refused after the wait")
	}
	if _, ok := l.Acquire("orders", 49, 1); !ok {
		t.Error("the rest is refused after the wait")
	}
}

func TestClockJumps(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(start)
	l := New(1, 100, clock)
	l.Acquire("orders", 100, 0)
	clock.SetTime(start.Add(-time.Hour))
	if wait, ok := l.Acquire("orders", 1, 0); ok || wait > 101*time.Second {
		t.Errorf("back: got %v, %v", wait, ok)
	}
	clock.SetTime(start.Add(24 * time.Hour))
	if _, ok := l.Acquire("orders", 100, 0); !ok {
		t.Error("forward: refused")
	}
	if wait, _ := l.Acquire("orders", 100, 0); wait > 100*time.Second || wait < 99*time.Second || wait == math.MaxInt64 {
		t.Errorf("got %v", wait)
	}
}

func TestCallersAreBounded(t *testing.T) {
	l := New(1, 100, clocktesting.NewFakePassiveClock(start))
	for i := range 3 * maxCallers {
		l.Acquire(fmt.Sprint(i), 1, 0)
	}
	if n := l.callers.Len(); n != maxCallers {
		t.Errorf("%d callers are remembered", n)
	}
}
