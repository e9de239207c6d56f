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
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

// These are the names of the backlog runs.
const (
	backlogOutage  = "outage"
	backlogWaiting = "waiting"
	backlogRandom  = "random"
	backlogResume  = "resume"
)

// backlogOptions configure the runs in which deliveries wait.
type backlogOptions struct {
	runs []string
	full bool
	// outageRate is the rate for the endpoint that is down during outageFor, neighbourRate that for the healthy one.
	// Both are in events per second.
	outageRate, neighbourRate float64
	outageFor                 time.Duration
	// waiting is the number of waiting deliveries in each run. Each element of postbacks is the number of their
	// Postbacks in one run.
	waiting   int
	postbacks numbers
	// randomShare is the share of the events that fail at first, during randomFor. Each element of endpoints is the
	// number of endpoints in one run. A randomRate of 0 means saturatedShare of the rate at saturation.
	randomShare, randomRate float64
	randomFor               time.Duration
	endpoints               numbers
	// paused Postbacks with pausedEach deliveries each are resumed at the same time.
	paused, pausedEach int
	// patience is how long nothing may arrive before the accounting.
	patience time.Duration
}

// numbers is a flag with numbers separated by colons.
type numbers []int

// String implements flag.Value.
func (n *numbers) String() string {
	texts := make([]string, len(*n))
	for i, one := range *n {
		texts[i] = strconv.Itoa(one)
	}
	return strings.Join(texts, ":")
}

// Set implements flag.Value.
func (n *numbers) Set(text string) error {
	*n = nil
	for _, one := range strings.Split(text, ":") {
		number, err := strconv.Atoi(one)
		if err != nil || number < 1 {
			return fmt.Errorf("%q is no number above 0; write them as in 1:100", one)
		}
		*n = append(*n, number)
	}
	return nil
}

// define defines the flags. The defaults suit two cores and a short run.
func (o *backlogOptions) define(flags *flag.FlagSet) {
	o.postbacks, o.endpoints = numbers{1, 100}, numbers{1, 100}
	flags.Func("backlogs", "Runs in which deliveries wait, between commas: outage, waiting, random, resume.", func(text string) error {
		o.runs = listed(text)
		return nil
	})
	flags.BoolVar(&o.full, "full", false, "Give the backlog runs the length and rates of their targets (hours), whatever the flags below say.")
	flags.Float64Var(&o.outageRate, "outage-rate", 900, "Events a second for the endpoint that is down.")
	flags.DurationVar(&o.outageFor, "outage-for", 20*time.Second, "How long it is down.")
	flags.Float64Var(&o.neighbourRate, "neighbour-rate", 200, "Events a second for the healthy endpoint beside the others.")
	flags.IntVar(&o.waiting, "waiting", 5000, "Deliveries that wait for paused Postbacks.")
	flags.Var(&o.postbacks, "waiting-postbacks", "Numbers of Postbacks for which they wait.")
	flags.Float64Var(&o.randomShare, "random-share", 0.2, "Share of the first attempts that fail at random.")
	flags.Float64Var(&o.randomRate, "random-rate", 0, "Events a second for endpoints that fail at random; 0 is 0.8 of the rate at saturation.")
	flags.DurationVar(&o.randomFor, "random-for", 30*time.Second, "How long they get events.")
	flags.Var(&o.endpoints, "random-endpoints", "Numbers of such endpoints.")
	flags.IntVar(&o.paused, "paused", 50, "Paused Postbacks that are resumed at once.")
	flags.IntVar(&o.pausedEach, "paused-each", 20, "Deliveries that wait for each of them.")
	flags.DurationVar(&o.patience, "patience", 90*time.Second, "How long nothing may arrive before what is missing counts as waiting or lost.")
}

// inFull returns the options of a full-length run, with the chosen runs.
func (o *backlogOptions) inFull() backlogOptions {
	return backlogOptions{
		runs: o.runs, full: true,
		outageRate: 900, neighbourRate: 200, outageFor: 10 * time.Minute,
		waiting: 1_000_000, postbacks: numbers{1, 100, 10_000},
		randomShare: 0.2, randomFor: 10 * time.Minute, endpoints: numbers{1, 100},
		paused: 1000, pausedEach: 500,
		// An open circuit is probed at least every 5 minutes.
		patience: 7 * time.Minute,
	}
}

// backlog has the results of a backlog run.
type backlog struct {
	Name, Title string
	Measures    []measure
	Account     account
}

// measure is a figure and the figure to compare it with.
type measure struct {
	What   string
	Unit   string
	Value  float64
	Beside *float64 `json:",omitempty"`
	// BesideWhat describes Beside. Target describes the wanted value, or the wanted ratio of the value to Beside.
	BesideWhat, Target string
}

// Number formats a value with as many decimals as are significant.
func (m *measure) Number(value float64) string {
	const exact, places = 10, 2
	switch {
	case value == math.Trunc(value):
		return strconv.FormatFloat(value, 'f', 0, 64)
	case value < exact:
		return strconv.FormatFloat(value, 'f', places, 64)
	}
	return strconv.FormatFloat(value, 'f', 1, 64)
}

// Ratio returns the ratio of the value to Beside, or "".
func (m *measure) Ratio() string {
	if m.Beside == nil || *m.Beside == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", m.Value / *m.Beside)
}

