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

package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

func TestAccount(t *testing.T) {
	accepted := func(ids ...string) *load.GenerateReport {
		r := &load.GenerateReport{}
		for _, id := range ids {
			r.Posted = append(r.Posted, load.Posted{ID: id, Accepted: 1})
		}
		return r
	}
	refused := &load.GenerateReport{Posted: []load.Posted{{ID: "refused"}}, Refusals: map[int]int{429: 1}}
	for name, test := range map[string]struct {
		arrivals []load.Arrival
		waiting  int
		want     account
		wrong    bool
	}{
		"all arrive": {
			arrivals: []load.Arrival{{ID: "evt_1", Times: 1, Good: 1}, {ID: "evt_2", Times: 3, Good: 1}},
			want:     account{Posted: 3, Accepted: 2, Refused: 1, Delivered: 2},
		},
		"one waits": {
			arrivals: []load.Arrival{{ID: "evt_1", Times: 1, Good: 1}, {ID: "evt_2", Times: 2}}, waiting: 1,
			want: account{Posted: 3, Accepted: 2, Refused: 1, Delivered: 1, Waiting: 1},
		},
		"one is lost": {
			arrivals: []load.Arrival{{ID: "evt_1", Times: 1, Good: 1}},
			want:     account{Posted: 3, Accepted: 2, Refused: 1, Delivered: 1, Lost: 1}, wrong: true,
		},
		"one comes twice": {
			arrivals: []load.Arrival{{ID: "evt_1", Times: 2, Good: 2}, {ID: "evt_2", Times: 1, Good: 1}},
			want:     account{Posted: 3, Accepted: 2, Refused: 1, Delivered: 2, Twice: 1}, wrong: true,
		},
		"an event of another run counts for nothing": {
			arrivals: []load.Arrival{{ID: "evt_1", Times: 1, Good: 1}, {ID: "evt_2", Times: 1, Good: 1}, {ID: "evt_foreign", Times: 2, Good: 2}},
			want:     account{Posted: 3, Accepted: 2, Refused: 1, Delivered: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &backlog{Name: "backlog"}
			reports := []*load.GenerateReport{accepted("evt_1", "evt_2"), refused}
			for _, r := range reports {
				b.Account.addReport(r)
			}
			b.Account.close(reports, test.arrivals, test.waiting)
			got := b.Account
			if got.Refusals[429] != 1 {
				t.Errorf("refusals %v", got.Refusals)
			}
			got.Refusals = nil
			if got.Posted != test.want.Posted || got.Accepted != test.want.Accepted || got.Refused != test.want.Refused || got.Delivered != test.want.Delivered ||
				got.Waiting != test.want.Waiting || got.Lost != test.want.Lost || got.Twice != test.want.Twice {
				t.Errorf("account %+v, want %+v", got, test.want)
			}
			if err := b.err(); (err != nil) != test.wrong {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDrainRate(t *testing.T) {
	for name, test := range map[string]struct {
		arrived []int
		want    float64
	}{
		"nothing was seen":     {nil, 0},
		"nothing arrives":      {[]int{5, 5, 5}, 0},
		"all at once":          {[]int{0, 0, 100}, 100},
		"within the rise":      {[]int{0, 10, 30, 60, 100, 100}, 25},
		"the rise is left out": {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 510, 1010, 1010}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&observation{arrived: test.arrived}).drainRate(); got != test.want {
				t.Errorf("%.1f a second, want %.1f", got, test.want)
			}
		})
	}
}

func TestLatenciesDuringADrain(t *testing.T) {
	const ms = int64(1e6)
	report := &load.GenerateReport{}
	var arrivals []load.Arrival
	for i := range int64(10) {
		id := fmt.Sprintf("evt_%d", i)
		report.Posted = append(report.Posted, load.Posted{ID: id, Due: i * 100 * ms, Accepted: 1})
		took := 1 + i
		arrivals = append(arrivals, load.Arrival{Endpoint: neighbourName, ID: id, Good: 1, GoodAt: i*100*ms + took*ms})
	}
	for i := range int64(20) {
		arrivals = append(arrivals, load.Arrival{Endpoint: troubledName, ID: fmt.Sprint(i), Good: 1, GoodAt: (300 + 10*i) * ms})
	}
	if all := latencies([]*load.GenerateReport{report}, arrivals, everyArrival); all.Max != 10 {
		t.Errorf("all: %+v", all)
	}
	// The drain lasts from 300 ms to 490 ms.
	if drain := latencies([]*load.GenerateReport{report}, arrivals, duringDrain(arrivals)); drain.Max != 5 || drain.P50 != 4 {
		t.Errorf("in the drain: %+v", drain)
	}
}

func TestBacklogFlags(t *testing.T) {
	var o backlogOptions
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.define(flags)
	if err := flags.Parse([]string{"-backlogs=outage,random", "-random-endpoints=1:7"}); err != nil {
		t.Fatal(err)
	}
	if len(o.runs) != 2 || o.endpoints.String() != "1:7" || o.postbacks.String() != "1:100" {
		t.Errorf("options %+v", o)
	}
	if full := o.inFull(); len(full.runs) != 2 || full.waiting != 1_000_000 {
		t.Errorf("in full %+v", full)
	}
	if err := flags.Parse([]string{"-random-endpoints=1:x"}); err == nil || !strings.Contains(err.Error(), `"x" is no number`) {
		t.Errorf("error %v", err)
	}
}
