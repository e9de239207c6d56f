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
	_ "embed" // for ranges.json
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

//go:embed ranges.json
var recordedRanges []byte

// span is what a ratio may be.
type span struct{ Min, Max float64 }

// guardEvents is how many events the guard's run at saturation has.
const guardEvents = 600

// guard makes a short run and compares ratios with recorded ranges. No time of a machine is compared with that of another.
func guard(ctx context.Context, o *options, out io.Writer) error {
	ranges := map[string]span{}
	if err := json.Unmarshal(recordedRanges, &ranges); err != nil {
		return fmt.Errorf("read the ranges: %w", err)
	}
	short := *o
	short.events, short.fsync, short.series, short.runs = guardEvents, false, "", []string{runSaturation, runHanging}
	m, err := bench(ctx, &short, intakeKubernetes, out)
	if err != nil {
		return err
	}
	ratios := m.ratios()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(ranges)) {
		ratio, ok := ratios[name]
		allowed := ranges[name]
		if !ok || ratio < allowed.Min || ratio > allowed.Max {
			errs = append(errs, fmt.Errorf("%s: %.3f is not within %.3f and %.3f", name, ratio, allowed.Min, allowed.Max))
			continue
		}
		if _, err := fmt.Fprintf(out, "%s: %.3f, within %.3f and %.3f\n", name, ratio, allowed.Min, allowed.Max); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// ratios returns what does not depend on how fast the machine is.
func (m *mode) ratios() map[string]float64 {
	saturation, alone, beside := m.figure(runSaturation), m.figure(runAlone), m.figure(runBeside)
	apiServer := saturation.CPU["kube-apiserver"]
	return map[string]float64{
		"throughput against create and status":                 saturation.PerSecond / m.Ceilings.API,
		"throughput, pruning included, against the same":       saturation.SettledPerSecond / m.Ceilings.API,
		"CPU of the API server against create and status":      apiServer / m.Ceilings.APICPU["kube-apiserver"],
		"CPU of the dispatcher against that of the API server": saturation.CPU["dispatcher 0"] / apiServer,
		"share that arrives within 50 ms of the 202":           saturation.Prompt,
		"p99 beside an endpoint that hangs, against alone":     beside.Latency.P99 / alone.Latency.P99,
		"lost":          float64(saturation.Lost + alone.Lost + beside.Lost),
		"arrived twice": float64(saturation.Duplicates + alone.Duplicates + beside.Duplicates),
	}
}

// figure returns what was measured in a run, or nothing.
func (m *mode) figure(run string) figure {
	for _, f := range m.Runs {
		if f.Name == run {
			return f
		}
	}
	return figure{}
}
