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

// Package load has the parts of the benchmark that run in child processes: the receiver, the generator, and the bare
// loops for comparison with the operator. A child process reads its orders as JSON from standard input, and writes
// its report as JSON to standard output.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// These are the roles of a child process.
const (
	Receive  = "receive"
	Generate = "generate"
	BareHTTP = "bare-http"
	BareAPI  = "bare-api"
	Probe    = "probe"

	BareStream = "bare-stream"
)

// Run plays a role until its work is done or ctx ends.
func Run(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	switch role {
	case Receive:
		return receive(ctx, out)
	case Generate:
		return play(ctx, in, out, generate)
	case BareHTTP:
		return play(ctx, in, out, bareHTTP)
	case BareAPI:
		return play(ctx, in, out, bareAPI)
	case BareStream:
		return play(ctx, in, out, bareStreamLoop)
	case Probe:
		return play(ctx, in, out, probe)
	}
	return fmt.Errorf("no role %q", role)
}

// play reads orders, calls do with them, and writes its report.
func play[Orders, Report any](ctx context.Context, in io.Reader, out io.Writer, do func(context.Context, Orders) (Report, error)) error {
	var orders Orders
	if err := json.NewDecoder(in).Decode(&orders); err != nil {
		return fmt.Errorf("read the orders: %w", err)
	}
	report, err := do(ctx, orders)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(report)
}

// LoopReport reports on a closed loop.
type LoopReport struct {
	// Done is the number of rounds, Elapsed the time of all rounds together.
	Done    int
	Elapsed time.Duration
	// Took has the time of each round.
	Took []time.Duration
}

// PerSecond returns the rounds per second.
func (r *LoopReport) PerSecond() float64 { return float64(r.Done) / r.Elapsed.Seconds() }

// padding returns text that brings an event to a size. JSON does not escape it.
func padding(n int) string { return strings.Repeat("x", max(n, 0)) }

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
