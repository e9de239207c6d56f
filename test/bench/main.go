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

// Command bench measures the operator on this machine: the real control plane, the built programs, a receiver and a
// generator, each a process of its own, on loopback. Each figure stands beside its ceiling from the same run.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

// options are those of the command line.
type options struct {
	programs                  string
	runs                      []string
	events, size, connections int
	replicas                  int
	fsync                     bool
	dispatcherArgs            []string
}

func main() {
	var o options
	role := flag.String("as", "", "Role of a process that the benchmark starts.")
	runs := flag.String("runs", "saturation,half,steady,fanout,hanging", "Runs, between commas, in their order.")
	args := flag.String("dispatcher-args", "", "Further arguments of the dispatcher, between spaces.")
	flag.StringVar(&o.programs, "programs", "", "Folder with the built programs. They are built if it is not given.")
	flag.IntVar(&o.events, "events", 20000, "Events of the run at saturation; the others have as many as is fit.")
	flag.IntVar(&o.size, "size", 1500, "Bytes of an event.")
	flag.IntVar(&o.connections, "connections", 64, "Events that are posted at a time at saturation.")
	flag.IntVar(&o.replicas, "replicas", 1, "Replicas of the dispatcher.")
	flag.BoolVar(&o.fsync, "fsync", true, "Have etcd write to the disk before it answers, as in a cluster.")
	flag.Parse()
	o.runs, o.dispatcherArgs = strings.Split(*runs, ","), strings.Fields(*args)

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := play(ctx, *role, &o)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // What is deferred only ends a context.
	}
}

func play(ctx context.Context, role string, o *options) error {
	if role != "" {
		return load.Run(ctx, role, os.Stdin, os.Stdout)
	}
	return bench(ctx, o, os.Stderr)
}

func bench(ctx context.Context, o *options, out io.Writer) (err error) {
	r, err := newRig(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := r.close(); err == nil {
			err = closeErr
		}
	}()
	return r.run(ctx)
}
