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
	_ "embed" // For ranges.json.
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

//go:embed ranges.json
var recordedRanges []byte

// span is the allowed range of a ratio.
type span struct{ Min, Max float64 }

const (
	// guardEvents and guardStreamEvents are the numbers of events in the guard's saturation run, with the API server
	// and with NATS.
	guardEvents       = 600
	guardStreamEvents = 4000
	// guardTries bounds the measurements, because other load on the machine may put a ratio out of its range.
	guardTries = 2
)

// guard measures each intake briefly and compares ratios with recorded ranges. It compares no absolute times between
// machines.
func guard(ctx context.Context, o *options, out io.Writer) error {
	ranges := map[string]map[string]span{}
	if err := json.Unmarshal(recordedRanges, &ranges); err != nil {
		return fmt.Errorf("read the ranges: %w", err)
	}
	short := *o
	short.fsync, short.series, short.runs, short.backlog.runs = false, "", []string{runSaturation, runHanging}, nil
	var errs []error
	for _, intake := range slices.Sorted(maps.Keys(ranges)) {
		short.events = guardEvents
		if intake != intakeKubernetes {
			short.events = guardStreamEvents
		}
		if err := guardOne(ctx, &short, intake, ranges[intake], out); err != nil {
			errs = append(errs, fmt.Errorf("intake %s: %w", intake, err))
		}
	}
	return errors.Join(errs...)
}

// guardOne measures an intake, and repeats that if a ratio is out of its range. Lost or repeated events fail at once,
// because they are not due to chance.
func guardOne(ctx context.Context, o *options, intake string, ranges map[string]span, out io.Writer) error {
	for try := 1; ; try++ {
		m, err := bench(ctx, o, intake, out)
		if err != nil {
			return err
		}
		ratios := m.ratios()
		if err = compare(ratios, ranges, out); err == nil || try == guardTries || ratios[ratioLost]+ratios[ratioTwice] > 0 {
			return err
		}
		if _, err := fmt.Fprintf(out, "Measuring again, for others may have used the machine: %v\n", err); err != nil {
			return err
		}
	}
}

// compare returns an error for each ratio that is out of its range.
func compare(ratios map[string]float64, ranges map[string]span, out io.Writer) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(ranges)) {
		ratio, ok := ratios[name]
		allowed := ranges[name]
		if !ok || !(ratio >= allowed.Min && ratio <= allowed.Max) { // NaN is outside every range.
			errs = append(errs, fmt.Errorf("%s: %.3f is not within %.3f and %.3f", name, ratio, allowed.Min, allowed.Max))
			continue
		}
		if _, err := fmt.Fprintf(out, "%s: %.3f, within %.3f and %.3f\n", name, ratio, allowed.Min, allowed.Max); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

const (
	ratioLost  = "lost"
	ratioTwice = "arrived twice"
)

// ratios returns the figures that do not depend on the speed of the machine.
func (m *mode) ratios() map[string]float64 {
	saturation, alone, beside := m.figure(runSaturation), m.figure(runAlone), m.figure(runBeside)
	ratios := map[string]float64{
		"share that arrives within 50 ms of the 202":       saturation.Prompt,
		"p99 beside an endpoint that hangs, against alone": beside.Latency.P99 / alone.Latency.P99,
		ratioLost:  float64(saturation.Lost + alone.Lost + beside.Lost),
		ratioTwice: float64(saturation.Duplicates + alone.Duplicates + beside.Duplicates),
	}
	dispatcher := saturation.CPU["dispatcher 0"]
	if m.Intake != intakeKubernetes {
		ratios["throughput against consuming and posting"] = saturation.PerSecond / m.Ceilings.JetStream
		if server := saturation.CPU["nats-server"]; server > 0 { // An embedded server counts as the dispatcher.
			ratios["CPU of the dispatcher against that of the NATS server"] = dispatcher / server
		}
		ratios["CPU of the API server against that of the dispatcher"] = saturation.CPU["kube-apiserver"] / dispatcher
		return ratios
	}
	apiServer := saturation.CPU["kube-apiserver"]
	ratios["throughput against create and status"] = saturation.PerSecond / m.Ceilings.API
	ratios["throughput, pruning included, against the same"] = saturation.SettledPerSecond / m.Ceilings.API
	ratios["CPU of the API server against create and status"] = apiServer / m.Ceilings.APICPU["kube-apiserver"]
	ratios["CPU of the dispatcher against that of the API server"] = dispatcher / apiServer
	return ratios
}

// figure returns the figures of a run, or a zero value.
func (m *mode) figure(run string) figure {
	for _, f := range m.Runs {
		if f.Name == run {
			return f
		}
	}
	return figure{}
}
