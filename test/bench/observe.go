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
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/postback-dev/postback-operator/test/bench/load"
)

const (
	apiServer = "kube-apiserver"
	// neighbourChunk is how long one generator process posts events of the neighbour.
	neighbourChunk = 5 * time.Second
	neighbourType  = "bench.healthy"
	neighbourName  = "healthy"
	// troubledName is the endpoint whose deliveries wait. Several Postbacks may have it.
	troubledName = "troubled"
)

// neighbour is a healthy endpoint that gets events at a steady rate.
type neighbour struct {
	stop    chan struct{}
	ended   chan error
	reports []*load.GenerateReport
}

// startNeighbour posts events for the neighbour until end is called.
func (r *rig) startNeighbour(ctx context.Context, namespace, token, phase string, perSecond float64) *neighbour {
	n := &neighbour{stop: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		for chunk := 0; ; chunk++ {
			select {
			case <-n.stop:
				n.ended <- nil
				return
			default:
			}
			report, err := call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
				URLs: r.ingestURLs(namespace), Token: token, Prefix: fmt.Sprintf("%s-%s-%d", neighbourName, phase, chunk), Types: []string{neighbourType},
				Events: int(perSecond * neighbourChunk.Seconds()), Size: r.options.size, Connections: steadyConnections, PerSecond: perSecond,
			})
			if err != nil {
				n.ended <- err
				return
			}
			n.reports = append(n.reports, &report)
		}
	}()
	return n
}

// end waits for the events in flight and returns the reports.
func (n *neighbour) end() ([]*load.GenerateReport, error) {
	close(n.stop)
	return n.reports, <-n.ended
}

// latencies returns percentiles of the time from when an event had to be posted to its first 2xx response, for the
// arrivals that keep selects.
func latencies(reports []*load.GenerateReport, arrivals []load.Arrival, keep func(*load.Arrival) bool) percentiles {
	due := map[string]int64{}
	for _, report := range reports {
		for i := range report.Posted {
			if report.Posted[i].Accepted != 0 {
				due[report.Posted[i].ID] = report.Posted[i].Due
			}
		}
	}
	var took []time.Duration
	for i := range arrivals {
		if at, ok := due[arrivals[i].ID]; ok && arrivals[i].Good > 0 && keep(&arrivals[i]) {
			took = append(took, time.Duration(arrivals[i].GoodAt-at))
		}
	}
	return percentilesOf(took)
}

func everyArrival(*load.Arrival) bool { return true }

// nearly is the share of a backlog whose arrival ends the drain. The rest may follow the retry schedule.
const nearly = 0.95

// duringDrain returns a filter that selects arrivals during the drain of the troubled endpoint's backlog. Other
// arrivals would hide a neighbour that is slow during the drain.
func duringDrain(arrivals []load.Arrival) func(*load.Arrival) bool {
	var times []int64
	for i := range arrivals {
		if arrivals[i].Endpoint == troubledName && arrivals[i].Good > 0 {
			times = append(times, arrivals[i].GoodAt)
		}
	}
	if len(times) == 0 {
		return everyArrival
	}
	slices.Sort(times)
	first, last := times[0], times[min(int(nearly*float64(len(times))), len(times)-1)]
	return func(a *load.Arrival) bool { return a.GoodAt >= first && a.GoodAt <= last }
}

// observation has samples, taken once a second.
type observation struct {
	began time.Time
	// objects is the largest number of PostbackDeliveries in the namespace.
	objects int
	// arrived has the 2xx responses of the troubled endpoint by the end of each second.
	arrived []int
	usage   usage
	took    time.Duration
}

// observe samples a namespace once a second while during runs.
func (r *rig) observe(ctx context.Context, namespace string, during func() error) (*observation, error) {
	o := &observation{began: time.Now()}
	pids := r.pids()
	before, err := usageOf(pids)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- during() }()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			ended = true
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := r.look(ctx, o, namespace); err != nil {
			return nil, err
		}
	}
	after, err := usageOf(pids)
	if err != nil {
		return nil, err
	}
	o.usage, o.took = after.since(before), time.Since(o.began)
	return o, nil
}

func (r *rig) look(ctx context.Context, o *observation, namespace string) error {
	objects, err := r.total(ctx, namespace)
	if err != nil {
		return err
	}
	arrived, err := r.receiver.count(ctx, troubledName)
	if err != nil {
		return err
	}
	o.objects, o.arrived = max(o.objects, objects), append(o.arrived, arrived)
	return nil
}

// apiServerCPU returns the number of cores that the API server used.
func (o *observation) apiServerCPU() float64 {
	return o.usage[apiServer].CPU.Seconds() / o.took.Seconds()
}

// slowStart is the duration of the slow start in seconds.
const slowStart = 10

// drainRate returns the arrivals per second from the end of the slow start until nearly all have come.
func (o *observation) drainRate() float64 {
	if len(o.arrived) == 0 {
		return 0
	}
	first, last := o.arrived[0], o.arrived[len(o.arrived)-1]
	begin := slices.IndexFunc(o.arrived, func(n int) bool { return n > first })
	end := slices.IndexFunc(o.arrived, func(n int) bool { return float64(n-first) >= nearly*float64(last-first) })
	if begin < 1 || end < begin {
		return 0
	}
	from := begin - 1
	if end-from > slowStart+1 {
		from += slowStart
	}
	return float64(o.arrived[end]-o.arrived[from]) / float64(end-from)
}

// waitingIn returns the number of unfinished deliveries of a namespace, in streams and as objects.
func (r *rig) waitingIn(ctx context.Context, namespace string) (int, error) {
	waiting, err := r.inStream(ctx, namespace)
	if err != nil {
		return 0, err
	}
	objects, err := r.count(ctx, namespace, unfinishedSelector)
	return waiting + objects, err
}

// settled returns the number of waiting deliveries of a namespace, after a moment in which the answered ones are
// recorded.
func (r *rig) settled(ctx context.Context, namespace string, most int) (waiting int, err error) {
	const patience = 30 * time.Second
	err = wait.PollUntilContextTimeout(ctx, time.Second, patience, true, func(ctx context.Context) (bool, error) {
		var err error
		waiting, err = r.waitingIn(ctx, namespace)
		return waiting <= most, err
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		err = nil // The account shows the deliveries that still wait.
	}
	return waiting, err
}

// accepted counts the accepted events of reports.
func accepted(reports []*load.GenerateReport) int {
	n := 0
	for _, report := range reports {
		for i := range report.Posted {
			if report.Posted[i].Accepted != 0 {
				n++
			}
		}
	}
	return n
}

// closeAccount compares the accepted events with the arrivals and the waiting deliveries.
func (r *rig) closeAccount(ctx context.Context, b *backlog, namespace string, reports []*load.GenerateReport) error {
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return err
	}
	for _, report := range reports {
		b.Account.addReport(report)
	}
	arrived := 0
	for i := range arrivals {
		if arrivals[i].Good > 0 {
			arrived++
		}
	}
	waiting, err := r.settled(ctx, namespace, max(b.Account.Accepted-arrived, 0))
	if err != nil {
		return err
	}
	if arrivals, err = r.receiver.arrivals(ctx); err != nil {
		return err
	}
	b.Account.close(reports, arrivals, waiting)
	return nil
}
