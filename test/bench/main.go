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
// generator run as separate processes on loopback. Each figure is reported with its ceiling from the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

// options are the options of the command line.
type options struct {
	programs, out             string
	intakes, runs             []string
	series                    string
	events, size, connections int
	replicas                  int
	fsync, guard, add         bool
	dispatcherArgs            []string
	backlog                   backlogOptions
	portal                    portalOptions
}

func main() {
	var o options
	role := flag.String("as", "", "Role of a process that the benchmark starts.")
	intakes := flag.String("intake", intakeKubernetes, "Intakes to measure, between commas: kubernetes, jetstream, jetstream-embedded, whose server is in the dispatcher, and jetstream-synced, whose server writes to the disk before it answers.")
	runs := flag.String("runs", "saturation,half,steady,fanout,hanging", "Runs, between commas, in their order.")
	args := flag.String("dispatcher-args", "", "Further arguments of the dispatcher, between spaces.")
	flag.StringVar(&o.series, "series", "", "Series, between commas: fanout, bodies, retries, unfinished, postbacks, replicas; each may have values of its own, as in postbacks=10:10000.")
	flag.StringVar(&o.programs, "programs", "", "Folder with the built programs, as an absolute path. They are built if it is not given.")
	flag.StringVar(&o.out, "out", "", "Folder for performance.md, performance.json and the plots. Without it the figures are only shown.")
	flag.IntVar(&o.events, "events", 20000, "Events of the run at saturation; the others have as many as is fit.")
	flag.IntVar(&o.size, "size", 1500, "Bytes of an event.")
	flag.IntVar(&o.connections, "connections", 64, "Events that are posted at a time at saturation.")
	flag.IntVar(&o.replicas, "replicas", 1, "Replicas of the dispatcher.")
	flag.BoolVar(&o.fsync, "fsync", true, "Have etcd write to the disk before it answers, as in a cluster.")
	flag.BoolVar(&o.add, "add", false, "Add to the figures that are in -out already, in place of those of the same runs and series.")
	flag.BoolVar(&o.guard, "guard", false, "Make a short run of each intake, and fail if a ratio is out of its recorded range.")
	o.backlog.define(flag.CommandLine)
	o.portal.define(flag.CommandLine)
	flag.Parse()
	if o.backlog.full {
		o.backlog = o.backlog.inFull()
	}
	logf.SetLogger(logr.Discard()) // Without a logger, the installer of the CustomResourceDefinitions would print a warning.
	o.intakes, o.runs, o.dispatcherArgs = listed(*intakes), listed(*runs), strings.Fields(*args)

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := play(ctx, *role, &o)
	cancel()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// listed splits a list at its commas.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func play(ctx context.Context, role string, o *options) error {
	if role != "" {
		return load.Run(ctx, role, os.Stdin, os.Stdout)
	}
	if o.portal.visitors > 0 {
		return benchPortal(ctx, o, os.Stderr)
	}
	if o.guard {
		return guard(ctx, o, os.Stderr)
	}
	report, err := newReport(o)
	if err != nil {
		return err
	}
	var unbalanced []error
	for _, intake := range o.intakes {
		measured, err := bench(ctx, o, intake, os.Stderr)
		if err != nil {
			return fmt.Errorf("intake %s: %w", intake, err)
		}
		report.take(measured)
		for _, b := range measured.Backlogs {
			unbalanced = append(unbalanced, b.err())
		}
		if o.out == "" {
			continue
		}
		// Write now, so that a later failure does not lose the measurements.
		if err := report.write(o.out); err != nil {
			return err
		}
	}
	return errors.Join(unbalanced...)
}

// mode has the measurements of one intake.
type mode struct {
	Intake   string
	Ceilings ceilings
	Runs     []figure
	Series   []*series
	Backlogs []*backlog `json:",omitempty"`
}

// bench measures one intake, on its own control plane.
func bench(ctx context.Context, o *options, intake string, out io.Writer) (m *mode, err error) {
	chosen, err := chosenSeries(o.series)
	if err != nil {
		return nil, err
	}
	r, err := newRig(ctx, o, intake, out)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	m = &mode{Intake: intake}
	if len(o.runs) > 0 {
		if m.Ceilings, err = r.measureCeilings(ctx); err != nil {
			return m, err
		}
	}
	if err := r.stopBareNATS(); err != nil {
		return m, err
	}
	if err := r.start(ctx, o.replicas); err != nil {
		return m, err
	}
	if m.Runs, err = r.run(ctx); err != nil {
		return m, err
	}
	for _, s := range chosen {
		if err := s.play(ctx, r); err != nil {
			return m, err
		}
		m.Series = append(m.Series, s)
	}
	m.Backlogs, err = r.playBacklogs(ctx)
	return m, err
}
