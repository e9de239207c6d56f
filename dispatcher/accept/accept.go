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

// Package accept accepts posted events: it applies the filters and bounds of the matching Postbacks and stores the
// deliveries. The doors, dispatcher/httpapi and dispatcher/natsapi, handle transport, decoding and the rights of
// producers.
package accept

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// requestStores and totalStores are the default bounds on concurrent stores, for one request and for the
	// Acceptor.
	requestStores = 16
	totalStores   = 256
	// maxDeliveries bounds the deliveries of one request. A single event may exceed it, because it cannot be divided.
	maxDeliveries = 10_000
)

// Routes finds the Postbacks that match an event.
type Routes interface {
	// Match returns the routes of a namespace that are subscribed to an event type. The caller owns the slice.
	Match(namespace, eventType string) []*route.Route
}

// Backlog knows how many deliveries of a Postback are unfinished.
type Backlog interface {
	// Full reports whether the unfinished deliveries of a Postback have reached its spec.limits.maxPending.
	Full(r *route.Route) bool
}

// Intake stores deliveries until their first attempt.
type Intake interface {
	// Store stores one delivery.
	Store(ctx context.Context, d *intake.Delivery) intake.Outcome
}

// Options of an Acceptor. Intake, Routes and Backlog are required.
type Options struct {
	Intake  Intake
	Routes  Routes
	Backlog Backlog
	// Synced reports whether Routes and Backlog are loaded. Before that, an event would match no Postback and be
	// lost, so the doors accept none. The default is always true.
	Synced func() bool
	// Remember keeps the stored part of a failed request in memory, so that a repeat skips it. It is safe only if the
	// process ends when the store loses data: internal/rollback ensures this for the API server; nothing does for a
	// stream.
	Remember bool
	// RequestStores and TotalStores bound the concurrent stores of one request and of all requests. The defaults are
	// 16 and 256.
	RequestStores, TotalStores int
	// Events records a Kubernetes Event on each Postback whose filter fails. It may be nil.
	Events events.EventRecorder
	// Traces records the spans of stored deliveries. It is optional.
	Traces *trace.Traces
	// Clock expires what Remember keeps. The default is the real clock.
	Clock clock.PassiveClock
	Log   logr.Logger
}

// Acceptor accepts posted events. It is safe for concurrent use.
type Acceptor struct {
	options Options
	// stores holds one element for each store in progress.
	stores   chan struct{}
	filters  filter.Cache
	progress *progress
}

// New returns an Acceptor, or an error if a part is missing.
func New(o Options) (*Acceptor, error) {
	if o.Intake == nil || o.Routes == nil || o.Backlog == nil {
		return nil, errors.New("an intake, routes and a backlog are required")
	}
	if o.Synced == nil {
		o.Synced = func() bool { return true }
	}
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	o.RequestStores = cmp.Or(o.RequestStores, requestStores)
	o.TotalStores = cmp.Or(o.TotalStores, totalStores)
	a := &Acceptor{options: o, stores: make(chan struct{}, o.TotalStores)}
	if o.Remember {
		a.progress = &progress{clock: o.Clock, known: map[types.NamespacedName]step{}}
	}
	return a, nil
}

// Synced reports whether the Postbacks are loaded. The doors accept no events before.
func (a *Acceptor) Synced() bool { return a.options.Synced() }

// TooManyError reports a request for more deliveries than one request may store. None of them is stored.
type TooManyError struct {
	// Deliveries is the number that the request needs, Max the bound, and Fit the number of its first events that fit
	// within the bound.
	Deliveries, Max, Fit int
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d deliveries, at most %d", e.Deliveries, e.Max)
}

// Accept stores a delivery for each event and each Postback of the namespace that matches it. When ctx ends, the
// remaining deliveries are Unstored. The only error is a *TooManyError.
func (a *Acceptor) Accept(ctx context.Context, namespace string, posted []event.Posted) (Results, error) {
	matched := a.match(namespace, posted)
	if deliveries, fit := fitting(matched); fit < len(posted) {
		return nil, &TooManyError{Deliveries: deliveries, Max: maxDeliveries, Fit: fit}
	}
	return a.store(ctx, namespace, posted, matched), nil
}

// match returns the matching routes of each event, sorted by name.
func (a *Acceptor) match(namespace string, posted []event.Posted) [][]*route.Route {
	matched := make([][]*route.Route, len(posted))
	for i := range posted {
		matched[i] = a.options.Routes.Match(namespace, posted[i].Type)
		slices.SortFunc(matched[i], func(a, b *route.Route) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
		})
	}
	return matched
}

// fitting returns the number of deliveries of a request, and how many of its first events fit into one request.
func fitting(matched [][]*route.Route) (deliveries, events int) {
	for i, routes := range matched {
		deliveries += len(routes)
		if i == 0 || deliveries <= maxDeliveries {
			events = i + 1
		}
	}
	return deliveries, events
}
