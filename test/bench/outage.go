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
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/bench/load"
)

const (
	besideAlone      = "alone"
	besideSaturation = "at saturation"
	twiceItsOwn      = "at most twice"
	// shortestAlone and longestAlone bound the measurement of the neighbour alone.
	shortestAlone, longestAlone = 10 * time.Second, time.Minute
)

// backlogPostback returns a Postback with default limits.
func (r *rig) backlogPostback(namespace, name, endpoint string, triggers ...v1alpha1.Trigger) *v1alpha1.Postback {
	p := r.postback(namespace, name, triggers...)
	p.Spec.URL, p.Spec.Limits = r.receiver.url(endpoint), nil
	return p
}

// outage measures an endpoint that first refuses connections and later answers, beside a healthy one.
func (r *rig) outage(ctx context.Context, o *backlogOptions) ([]*backlog, error) {
	const namespace, troubledType = "bench-outage", "bench.troubled"
	saturated, err := r.saturation(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.receiver.forget(ctx); err != nil {
		return nil, err
	}
	address, err := r.receiver.reserve(ctx)
	if err != nil {
		return nil, err
	}
	token, err := r.namespace(ctx, namespace)
	if err != nil {
		return nil, err
	}
	down := r.backlogPostback(namespace, troubledName, troubledName, troubledType)
	down.Spec.URL = load.EndpointURL(address, troubledName)
	if err := r.create(ctx, r.backlogPostback(namespace, neighbourName, neighbourName, neighbourType), down); err != nil {
		return nil, err
	}

	alone, aloneReports, err := r.besideNeighbour(ctx, o, namespace, token, "alone", func() error {
		return rest(ctx, min(max(o.outageFor, shortestAlone), longestAlone))
	})
	if err != nil {
		return nil, err
	}
	var report load.GenerateReport
	began := time.Now()
	outage, outageReports, err := r.besideNeighbour(ctx, o, namespace, token, "outage", func() (err error) {
		report, err = call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
			URLs: r.ingestURLs(namespace), Token: token, Prefix: troubledName, Types: []string{troubledType}, Events: int(o.outageRate * o.outageFor.Seconds()),
			Size: r.options.size, Connections: steadyConnections, PerSecond: o.outageRate, Tries: 1,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	expected := accepted([]*load.GenerateReport{&report})
	back, backReports, err := r.besideNeighbour(ctx, o, namespace, token, "return", func() error {
		if err := r.receiver.open(ctx, address); err != nil {
			return err
		}
		return r.receiver.await(ctx, troubledName, expected, o.patience)
	})
	if err != nil {
		return nil, err
	}
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return nil, err
	}

	own := latencies(aloneReports, arrivals, everyArrival).P99
	title := fmt.Sprintf("one endpoint is down at %.0f events a second for %s, a healthy one at %.0f beside it", o.outageRate, o.outageFor, o.neighbourRate)
	first := &backlog{Name: backlogOutage, Title: title}
	first.add("events refused", "", float64(len(report.Posted)-expected), "0")
	if report.FirstRefusal != 0 {
		first.add("first refusal after", "s", time.Unix(0, report.FirstRefusal).Sub(began).Seconds(), "never")
	}
	first.add("objects, finished ones included", "", float64(outage.objects), "150 and those that are kept")
	first.compare("CPU of the API server", "cores", outage.apiServerCPU(), alone.apiServerCPU(), besideAlone, "at most 1.2 times")
	first.compare("p99 of the healthy endpoint", "ms", latencies(outageReports, arrivals, everyArrival).P99, own, besideAlone, twiceItsOwn)

	second := &backlog{Name: backlogOutage + "-return", Title: "the same endpoint returns"}
	second.compare("drain after the slow start", "a second", back.drainRate(), saturated, besideSaturation, "at least 0.7")
	second.add("until the last arrival", "s", back.took.Seconds(), "")
	second.compare("p99 of the healthy endpoint in the drain", "ms", latencies(backReports, arrivals, duringDrain(arrivals)).P99, own, besideAlone, twiceItsOwn)
	reports := append(append(append(aloneReports, outageReports...), backReports...), &report)
	if err := r.closeAccount(ctx, second, namespace, reports); err != nil {
		return nil, err
	}
	first.Account = second.Account
	return []*backlog{first, second}, r.discard(ctx, namespace)
}

// besideNeighbour observes a namespace during an action, while the neighbour gets events.
func (r *rig) besideNeighbour(ctx context.Context, o *backlogOptions, namespace, token, phase string, during func() error) (*observation, []*load.GenerateReport, error) {
	if err := r.say("%s, phase %s", namespace, phase); err != nil {
		return nil, nil, err
	}
	before, err := r.receiver.count(ctx, neighbourName)
	if err != nil {
		return nil, nil, err
	}
	n := r.startNeighbour(ctx, namespace, token, phase, o.neighbourRate)
	seen, err := r.observe(ctx, namespace, during)
	reports, failed := n.end()
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, nil, fmt.Errorf("phase %s: %w", phase, err)
	}
	// Wait for the neighbour's events in flight.
	return seen, reports, r.receiver.await(ctx, neighbourName, before+accepted(reports), arrivalPatience)
}
