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
	"context"
	"slices"
	"time"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

const (
	// arrivalPatience is how long nothing may arrive before missing events count as lost.
	arrivalPatience = 60 * time.Second
	// promptly is the wanted time from the 202 to the first attempt.
	promptly = 50 * time.Millisecond
)

// figure has the measurements of one load.
type figure struct {
	Name                          string
	Events, Deliveries            int
	Lost, Duplicates, RefusedOnce int
	// Elapsed ends at the last arrival; Settled ends once every delivery is recorded and the history is pruned. Both
	// begin at the first post.
	Elapsed, Settled time.Duration
	// PerSecond is deliveries per Elapsed, SettledPerSecond deliveries per Settled.
	PerSecond, SettledPerSecond float64
	// Latency is the time from when an event had to be posted to its arrival.
	Latency percentiles
	// Prompt is the share of the events that arrived within promptly of the 202, or before it.
	Prompt float64
	// CPU is in milliseconds per delivery, PeakRSS in MiB, both by process.
	CPU     map[string]float64
	PeakRSS map[string]float64
	// Notes are further measurements.
	Notes map[string]float64 `json:",omitempty"`
}

// percentiles are in milliseconds.
type percentiles struct{ P50, P99, P999, Max float64 }

// percentilesOf sorts durations and returns their percentiles by nearest rank.
func percentilesOf(durations []time.Duration) percentiles {
	if len(durations) == 0 {
		return percentiles{}
	}
	slices.Sort(durations)
	at := func(perMille int) float64 {
		return milliseconds(durations[(len(durations)*perMille+999)/1000-1])
	}
	return percentiles{P50: at(500), P99: at(990), P999: at(999), Max: at(1000)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpu returns the CPU milliseconds per delivery of all processes together.
func (f *figure) cpu() float64 {
	sum := 0.0
	for _, ms := range f.CPU {
		sum += ms
	}
	return sum
}

// traffic describes a load and when it is complete.
type traffic struct {
	name, namespace, token string
	types                  []string
	events, connections    int
	// size of an event in bytes; 0 means that of the options.
	size      int
	perSecond float64
	// fanOut is the number of matching Postbacks of each event.
	fanOut int
	// only, if not "", is the only endpoint whose arrivals are awaited and judged.
	only string
	// kept is the number of deliveries in the pruned history; -1 means not to wait for the pruning.
	kept int
}

// measure posts events, waits for their arrival, and returns the figures.
func (r *rig) measure(ctx context.Context, t traffic) (figure, error) {
	if err := r.receiver.forget(ctx); err != nil {
		return figure{}, err
	}
	pids := r.pids()
	if err := forgetPeaks(pids); err != nil {
		return figure{}, err
	}
	before, err := usageOf(pids)
	if err != nil {
		return figure{}, err
	}
	began := time.Now()
	size := t.size
	if size == 0 {
		size = r.options.size
	}
	posted, err := call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
		URLs: r.ingestURLs(t.namespace), Token: t.token, Prefix: t.name, Types: t.types, Events: t.events, Size: size,
		Connections: t.connections, PerSecond: t.perSecond,
	})
	if err != nil {
		return figure{}, err
	}
	if err := r.receiver.await(ctx, t.only, t.events*t.fanOut/len(t.types), arrivalPatience); err != nil {
		return figure{}, err
	}
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return figure{}, err
	}
	f := t.judge(posted, arrivals)
	if t.kept >= 0 {
		if err := r.settle(ctx, t.namespace, t.kept); err != nil {
			return f, err
		}
		f.Settled = time.Since(began)
		f.SettledPerSecond = float64(f.Deliveries) / f.Settled.Seconds()
	}
	after, err := usageOf(pids)
	if err != nil {
		return f, err
	}
	f.addUsage(after.since(before))
	err = r.say("%s: %.0f/s (settled %.0f/s), p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, %.2f CPU ms each, %.1f%% prompt, lost %d, twice %d",
		f.Name, f.PerSecond, f.SettledPerSecond, f.Latency.P50, f.Latency.P99, f.Latency.P999, f.cpu(), 100*f.Prompt, f.Lost, f.Duplicates)
	return f, err
}

// judge matches the posted events with their arrivals.
func (t *traffic) judge(report load.GenerateReport, arrivals []load.Arrival) figure {
	f := figure{Name: t.name, Events: len(report.Posted), RefusedOnce: report.Refused}
	posted := make(map[string]*load.Posted, len(report.Posted))
	first := int64(0)
	for i := range report.Posted {
		p := &report.Posted[i]
		posted[p.ID] = p
		f.Deliveries += p.Deliveries
		if first == 0 || p.Due < first {
			first = p.Due
		}
	}
	var latencies []time.Duration
	prompt, last := 0, first
	for i := range arrivals {
		a := &arrivals[i]
		p := posted[a.ID]
		if p == nil || t.only != "" && a.Endpoint != t.only {
			continue
		}
		latencies = append(latencies, time.Duration(a.At-p.Due))
		if a.At-p.Accepted <= int64(promptly) {
			prompt++
		}
		f.Duplicates += a.Times - 1
		last = max(last, a.At)
	}
	if t.only != "" {
		f.Deliveries = t.events / len(t.types)
	}
	f.Lost = f.Deliveries - len(latencies)
	f.Elapsed = time.Duration(last - first)
	f.PerSecond = float64(len(latencies)) / f.Elapsed.Seconds()
	f.Prompt = float64(prompt) / float64(max(len(latencies), 1))
	f.Latency = percentilesOf(latencies)
	return f
}

func (f *figure) addUsage(used usage) {
	f.CPU, f.PeakRSS = used.each(f.Deliveries), map[string]float64{}
	for name, s := range used {
		f.PeakRSS[name] = float64(s.PeakRSS) / (1 << 20)
	}
}

// note adds a further measurement.
func (f *figure) note(what string, value float64) {
	if f.Notes == nil {
		f.Notes = map[string]float64{}
	}
	f.Notes[what] = value
}
