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
	"fmt"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

const (
	// steadyRate is that of the peers' measurement, in events a second.
	steadyRate = 200
	// steadySeconds is how long a run at a rate takes.
	steadySeconds = 20
)

// run plays all runs.
func (r *rig) run(ctx context.Context) error {
	http, err := call[load.LoopReport](ctx, load.BareHTTP, load.BareHTTPOrders{
		URL: r.receiver.url("bare"), Requests: 10 * r.options.events, Size: r.options.size, Connections: r.options.connections,
	})
	if err != nil {
		return err
	}
	api, err := r.bareAPI(ctx, r.options.events/2, load.WriteUpdate, false)
	if err != nil {
		return err
	}
	if len(r.options.runs) == 1 && r.options.runs[0] == "writes" {
		for range 2 {
			for _, w := range []load.Write{load.WriteNone, load.WriteUpdate, load.WriteMergePatch, load.WriteJSONPatch, load.WriteApply} {
				for _, del := range []bool{false, true} {
					fmt.Fprintln(r.out, w, del)
					x, err := r.bareAPI(ctx, 1500, w, del)
					if err != nil {
						return err
					}
					fmt.Fprintln(r.out, float64(x.Done)/x.Elapsed.Seconds())
				}
			}
		}
	}
	httpRate, apiRate := float64(http.Done)/http.Elapsed.Seconds(), float64(api.Done)/api.Elapsed.Seconds()
	if _, err := fmt.Fprintf(r.out, "bare HTTP %.0f/s, bare API %.0f/s, p99 %.1f ms\n", httpRate, apiRate, percentilesOf(api.Took).P99); err != nil {
		return err
	}
	if err := r.start(ctx, r.options.replicas); err != nil {
		return err
	}
	saturated := 0.0
	for _, name := range r.options.runs {
		switch name {
		case "saturation":
			f, err := r.one(ctx, traffic{name: name, events: r.options.events, connections: r.options.connections})
			if err != nil {
				return err
			}
			saturated = f.PerSecond
			fmt.Fprintf(r.out, "%.0f%% of bare API; cpu %v rss %v\n", 100*f.SettledPerSecond/apiRate, f.CPU, f.PeakRSS)
		case "half":
			if _, err := r.one(ctx, traffic{name: name, events: int(saturated / 2 * steadySeconds), connections: 256, perSecond: saturated / 2}); err != nil {
				return err
			}
		case "steady":
			if _, err := r.one(ctx, traffic{name: name, events: steadyRate * steadySeconds, connections: 256, perSecond: steadyRate}); err != nil {
				return err
			}
		}
	}
	return nil
}

// one measures traffic for one Postback, in a namespace of its own.
func (r *rig) one(ctx context.Context, t traffic) (figure, error) {
	t.namespace = "bench-" + t.name
	var err error
	if t.token, err = r.namespace(ctx, t.namespace); err != nil {
		return figure{}, err
	}
	if err := r.create(ctx, r.postback(t.namespace, "shop", "bench.event")); err != nil {
		return figure{}, err
	}
	t.types, t.fanOut, t.kept = []string{"bench.event"}, 1, kept
	f, err := r.measure(ctx, t)
	if err != nil {
		return f, err
	}
	return f, r.remove(ctx, t.namespace)
}
