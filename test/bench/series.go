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
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/bench/load"
)

// seriesEvents is the number of events at a point of a series.
const seriesEvents = 1500

// seriesBytes bounds the bytes that a point of the series of bodies stores, because etcd keeps each version for
// minutes.
const seriesBytes = 32 << 20

// series measures the same load repeatedly, with different values of one variable.
type series struct {
	// Name is the name on the command line, What describes the variable.
	Name, What string
	Values     []int
	// measure measures the load at one value. The values rise.
	measure func(r *rig, ctx context.Context, value int) (figure, error)
	Points  []point
}

// point is a value of a series with its measurements.
type point struct {
	Value  int
	Figure figure
}

// allSeries returns all series in the order of their measurement: those that cannot be undone come last.
func allSeries() []*series {
	return []*series{
		{Name: "fanout", What: "matching Postbacks of each event", Values: []int{1, 10, 100}, measure: (*rig).withFanOut},
		{Name: "bodies", What: "bytes of an event", Values: []int{200, 1500, 16 << 10, 64 << 10, 250_000}, measure: (*rig).withBodies},
		{Name: "retries", What: "deliveries that fall due at once", Values: []int{2000}, measure: (*rig).withDue},
		{Name: "postbacks", What: "other Postbacks in the cluster", Values: []int{10, 300}, measure: (*rig).withCrowd},
		{Name: "replicas", What: "dispatcher replicas", Values: []int{1, 2, 4}, measure: (*rig).withReplicas},
		{Name: "unfinished", What: "unfinished deliveries of another Postback", Values: []int{0, 3000}, measure: (*rig).withUnfinished},
	}
}

// chosenSeries returns the series named as "name" or "name=value:value", separated by commas.
func chosenSeries(names string) ([]*series, error) {
	asked := map[string]string{}
	for _, one := range listed(names) {
		name, values, _ := strings.Cut(one, "=")
		asked[name] = values
	}
	var chosen []*series
	for _, s := range allSeries() {
		values, ok := asked[s.Name]
		delete(asked, s.Name)
		if !ok {
			continue
		}
		if values != "" {
			s.Values = nil
			for _, value := range strings.Split(values, ":") {
				n, err := strconv.Atoi(value)
				if err != nil {
					return nil, fmt.Errorf("a value of the series %s: %w", s.Name, err)
				}
				s.Values = append(s.Values, n)
			}
		}
		slices.Sort(s.Values)
		chosen = append(chosen, s)
	}
	for name := range asked {
		return nil, fmt.Errorf("no series %q", name)
	}
	return chosen, nil
}

// play measures all values.
func (s *series) play(ctx context.Context, r *rig) error {
	for _, value := range s.Values {
		f, err := s.measure(r, ctx, value)
		if err != nil {
			return fmt.Errorf("series %s at %d: %w", s.Name, value, err)
		}
		s.Points = append(s.Points, point{value, f})
	}
	return nil
}

func (r *rig) saturate(ctx context.Context, t traffic) (figure, error) {
	if t.events == 0 {
		t.events = seriesEvents
	}
	t.connections = r.options.connections
	return r.one(ctx, t)
}

func (r *rig) withFanOut(ctx context.Context, n int) (figure, error) {
	return r.saturate(ctx, traffic{name: fmt.Sprintf("fanout-%d", n), fanOut: n, events: max(seriesEvents/n, 1)})
}

func (r *rig) withBodies(ctx context.Context, n int) (figure, error) {
	return r.saturate(ctx, traffic{name: fmt.Sprintf("bodies-%d", n), size: n, events: min(seriesEvents, seriesBytes/n)})
}

func (r *rig) withReplicas(ctx context.Context, n int) (figure, error) {
	for len(r.dispatchers) < n {
		if err := r.addReplica(ctx); err != nil {
			return figure{}, err
		}
	}
	return r.saturate(ctx, traffic{name: fmt.Sprintf("replicas-%d", n)})
}

// withCrowd measures beside n other Postbacks, and how long a scrape of the manager takes then.
func (r *rig) withCrowd(ctx context.Context, n int) (figure, error) {
	const namespace = "bench-crowd"
	var have v1alpha1.PostbackList
	if err := r.api.List(ctx, &have, client.InNamespace(namespace)); err != nil {
		return figure{}, err
	}
	if len(have.Items) == 0 {
		if _, err := r.namespace(ctx, namespace); err != nil {
			return figure{}, err
		}
	}
	var more []*v1alpha1.Postback
	for i := len(have.Items); i < n; i++ {
		more = append(more, r.postback(namespace, fmt.Sprintf("other-%05d", i), "bench.never"))
	}
	began := time.Now()
	if len(more) > 0 {
		if err := r.create(ctx, more...); err != nil {
			return figure{}, err
		}
	}
	if err := r.say("%d more Postbacks were ready after %s", len(more), time.Since(began).Round(time.Second)); err != nil {
		return figure{}, err
	}
	scrape, err := scrapeTime(ctx, r.manager.MetricsURL())
	if err != nil {
		return figure{}, err
	}
	f, err := r.saturate(ctx, traffic{name: fmt.Sprintf("postbacks-%d", n)})
	f.note("scrape of the manager, ms", milliseconds(scrape))
	return f, err
}

