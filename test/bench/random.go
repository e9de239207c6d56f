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

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/bench/load"
)

// saturatedShare is the part of the rate at saturation that is posted to endpoints with random failures.
const saturatedShare = 0.8

// randomFailures measures endpoints that answer a share of first attempts with 503, and for comparison the same
// endpoints without failures.
func (r *rig) randomFailures(ctx context.Context, o *backlogOptions, endpoints int) (*backlog, error) {
	perSecond := o.randomRate
	if perSecond == 0 {
		saturated, err := r.saturation(ctx)
		if err != nil {
			return nil, err
		}
		perSecond = saturatedShare * saturated
	}
	b := &backlog{
		Name:  fmt.Sprintf("%s-%d", backlogRandom, endpoints),
		Title: fmt.Sprintf("%.0f %% of first attempts fail at random, %.0f events a second for %s over %d endpoint(s)", 100*o.randomShare, perSecond, o.randomFor, endpoints),
	}
	well, err := r.failing(ctx, o, fmt.Sprintf("bench-well-%d", endpoints), endpoints, perSecond, 0, nil)
	if err != nil {
		return nil, err
	}
	failing, err := r.failing(ctx, o, fmt.Sprintf("bench-random-%d", endpoints), endpoints, perSecond, o.randomShare, b)
	if err != nil {
		return nil, err
	}
	const without = "without failures"
	b.compare("delivered while events came", "a second", failing.perSecond, well.perSecond, without, fmt.Sprintf("at least %.2f", 1-o.randomShare))
	b.compare("p99 of the deliveries that do not fail", "ms", failing.p99, well.p99, without, "")
	b.compare("objects at a time, finished ones included", "", float64(failing.seen.objects), float64(well.seen.objects), without, fmt.Sprintf("%d for each endpoint", 100))
	b.compare("CPU of the API server", "cores", failing.seen.apiServerCPU(), well.seen.apiServerCPU(), without, "")
	return b, nil
}

// attempted has the measurements of endpoints with failures.
type attempted struct {
	seen           *observation
	perSecond, p99 float64
}

// failing posts events to endpoints that fail a share of first attempts. It closes the account of b unless b is nil.
func (r *rig) failing(ctx context.Context, o *backlogOptions, namespace string, endpoints int, perSecond, share float64, b *backlog) (*attempted, error) {
	if err := r.receiver.forget(ctx); err != nil {
		return nil, err
	}
	token, err := r.namespace(ctx, namespace)
	if err != nil {
		return nil, err
	}
	postbacks, types := make([]*v1alpha1.Postback, endpoints), make([]string, endpoints)
	for i := range postbacks {
		types[i] = fmt.Sprintf("bench.%s-%d", troubledName, i)
		postbacks[i] = r.backlogPostback(namespace, fmt.Sprintf("%s-%d", troubledName, i), troubledName, v1alpha1.Trigger(types[i]))
	}
	if err := r.receiver.behave(ctx, load.Behaviour{Endpoint: troubledName, FailFirst: share}); err != nil {
		return nil, err
	}
	if err := r.create(ctx, postbacks...); err != nil {
		return nil, err
	}
	if err := r.say("%s: %.0f events a second for %s", namespace, perSecond, o.randomFor); err != nil {
		return nil, err
	}
	var report load.GenerateReport
	seen, err := r.observe(ctx, namespace, func() (err error) {
		report, err = call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
			URLs: r.ingestURLs(namespace), Token: token, Prefix: namespace, Types: types, Events: int(perSecond * o.randomFor.Seconds()),
			Size: r.options.size, Connections: steadyConnections, PerSecond: perSecond, Tries: 1,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	reports := []*load.GenerateReport{&report}
	if err := r.say("%s: %d of %d events are accepted, %d delivered", namespace, accepted(reports), len(report.Posted), seen.arrived[len(seen.arrived)-1]); err != nil {
		return nil, err
	}
	if err := r.receiver.await(ctx, "", accepted(reports), o.patience); err != nil {
		return nil, err
	}
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return nil, err
	}
	result := &attempted{seen: seen, perSecond: float64(seen.arrived[len(seen.arrived)-1]) / seen.took.Seconds()}
	result.p99 = latencies(reports, arrivals, func(a *load.Arrival) bool { return a.Times == a.Good }).P99
	if b != nil {
		if err := r.closeAccount(ctx, b, namespace, reports); err != nil {
			return nil, err
		}
	}
	return result, r.discard(ctx, namespace)
}
