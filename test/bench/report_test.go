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
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

func TestJudge(t *testing.T) {
	const ms = int64(time.Millisecond)
	posted := load.GenerateReport{Posted: []load.Posted{
		{ID: "evt_prompt", Due: 1000 * ms, Accepted: 1010 * ms, Deliveries: 1},
		{ID: "evt_late", Due: 1000 * ms, Accepted: 1010 * ms, Deliveries: 1},
		{ID: "evt_lost", Due: 1500 * ms, Accepted: 1510 * ms, Deliveries: 1},
	}}
	arrivals := []load.Arrival{
		{Endpoint: "shop", ID: "evt_prompt", At: 1020 * ms, Times: 1},
		{Endpoint: "shop", ID: "evt_late", At: 2000 * ms, Times: 3},
		{Endpoint: "shop", ID: "of something else", At: 9000 * ms, Times: 1},
	}
	f := (&traffic{name: "x", events: 3, types: []string{"x"}}).judge(posted, arrivals)
	if f.Lost != 1 || f.Duplicates != 2 || f.Elapsed != time.Second || f.PerSecond != 2 || f.Prompt != 0.5 {
		t.Errorf("lost %d, twice %d, after %s, %.1f/s, %.1f promptly", f.Lost, f.Duplicates, f.Elapsed, f.PerSecond, f.Prompt)
	}
	if want := (percentiles{P50: 20, P99: 1000, P999: 1000, Max: 1000}); f.Latency != want {
		t.Errorf("percentiles %+v, want %+v", f.Latency, want)
	}
}

// The page and the plots can be made from any measurements, even partial ones.
func TestReport(t *testing.T) {
	f := figure{
		Name: runSaturation, Deliveries: 100, Settled: time.Second, PerSecond: 321, SettledPerSecond: 300, Latency: percentiles{1, 2, 3, 4},
		CPU: map[string]float64{"dispatcher 0": 1.5, "etcd": 0.5}, PeakRSS: map[string]float64{"dispatcher 0": 77, "etcd": 88},
	}
	f.note("start of a dispatcher, s", 1.25)
	outage := &backlog{Name: backlogOutage, Title: "one endpoint is down", Account: account{Posted: 9, Accepted: 8, Refused: 1, Delivered: 8}}
	outage.compare("p99", "ms", 6, 3, besideAlone, twiceItsOwn)
	r := &report{Machine: "a machine", Commands: []string{"a command"}, Modes: []*mode{{
		Intake: intakeKubernetes, Ceilings: ceilings{HTTP: 40000, API: 400, APIPruned: 600}, Runs: []figure{f},
		Series:   []*series{{Name: "fanout", What: "Postbacks", Points: []point{{1, f}, {10, f}}}},
		Backlogs: []*backlog{outage},
	}}}
	folder := t.TempDir()
	if err := r.write(folder); err != nil {
		t.Fatal(err)
	}
	text := read(t, folder, "performance.md")
	for _, want := range []string{
		"a machine", "`a command`", "| saturation, one endpoint | 321 | 75 %, 50 % |", "2047/s p99 136 ms 0.79 CPU ms", "| 1.50, 77 | 0.50, 88 |", "start of a dispatcher, s: 1.2", "images/bench-kubernetes-fanout.svg",
		"**one endpoint is down**", "| p99 | 6 ms | 3, alone | 2.00 | at most twice |", "accepted 8, refused 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	var again report
	if err := json.Unmarshal([]byte(read(t, folder, "performance.json")), &again); err != nil || len(again.Modes) != 1 {
		t.Errorf("the figures cannot be read: %v", err)
	}
	plot := xml.NewDecoder(strings.NewReader(read(t, folder, "images", "bench-kubernetes-fanout.svg")))
	for {
		if _, err := plot.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestChosenSeries(t *testing.T) {
	chosen, err := chosenSeries("replicas=4:1,fanout")
	if err != nil || len(chosen) != 2 || chosen[0].Name != "fanout" || chosen[1].Values[0] != 1 {
		t.Errorf("chosen %+v, %v", chosen, err)
	}
	for name, wrong := range map[string]string{"no such series": "nothing", "a value that is no number": "fanout=x"} {
		t.Run(name, func(t *testing.T) {
			if _, err := chosenSeries(wrong); err == nil {
				t.Errorf("%q is taken", wrong)
			}
		})
	}
}
