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
	eventType = "bench.event"
	// steadyRate is in events per second. steadySeconds is the duration of a run at a rate. steadyConnections bounds
	// its concurrent requests.
	steadyRate        = 200
	steadySeconds     = 20
	steadyConnections = 256
	// bareShare divides the number of events for the bare API loop, whose rate is steady after a few thousand rounds.
	bareShare = 3
	// bareRequests is the number of requests of the bare HTTP loop for each event of the saturation run.
	bareRequests = 5

	fanOut, fanOutEvents = 10, 2000
	hangFor              = 5 * time.Second
	hangEvents           = 2000
)

// These are the names of the runs.
const (
	runSaturation = "saturation"
	runHalf       = "half"
	runSteady     = "steady"
	runFanOut     = "fanout"
	runHanging    = "hanging"

	// These are parts of runHanging.
	runAlone, runBesideQuick, runBeside = "alone", "beside-quick", "beside"
)

// ceilings are the rates that the parts reach without the operator, in rounds per second.
type ceilings struct {
	// HTTP signs and posts. API creates and writes the status, APIPruned also deletes.
	HTTP, API, APIPruned float64
	// JetStream consumes and posts; 0 means without JetStream.
	JetStream float64
	// APICPU is in milliseconds per round, by process.
	APICPU map[string]float64
}

// measureCeilings runs the bare loops before the operator starts.
func (r *rig) measureCeilings(ctx context.Context) (c ceilings, err error) {
	http, err := call[load.LoopReport](ctx, load.BareHTTP, load.BareHTTPOrders{
		URL: r.receiver.url("bare"), Requests: bareRequests * r.options.events, Size: r.options.size, Connections: r.options.connections,
	})
	if err != nil {
		return c, err
	}
	c.HTTP = http.PerSecond()
	if r.nats != nil {
		stream, err := call[load.LoopReport](ctx, load.BareStream, load.BareStreamOrders{
			Server: r.nats.URL(), URL: r.receiver.url("bare"), Messages: r.options.events, Size: r.options.size, Connections: r.options.connections,
		})
		if err != nil {
			return c, err
		}
		c.JetStream = stream.PerSecond()
		return c, r.say("bare loops: HTTP %.0f/s, JetStream %.0f/s", c.HTTP, c.JetStream)
	}
	n := max(r.options.events/bareShare, 1)
	for _, remove := range []bool{false, true} {
		rate, cpu, err := r.bareAPI(ctx, n, load.WriteUpdate, remove)
		if err != nil {
			return c, err
		}
		if remove {
			c.APIPruned = rate
		} else {
			c.API, c.APICPU = rate, cpu
		}
	}
	return c, r.say("bare loops: HTTP %.0f/s, API %.0f/s, with deletes %.0f/s, API server %.2f CPU ms each", c.HTTP, c.API, c.APIPruned, c.APICPU["kube-apiserver"])
}

// run plays the chosen runs.
func (r *rig) run(ctx context.Context) ([]figure, error) {
	var figures []figure
	for _, name := range r.options.runs {
		var more []figure
		var f figure
		var err error
		switch name {
		case runSaturation:
			f, err = r.one(ctx, traffic{name: name, events: r.options.events, connections: r.options.connections})
			r.saturated = f.PerSecond
		case runHalf:
			if r.saturated == 0 {
				return figures, fmt.Errorf("the run %s needs %s before it", name, runSaturation)
			}
			f, err = r.one(ctx, traffic{name: name, perSecond: r.saturated / 2})
		case runSteady:
			f, err = r.one(ctx, traffic{name: name, perSecond: steadyRate})
		case runFanOut:
			f, err = r.one(ctx, traffic{name: name, events: min(fanOutEvents, r.options.events), connections: r.options.connections, fanOut: fanOut})
		case runHanging:
			more, err = r.hanging(ctx)
		default:
			err = fmt.Errorf("no run %q", name)
		}
		if err != nil {
			return figures, err
		}
		if more == nil {
			more = []figure{f}
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// one measures traffic in its own namespace, with as many Postbacks as the traffic's fan-out.
func (r *rig) one(ctx context.Context, t traffic) (figure, error) {
	t.namespace = "bench-" + t.name
	t.fanOut, t.kept = max(t.fanOut, 1), kept
	t.types = []string{eventType}
	if t.perSecond > 0 && t.events == 0 {
		t.events, t.connections = max(int(t.perSecond*steadySeconds), 1), steadyConnections
	}
	var err error
	if t.token, err = r.namespace(ctx, t.namespace); err != nil {
		return figure{}, err
	}
	postbacks := make([]*v1alpha1.Postback, t.fanOut)
	for i := range postbacks {
		postbacks[i] = r.postback(t.namespace, fmt.Sprintf("shop-%d", i), eventType)
	}
	if err := r.create(ctx, postbacks...); err != nil {
		return figure{}, err
	}
	f, err := r.measure(ctx, t)
	if err != nil {
		return f, err
	}
	return f, r.remove(ctx, t.namespace)
}

// hanging measures an endpoint alone, beside one that answers, and beside one that hangs. Beside another endpoint it
// gets half of the events. The second run thus shows the cost of sharing, the third that of hanging.
func (r *rig) hanging(ctx context.Context) ([]figure, error) {
	const healthy, hung = "healthy", "hung"
	if err := r.receiver.behave(ctx, load.Behaviour{Endpoint: hung, Delay: hangFor}); err != nil {
		return nil, err
	}
	var figures []figure
	for _, run := range []struct {
		name      string
		endpoints []string
	}{{runAlone, []string{healthy}}, {runBesideQuick, []string{healthy, "quick"}}, {runBeside, []string{healthy, hung}}} {
		f, err := r.neighbours(ctx, run.name, run.endpoints...)
		if err != nil {
			return figures, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// neighbours measures the first of several endpoints, which get equally many events.
func (r *rig) neighbours(ctx context.Context, name string, endpoints ...string) (figure, error) {
	t := traffic{
		name: name, namespace: "bench-" + name, events: len(endpoints) * min(hangEvents, r.options.events/2),
		connections: r.options.connections, fanOut: 1, only: endpoints[0], kept: -1,
	}
	var err error
	if t.token, err = r.namespace(ctx, t.namespace); err != nil {
		return figure{}, err
	}
	var postbacks []*v1alpha1.Postback
	for _, endpoint := range endpoints {
		t.types = append(t.types, "bench."+endpoint)
		postbacks = append(postbacks, r.postback(t.namespace, endpoint, v1alpha1.Trigger("bench."+endpoint)))
	}
	if err := r.create(ctx, postbacks...); err != nil {
		return figure{}, err
	}
	f, err := r.measure(ctx, t)
	if err != nil {
		return f, err
	}
	return f, r.remove(ctx, t.namespace)
}
