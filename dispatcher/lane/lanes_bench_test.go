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
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// BenchmarkScan measures one scan of lanes that all wait for their next probe.
func BenchmarkScan(b *testing.B) {
	for _, endpoints := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			l := New(b.Context(), Options{Clock: clock.RealClock{}})
			now := time.Now()
			for i := range endpoints {
				r := target(fmt.Sprint(i))
				l.mu.Lock()
				lane := l.of(r)
				for range tripAfter {
					lane.end(now, lane.peer, false, timedOut())
				}
				l.mu.Unlock()
				l.Submit(r, &Work{Due: now})
			}
			for b.Loop() {
				if _, done := l.scan(); done {
					b.Fatal("there is nothing left")
				}
			}
		})
	}
}

// BenchmarkSlots measures one attempt while many endpoints wait for a slot.
func BenchmarkSlots(b *testing.B) {
	for _, endpoints := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("waiting=%d", endpoints), func(b *testing.B) {
			stop, cancel := context.WithCancel(b.Context())
			defer cancel()
			l := New(stop, Options{Clock: clock.RealClock{}})
			now := time.Now()
			ends, ended := make(chan struct{}), make(chan struct{})
			var submit func(name string)
			submit = func(name string) {
				l.Submit(target(name), &Work{Due: now, Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) {
					select {
					case <-ends:
					case <-ctx.Done():
						return
					}
					submit(name)
					ended <- struct{}{}
					sent(succeeded())
				}})
			}
			for i := range DefaultMaxInFlight + endpoints {
				submit(fmt.Sprint(i))
			}
			for b.Loop() {
				ends <- struct{}{}
				<-ended
			}
		})
	}
}
