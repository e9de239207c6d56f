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

package attempt

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

const (
	// FirstAttemptWindow is the time, from storing a delivery, within which its replica may begin the first attempt.
	// Afterwards the elected replica may.
	FirstAttemptWindow = 5 * time.Second

	firstQueueLength = 1024
	firstWorkers     = 64
)

// Routes finds the route of a delivery.
type Routes interface {
	// Of returns nil if there is none.
	Of(namespace string, postback v1alpha1.PostbackReference) *route.Route
}

// First makes the first attempts of the deliveries that this replica has stored, from memory.
type First struct {
	attempter *Attempter
	routes    Routes
	clock     clock.Clock
	queue     chan offer

	mu     sync.RWMutex
	closed bool
}

type offer struct {
	delivery *v1alpha1.PostbackDelivery
	since    time.Time
}

// NewFirst returns a First that does nothing until Run.
func NewFirst(attempter *Attempter, routes Routes, c clock.Clock) *First {
	return &First{attempter: attempter, routes: routes, clock: c, queue: make(chan offer, firstQueueLength)}
}

// Reserve implements ingest.FirstAttempts.
func (f *First) Reserve(r *route.Route) func(*v1alpha1.PostbackDelivery) {
	if r.State != v1alpha1.PostbackEnabled || len(f.queue) == cap(f.queue) {
		return nil
	}
	since := f.clock.Now()
	return func(d *v1alpha1.PostbackDelivery) {
		if d != nil {
			f.offer(d, since)
		}
	}
}

func (f *First) offer(d *v1alpha1.PostbackDelivery, since time.Time) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		firstAttemptsLeft.Inc()
		return
	}
	select {
	case f.queue <- offer{delivery: d, since: since}:
	default:
		firstAttemptsLeft.Inc()
	}
}

// Close takes no further deliveries; Run returns when those that it has are done.
func (f *First) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.queue)
	}
}

// Run makes attempts until Close. When ctx ends, the attempts in flight are cut short.
func (f *First) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range firstWorkers {
		workers.Go(func() {
			for o := range f.queue {
				f.attempt(ctx, o)
			}
		})
	}
	workers.Wait()
}

func (f *First) attempt(ctx context.Context, o offer) {
	if ctx.Err() != nil || f.clock.Since(o.since) > FirstAttemptWindow {
		firstAttemptsLeft.Inc()
		return
	}
	r := f.routes.Of(o.delivery.Namespace, o.delivery.Spec.PostbackRef)
	if r == nil || r.State != v1alpha1.PostbackEnabled {
		return
	}
	_, err := f.attempter.Attempt(ctx, o.delivery, r, Cause{})
	if err != nil && !errors.Is(err, delivery.ErrGone) && !errors.Is(err, ErrInFlight) {
		logf.FromContext(ctx).Error(err, "First attempt not recorded; it will be repeated", "delivery", klog.KObj(o.delivery))
	}
}
