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

package simulation

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

var (
	update = flag.Bool("update", false, "Write the figures and plots of docs/scale.md.")
	full   = flag.Bool("full", false, "Compare the figures and plots of docs/scale.md with what comes out now.")
)

const page = "../../docs/scale.md"

// outage returns the scenario of docs/scale.md: half of the failing endpoints hang, the others refuse connections.
func outage(name string, change func(*scenario)) scenario {
	s := scenario{
		name: name, failing: 2000, healthy: 200, hanging: 0.5,
		every: 2 * time.Minute, healthyEvery: 30 * time.Second, outage: 2 * time.Hour,
	}
	change(&s)
	return s
}

// restarted returns an outage with hanging endpoints, in the middle of which all replicas are replaced.
func restarted(name string, change func(*scenario)) scenario {
	return outage(name, func(s *scenario) {
		s.hanging, s.restart = 1, s.outage/2
		change(s)
	})
}

// forget removes the rules that keep troubled endpoints from using the slots of others.
func forget(s *scenario) {
	s.forgetful = true
	s.recovery.Share = 1
}

func outages() []scenario {
	return []scenario{
		outage("**as shipped**", func(*scenario) {}),
		outage("no circuit, and so no slow start", func(s *scenario) { s.blind = true }),
		outage("no slow start", func(s *scenario) { s.recovery = lane.Recovery{RampStart: 1e6} }),
		outage("slow start from 50 a second", func(s *scenario) { s.recovery = lane.Recovery{RampStart: 50} }),
		outage("a probe at least each minute", func(s *scenario) { s.recovery = lane.Recovery{LongestOpen: time.Minute} }),
		outage("a probe at least each 15 minutes", func(s *scenario) { s.recovery = lane.Recovery{LongestOpen: 15 * time.Minute} }),
		outage("retries up to 20% earlier or later", func(s *scenario) { s.jitter = 0.2 }),
	}
}

func restarts() []scenario {
	return []scenario{
		restarted("**as shipped**", func(*scenario) {}),
		restarted("no share, and circuits begin closed", forget),
		restarted("a share of a half", func(s *scenario) { s.recovery.Share = 0.5 }),
		restarted("a share of an eighth", func(s *scenario) { s.recovery.Share = 0.125 }),
		restarted("`--max-in-flight=128`", func(s *scenario) { s.maxInFlight = 128 }),
	}
}

// TestPublished writes the figures and plots of docs/scale.md, or compares them with the files.
func TestPublished(t *testing.T) {
	if !*update && !*full {
		t.Skip("it takes minutes: make simulation, make verify-simulation")
	}
	first, second := runAll(t, outages()), runAll(t, restarts())
	publish(t, "outage", table(first), "restart", table(second))
	for name, p := range map[string]*plot{
		"outage-attempts.svg":   attemptsPlot(first),
		"outage-unfinished.svg": unfinishedPlot(first),
		"outage-restart.svg":    restartPlot(second),
	} {
		check(t, filepath.Join("../../docs/images", name), p.svg())
	}
}

// runAll runs scenarios, two at a time.
func runAll(t *testing.T, scenarios []scenario) []*measured {
	t.Helper()
	results := make([]*measured, len(scenarios))
	slots := make(chan struct{}, 2)
	var all sync.WaitGroup
	for i, s := range scenarios {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = run(t, s)
		})
	}
	all.Wait()
	return results
}

// publish writes texts between the marks of the page, in pairs of mark and text.
func publish(t *testing.T, pairs ...string) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for i := 0; i < len(pairs); i += 2 {
		begin, end := "<!-- simulation: "+pairs[i]+" -->\n", "<!-- end -->"
		head, rest, found := strings.Cut(text, begin)
		_, tail, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no marks for %s", page, pairs[i])
		}
		text = head + begin + pairs[i+1] + end + tail
	}
	check(t, page, text)
}

// check writes a file, or compares it with the text.
func check(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != text {
		t.Errorf("%s is not what the simulation says (%v): make simulation", path, err)
	}
}

func attemptsPlot(results []*measured) *plot {
	const from, to, step = -130 * time.Minute, 30 * time.Minute, 30 * time.Second
	p := &plot{
		title: "Attempts at 2,000 endpoints that were down for two hours", unit: "attempts a second, means of 30 s",
		from: from, to: to, tick: 20 * time.Minute, zero: "they are back",
	}
	p.lines = twoLines(results, step, func(m *measured) []float64 {
		at := before + m.scenario.outage
		return means(m.perSecond, at+from, at+to, step)
	})
	return p
}

func unfinishedPlot(results []*measured) *plot {
	const from, to, step = -2 * time.Hour, 7 * time.Hour, 2 * time.Minute
	p := &plot{title: "Deliveries that are not finished", unit: "deliveries", from: from, to: to, tick: time.Hour, zero: "the endpoints are back"}
	p.lines = twoLines(results, step, func(m *measured) []float64 {
		at := before + m.scenario.outage
		return means(m.unfinished, at+from, at+to, step)
	})
	return p
}

func restartPlot(results []*measured) *plot {
	const from, to, step = -2 * time.Minute, 20 * time.Minute, 2 * time.Second
	p := &plot{
		title: "Slots in use, of 512, when dispatchers start while 2,000 endpoints hang", unit: "attempts in flight, of the busiest replica",
		from: from, to: to, tick: 2 * time.Minute, zero: "the start",
	}
	p.lines = twoLines(results, step, func(m *measured) []float64 {
		at := before + m.scenario.restart
		return means(m.inFlight, at+from, at+to, step)
	})
	return p
}

// twoLines returns the curves of the first two results. values returns one value per step.
func twoLines(results []*measured, step time.Duration, values func(*measured) []float64) []line {
	var lines []line
	for i, color := range []string{"#1a7f37", "#bc4c00"} {
		m := results[i]
		lines = append(lines, line{strings.Trim(m.scenario.name, "*"), color, step, values(m)})
	}
	return lines
}