// withUnfinished measures beside a paused Postback with n waiting deliveries, and how long a dispatcher takes to
// start then. The deliveries stay, because their deletion would take longer than the measurement.
func (r *rig) withUnfinished(ctx context.Context, n int) (figure, error) {
	have, err := r.count(ctx, waitingNamespace, unfinishedSelector)
	if err != nil {
		return figure{}, err
	}
	if n > have {
		if err := r.waiting(ctx, waitingNamespace, n-have, 1); err != nil {
			return figure{}, err
		}
	}
	replica := r.dispatchers[0]
	if _, err := replica.Terminate(ctx); err != nil {
		return figure{}, err
	}
	began := time.Now()
	if err := replica.Restart(ctx); err != nil {
		return figure{}, err
	}
	start := time.Since(began)
	f, err := r.saturate(ctx, traffic{name: fmt.Sprintf("unfinished-%d", n)})
	f.note("start of a dispatcher, s", start.Seconds())
	return f, err
}

const waitingNamespace = "bench-waiting"

// waiting creates paused Postbacks, unless they exist, and stores n more events for them in turn.
func (r *rig) waiting(ctx context.Context, namespace string, n, postbacks int) error {
	made, types := make([]*v1alpha1.Postback, postbacks), make([]string, postbacks)
	for i := range made {
		types[i] = fmt.Sprintf("bench.waits-%d", i)
		made[i] = r.postback(namespace, fmt.Sprintf("waits-%d", i), v1alpha1.Trigger(types[i]))
		made[i].Spec.State = v1alpha1.PostbackPaused
	}
	token, err := r.namespace(ctx, namespace)
	switch {
	case err == nil:
		err = r.create(ctx, made...)
	case apierrors.IsAlreadyExists(err):
		token, err = r.op.SenderToken(ctx, namespace)
	}
	if err != nil {
		return err
	}
	_, err = call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
		URLs: r.ingestURLs(namespace), Token: token, Prefix: fmt.Sprintf("%s-%d", namespace, n), Types: types, Events: n, Size: r.options.size,
		Connections: r.options.connections,
	})
	return err
}

// duePostbacks is the number of Postbacks whose deliveries fall due at the same time.
const duePostbacks = 20

// withDue enables paused Postbacks, so that n deliveries fall due at once, and meanwhile measures the latency of
// other API requests.
func (r *rig) withDue(ctx context.Context, n int) (figure, error) {
	const probeEvery, probeFor = 20 * time.Millisecond, 10 * time.Second
	namespace := fmt.Sprintf("bench-due-%d", n)
	if err := r.waiting(ctx, namespace, n, duePostbacks); err != nil {
		return figure{}, err
	}
	if err := r.receiver.forget(ctx); err != nil {
		return figure{}, err
	}
	began := time.Now()
	probed := make(chan error, 1)
	var probe load.LoopReport
	go func() {
		var err error
		probe, err = call[load.LoopReport](ctx, load.Probe, load.ProbeOrders{
			Kubeconfig: r.cp.Kubeconfig, Namespace: namespace, Postback: "waits-0", Every: probeEvery, For: probeFor,
		})
		probed <- err
	}()
	if err := r.enableAll(ctx, namespace); err != nil {
		return figure{}, err
	}
	if err := r.receiver.await(ctx, "", n, arrivalPatience); err != nil {
		return figure{}, err
	}
	arrivals, err := r.receiver.arrivals(ctx)
	if err != nil {
		return figure{}, err
	}
	report := load.GenerateReport{}
	for _, a := range arrivals {
		report.Posted = append(report.Posted, load.Posted{ID: a.ID, Due: began.UnixNano(), Accepted: began.UnixNano(), Deliveries: 1})
	}
	t := traffic{name: fmt.Sprintf("due-%d", n), events: n, types: []string{""}}
	f := t.judge(report, arrivals)
	f.Lost = n - len(arrivals)
	if err := <-probed; err != nil {
		return f, err
	}
	f.note("p99 of somebody else's read, ms", percentilesOf(probe.Took).P99)
	if err := r.say("%d due at once: the last arrived after %s, p99 of a probe %.0f ms", n, f.Elapsed.Round(time.Millisecond), percentilesOf(probe.Took).P99); err != nil {
		return f, err
	}
	return f, r.remove(ctx, namespace)
}

func (r *rig) enableAll(ctx context.Context, namespace string) error {
	var list v1alpha1.PostbackList
	if err := r.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		p := &list.Items[i]
		before := p.DeepCopy()
		p.Spec.State = v1alpha1.PostbackEnabled
		if err := r.api.Patch(ctx, p, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("enable a Postback: %w", err)
		}
	}
	return nil
}

// unfinishedSelector selects deliveries that are not Delivered. In these runs none is Failed.
var unfinishedSelector = fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered))
