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

package chart

import (
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func attempts(outcome v1alpha1.Outcome, took time.Duration, ago ...time.Duration) *feed.Row {
	r := &feed.Row{}
	for _, d := range ago {
		r.Recent = append(r.Recent, feed.Sample{Time: now.Add(-d), Duration: took, Outcome: outcome})
	}
	return r
}

func TestBuckets(t *testing.T) {
	rows := []*feed.Row{
		attempts(v1alpha1.OutcomeSucceeded, 10*time.Millisecond, 4*time.Hour, 3*time.Hour+1, time.Minute, -time.Minute),
		attempts(v1alpha1.OutcomeFailed5xx, 30*time.Millisecond, 5*time.Hour, 2*time.Hour, time.Second),
	}
	// What was before the span is left out; a clock that is ahead counts as now.
	want := []struct{ succeeded, failed int }{{2, 0}, {0, 0}, {0, 1}, {2, 1}}
	for i, b := range buckets(rows, now, 4*time.Hour, 4) {
		if b.succeeded != want[i].succeeded || b.failed != want[i].failed || !b.from.Equal(now.Add(time.Duration(i-4)*time.Hour)) {
			t.Errorf("part %d from %s has %d succeeded and %d failed, want %+v", i, b.from, b.succeeded, b.failed, want[i])
		}
	}
	s := Summarize(rows, now, 4*time.Hour)
	if s.Succeeded != 4 || s.Failed != 2 || s.Rate() != 66 || s.Median != 10*time.Millisecond || s.NinetyFifth != 30*time.Millisecond {
		t.Errorf("the summary is %+v, of %d percent", s, s.Rate())
	}
}

func TestPercentiles(t *testing.T) {
	for name, test := range map[string]struct{ n, median, ninetyFifth int }{
		"none": {0, 0, 0}, "one": {1, 1, 1}, "two": {2, 1, 2}, "twenty": {20, 10, 19}, "a hundred": {100, 50, 95},
	} {
		var durations []time.Duration
		for i := range test.n {
			durations = append(durations, time.Duration(test.n-i))
		}
		if median, ninetyFifth := percentiles(durations); int(median) != test.median || int(ninetyFifth) != test.ninetyFifth {
			t.Errorf("%s: %d and %d, want %d and %d", name, median, ninetyFifth, test.median, test.ninetyFifth)
		}
	}
}

func TestHeights(t *testing.T) {
	for _, test := range []struct{ succeeded, failed, top, bad, good int }{
		{10, 0, 10, 0, 100},
		{0, 10, 10, 100, 0},
		{5, 5, 20, 25, 25},
		// One of many is seen, too.
		{999, 1, 1000, shortest, 97},
		{1, 999, 1000, 97, shortest},
	} {
		bad, good := heights(&bucket{succeeded: test.succeeded, failed: test.failed}, test.top, 100)
		if bad != test.bad || good != test.good {
			t.Errorf("%+v: %d and %d", test, bad, good)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 182 * time.Millisecond: "182 ms", 1250 * time.Millisecond: "1.25 s", 90 * time.Second: "1m30s", 1500 * time.Microsecond: "1.5 ms",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
