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
)

func TestAllowance(t *testing.T) {
	g := NewWithT(t)
	a, now := newAllowance(maxOverflowing, overflowRate, overflowBurst), time.Unix(1_000_000, 0)
	take := func(n int, deep bool) (taken int) {
		for range n {
			if a.take(now, deep) {
				taken++
			}
		}
		return taken
	}
	g.Expect(take(2*overflowBurst, false)).To(Equal(overflowBurst))
	g.Expect(take(2*maxOverflowing, true)).To(Equal(maxOverflowing - overflowBurst)) // The bound on concurrent creates remains.
	now = now.Add(time.Second)
	g.Expect(take(1, false)).To(BeZero())
	for range maxOverflowing {
		a.done()
	}
	made := 0
	for range 10 {
		now = now.Add(100 * time.Millisecond)
		n := take(overflowRate, false)
		made += n
		for range n {
			a.done()
		}
	}
	g.Expect(made).To(BeNumerically("~", overflowRate, overflowBurst))
}

func TestAside(t *testing.T) {
	for name, test := range map[string]struct {
		tries   uint64
		waiting int
		want    time.Duration
	}{
		"first":                   {tries: 1, waiting: maxAside, want: firstAside},
		"again":                   {tries: 3, waiting: maxAside, want: 4 * firstAside},
		"again, and few wait":     {tries: 3, waiting: 10, want: firstAside},
		"for long":                {tries: 20, waiting: 10 * asideRate, want: 10 * time.Second},
		"for long, and many wait": {tries: 1 << 40, waiting: 1 << 30, want: longestAside},
	} {
		if got := aside(test.tries, test.waiting); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
