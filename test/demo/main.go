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

// Command demo shows how events are delivered, signed, retried and recorded, by real programs on this machine. It
// runs a control plane, the operator as shipped, and an endpoint that verifies with code of others. It exits with 0
// only if every request arrived and was verified.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const (
	// interrupted is the exit status of a shell command that Ctrl-C ended.
	interrupted = 130
	// misused is the exit status after a mistake in the flags, as that of package flag.
	misused = 2
	// parentLook is the time between two checks that the parent process is alive.
	parentLook = 500 * time.Millisecond
)

func main() {
	keep := flag.Bool("keep", os.Getenv("KEEP") != "", "Leave everything running at the end, until Ctrl-C.")
	programs := flag.String("programs", "", "Folder with all built programs. They are built if it is not given.")
	intake := flag.String("intake", "kubernetes", "Where the dispatcher stores events: kubernetes, or jetstream, with an embedded NATS server.")
	portal := flag.Bool("portal", false, "Start the portal too, and print a link for a partner and one for a viewer. It leaves everything running.")
	flag.Parse()
	if !slices.Contains([]string{"kubernetes", jetStreamIntake}, *intake) {
		fmt.Fprintf(os.Stderr, "-intake is kubernetes or %s, not %q\n", jetStreamIntake, *intake)
		os.Exit(misused)
	}
	os.Exit(run(*keep || *portal, &demo{out: &screen{w: os.Stdout}, programs: *programs, intake: *intake, portal: *portal, begun: time.Now()}))
}

func run(keep bool, d *demo) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	go endWithParent(ctx, cancel)

	err := d.play(ctx)
	if err == nil && keep {
		d.keep(ctx)
	}
	wasInterrupted := ctx.Err() != nil
	if err != nil && !wasInterrupted {
		d.explain(os.Stderr, err)
	}
	// A second Ctrl-C ends the demo at once, and the kernel then ends its processes.
	cancel()
	if stopErr := d.stop(); stopErr != nil {
		fmt.Fprintf(os.Stderr, "\nCleaning up: %v\n", stopErr)
		err = errors.Join(err, stopErr)
	}
	switch {
	case wasInterrupted && err == nil && keep:
		fmt.Fprintln(os.Stderr, "\nEvery process is stopped.")
	case wasInterrupted:
		fmt.Fprintln(os.Stderr, "\nInterrupted. Every process is stopped.")
		return interrupted
	case err != nil:
		return 1
	}
	return 0
}

// endWithParent calls cancel when the parent process is gone: "go run" does not forward the signal that ends it.
func endWithParent(ctx context.Context, cancel context.CancelFunc) {
	parent := os.Getppid()
	ticker := time.NewTicker(parentLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if os.Getppid() != parent {
				cancel()
				return
			}
		}
	}
}