func (b *backlog) add(what, unit string, value float64, target string) {
	b.Measures = append(b.Measures, measure{What: what, Unit: unit, Value: value, Target: target})
}

func (b *backlog) compare(what, unit string, value, beside float64, besideWhat, target string) {
	b.Measures = append(b.Measures, measure{What: what, Unit: unit, Value: value, Beside: &beside, BesideWhat: besideWhat, Target: target})
}

// account counts events by what became of them. Each event has one delivery.
type account struct {
	Posted, Accepted, Refused int
	// Refusals counts refused requests by status, including those of events that were accepted later.
	Refusals map[int]int
	// Delivered, Waiting and Lost add up to Accepted. Twice counts the 2xx responses beyond the first of each event.
	Delivered, Waiting, Lost, Twice int
}

// addReport adds the counts of posted events.
func (a *account) addReport(r *load.GenerateReport) {
	a.Posted += len(r.Posted)
	if a.Refusals == nil {
		a.Refusals = map[int]int{}
	}
	for status, n := range r.Refusals {
		a.Refusals[status] += n
	}
	for i := range r.Posted {
		if r.Posted[i].Accepted == 0 {
			a.Refused++
			continue
		}
		a.Accepted++
	}
}

// close adds the arrivals of accepted events. waiting is the number of waiting deliveries according to the operator.
func (a *account) close(reports []*load.GenerateReport, arrivals []load.Arrival, waiting int) {
	accepted := map[string]bool{}
	for _, r := range reports {
		for i := range r.Posted {
			if r.Posted[i].Accepted != 0 {
				accepted[r.Posted[i].ID] = true
			}
		}
	}
	for i := range arrivals {
		if !accepted[arrivals[i].ID] || arrivals[i].Good == 0 {
			continue
		}
		a.Delivered++
		a.Twice += arrivals[i].Good - 1
	}
	a.Waiting = waiting
	a.Lost = max(a.Accepted-a.Delivered-waiting, 0)
}

// err returns an error if an accepted event was lost or delivered twice, because nothing in these runs justifies
// either.
func (b *backlog) err() error {
	if b.Account.Lost == 0 && b.Account.Twice == 0 {
		return nil
	}
	return fmt.Errorf("the run %s lost %d events and delivered %d twice", b.Name, b.Account.Lost, b.Account.Twice)
}

// playBacklogs plays the chosen backlog runs.
func (r *rig) playBacklogs(ctx context.Context) ([]*backlog, error) {
	o := &r.options.backlog
	var all []*backlog
	for _, name := range o.runs {
		var more []*backlog
		var err error
		switch name {
		case backlogOutage:
			more, err = r.said(r.outage(ctx, o))
		case backlogWaiting:
			more, err = r.each(o.postbacks, func(n int) (*backlog, error) { return r.manyWaiting(ctx, o, n) })
		case backlogRandom:
			more, err = r.each(o.endpoints, func(n int) (*backlog, error) { return r.randomFailures(ctx, o, n) })
		case backlogResume:
			more, err = r.said(r.resume(ctx, o))
		default:
			err = fmt.Errorf("no backlog run %q", name)
		}
		all = append(all, more...)
		if err != nil {
			return all, fmt.Errorf("backlog run %s: %w", name, err)
		}
	}
	return all, nil
}

// each plays a run for each value and prints its figures before the next begins.
func (r *rig) each(values []int, play func(int) (*backlog, error)) ([]*backlog, error) {
	var all []*backlog
	for _, n := range values {
		b, err := play(n)
		if err != nil {
			return all, fmt.Errorf("at %d: %w", n, err)
		}
		all = append(all, b)
		if err := r.sayBacklog(b); err != nil {
			return all, err
		}
	}
	return all, nil
}

// said prints the figures of a run.
func (r *rig) said(all []*backlog, err error) ([]*backlog, error) {
	for _, b := range all {
		err = errors.Join(err, r.sayBacklog(b))
	}
	return all, err
}

func (r *rig) sayBacklog(b *backlog) error {
	if err := r.say("%s", b.Title); err != nil {
		return err
	}
	for i := range b.Measures {
		m := &b.Measures[i]
		beside := ""
		if m.Beside != nil {
			beside = fmt.Sprintf("; %s %s, ratio %s", m.BesideWhat, m.Number(*m.Beside), m.Ratio())
		}
		value := strings.TrimSpace(m.Number(m.Value) + " " + m.Unit)
		if err := r.say("  %s: %s%s (target: %s)", m.What, value, beside, cmp.Or(m.Target, "none")); err != nil {
			return err
		}
	}
	a := &b.Account
	return r.say("  accounting: posted %d = accepted %d + refused %d %v; accepted = delivered %d + waiting %d + lost %d; twice %d",
		a.Posted, a.Accepted, a.Refused, a.Refusals, a.Delivered, a.Waiting, a.Lost, a.Twice)
}

// saturation returns the deliveries per second at saturation, for comparison. It measures them only once.
func (r *rig) saturation(ctx context.Context) (float64, error) {
	if r.saturated == 0 {
		f, err := r.one(ctx, traffic{name: runSaturation, events: r.options.events, connections: r.options.connections})
		if err != nil {
			return 0, err
		}
		r.saturated = f.PerSecond
	}
	return r.saturated, nil
}
