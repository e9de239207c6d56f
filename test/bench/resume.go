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

// resume measures many paused Postbacks that are resumed at the same time, beside a healthy endpoint.
func (r *rig) resume(ctx context.Context, o *backlogOptions) ([]*backlog, error) {
	const namespace = "bench-resume"
	saturated, err := r.saturation(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.receiver.forget(ctx); err != nil {
		return nil, err
	}
	token, types, err := r.pausedPostbacks(ctx, namespace, o.paused)
	if err != nil {
		return nil, err
	}
	if err := r.create(ctx, r.backlogPostback(namespace, neighbourName, neighbourName, neighbourType)); err != nil {
		return nil, err
	}
	_, aloneReports, err := r.besideNeighbour(ctx, o, namespace, token, "alone", func() error { return rest(ctx, shortestAlone) })
	if err != nil {
		return nil, err
	}
	report, err := call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
		URLs: r.ingestURLs(namespace), Token: token, Prefix: namespace, Types: types, Events: o.paused * o.pausedEach, Size: r.options.size,
		Connections: r.options.connections,
	})
	if err != nil {
		return nil, err
	}
	if err := r.quiet(ctx, namespace); err != nil {
		return nil, err
	}
	seen, backReports, err := r.besideNeighbour(ctx, o, namespace, token, "resumed", func() error {
		if err := r.enableAll(ctx, namespace); err != nil {
			return err
		}
		return r.receiver.await(ctx, troubledName, len(report.Posted), o.patience)
	})
	if err != nil {
		return nil, err
	}
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return nil, err
	}
	b := &backlog{Name: backlogResume, Title: fmt.Sprintf("%d paused Postbacks with %d deliveries each are resumed at once, a healthy endpoint at %.0f events a second beside them", o.paused, o.pausedEach, o.neighbourRate)}
	own := latencies(aloneReports, arrivals, everyArrival).P99
	b.compare("p99 of the healthy endpoint in the drain", "ms", latencies(backReports, arrivals, duringDrain(arrivals)).P99, own, besideAlone, twiceItsOwn)
	b.compare("drained", "a second", float64(len(report.Posted))/seen.took.Seconds(), saturated, besideSaturation, "")
	b.add("objects, finished ones included", "", float64(seen.objects), "those that are kept")
	if err := r.closeAccount(ctx, b, namespace, append(append(aloneReports, backReports...), &report)); err != nil {
		return nil, err
	}
	return []*backlog{b}, r.discard(ctx, namespace)
}
