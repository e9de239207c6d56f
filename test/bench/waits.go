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

// manyWaiting measures the cost of deliveries that wait for paused Postbacks, and how soon the programs are ready
// after a restart.
func (r *rig) manyWaiting(ctx context.Context, o *backlogOptions, postbacks int) (*backlog, error) {
	namespace := fmt.Sprintf("bench-waits-%d", postbacks)
	if err := r.receiver.forget(ctx); err != nil {
		return nil, err
	}
	token, types, err := r.pausedPostbacks(ctx, namespace, postbacks)
	if err != nil {
		return nil, err
	}
	empty, err := r.restarted(ctx)
	if err != nil {
		return nil, err
	}
	report, err := call[load.GenerateReport](ctx, load.Generate, load.GenerateOrders{
		URLs: r.ingestURLs(namespace), Token: token, Prefix: namespace, Types: types, Events: o.waiting, Size: r.options.size,
		Connections: r.options.connections, Tries: 1,
	})
	if err != nil {
		return nil, err
	}
	b := &backlog{Name: fmt.Sprintf("%s-%d", backlogWaiting, postbacks), Title: fmt.Sprintf("%d deliveries wait for %d paused Postbacks", o.waiting, postbacks)}
	b.add("stored", "a second", float64(accepted([]*load.GenerateReport{&report}))/report.Elapsed.Seconds(), "")
	// The dispatcher may still be moving the deliveries to the waiting stream.
	if err := r.quiet(ctx, namespace); err != nil {
		return nil, err
	}
	objects, err := r.total(ctx, namespace)
	if err != nil {
		return nil, err
	}
	full, err := r.memory()
	if err != nil {
		return nil, err
	}
	again, err := r.restarted(ctx)
	if err != nil {
		return nil, err
	}
	const without = "without them"
	b.add("objects", "", float64(objects), "0")
	if r.nats != nil {
		b.compare("memory of the NATS server", "MiB", full["nats-server"], empty.memory["nats-server"], without, "150 MiB more")
		b.compare("NATS server ready after kill -9", "s", again.nats.Seconds(), empty.nats.Seconds(), without, "at most 10 s")
	}
	b.compare("memory of a dispatcher", "MiB", full["dispatcher 0"], empty.memory["dispatcher 0"], without, "50 MiB more")
	b.compare("memory of a dispatcher after its restart", "MiB", again.memory["dispatcher 0"], empty.memory["dispatcher 0"], without, "50 MiB more")
	b.compare("dispatcher ready after its restart", "s", again.dispatcher.Seconds(), empty.dispatcher.Seconds(), without, "at most 10 s")
	if err := r.closeAccount(ctx, b, namespace, []*load.GenerateReport{&report}); err != nil {
		return nil, err
	}
	return b, r.discard(ctx, namespace)
}

// pausedPostbacks creates paused Postbacks in their own namespace, and returns the event type of each.
func (r *rig) pausedPostbacks(ctx context.Context, namespace string, n int) (token string, types []string, err error) {
	if token, err = r.namespace(ctx, namespace); err != nil {
		return "", nil, err
	}
	made := make([]*v1alpha1.Postback, n)
	types = make([]string, n)
	for i := range made {
		types[i] = fmt.Sprintf("bench.waits-%d", i)
		made[i] = r.backlogPostback(namespace, fmt.Sprintf("waits-%d", i), troubledName, v1alpha1.Trigger(types[i]))
		made[i].Spec.State = v1alpha1.PostbackPaused
	}
	return token, types, r.create(ctx, made...)
}

// restart has the time until programs were ready again, and their memory then.
type restart struct {
	nats, dispatcher time.Duration
	memory           map[string]float64
}

// restarted kills the NATS server, restarts it and a dispatcher, and waits until both are ready.
func (r *rig) restarted(ctx context.Context) (*restart, error) {
	var taken restart
	if r.nats != nil {
		node := r.nats.Nodes[0]
		if err := node.Kill(); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := node.Start(ctx); err != nil {
			return nil, err
		}
		taken.nats = time.Since(began)
	}
	replica := r.dispatchers[0]
	if _, err := replica.Terminate(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := replica.Restart(ctx); err != nil {
		return nil, err
	}
	taken.dispatcher = time.Since(began)
	const calm = 5 * time.Second
	if err := rest(ctx, calm); err != nil {
		return nil, err
	}
	var err error
	taken.memory, err = r.memory()
	return &taken, err
}

// memory returns the resident memory of each process in MiB.
func (r *rig) memory() (map[string]float64, error) {
	all := map[string]float64{}
	for name, pid := range r.pids() {
		bytes, err := residentOf(pid)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		all[name] = float64(bytes) / (1 << 20)
	}
	return all, nil
}

// quiet returns once the number of a namespace's objects has not changed for a while.
func (r *rig) quiet(ctx context.Context, namespace string) error {
	const unchanged = 5
	last, same := -1, 0
	for same < unchanged {
		n, err := r.total(ctx, namespace)
		if err != nil {
			return err
		}
		if same++; n != last {
			last, same = n, 0
		}
		if err := rest(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}
