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

// Package load holds what the benchmark runs as processes of their own: the receiver, the generator, and the bare loops
// that the operator is compared with. A process gets its orders as JSON on standard input, and reports as JSON on standard
// output.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Roles that a process can have.
const (
	Receive  = "receive"
	Generate = "generate"
	BareHTTP = "bare-http"
	BareAPI  = "bare-api"
	Probe    = "probe"

	BareStream = "bare-stream"
)

// Run plays a role until it is done, or ctx ends.
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

// play reads the orders, follows them, and writes the report.
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

// LoopReport is how a closed loop went.
type LoopReport struct {
	// Done is the number of rounds, Elapsed the time that all took.
	Done    int
	Elapsed time.Duration
	// Took is the time of each round.
	Took []time.Duration
}

// PerSecond returns the rounds in a second.
func (r *LoopReport) PerSecond() float64 { return float64(r.Done) / r.Elapsed.Seconds() }

// padding is what fills up an event to a size. It is text that JSON need not escape.
func padding(n int) string { return strings.Repeat("x", max(n, 0)) }

// pause waits, or returns early when ctx ends.
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
