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

package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/event"
	"github.com/postback-dev/postback-operator/dispatcher/filter"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

var errFault = errors.New("a fault of the dispatcher: see its log")

// store stores a delivery for each event and matching Postback, and returns what became of each, in the order of the
// events and of the Postbacks' names. When ctx ends, the rest is Unstored.
func (s *Server) store(ctx context.Context, namespace string, events []event.Posted) []eventResult {
	results := make([]eventResult, len(events))
	inRequest := make(chan struct{}, s.options.requestCreates)
	var stores sync.WaitGroup
	for i := range events {
		e := &events[i]
		routes := s.options.Routes.Match(namespace, e.Type)
		slices.SortFunc(routes, func(a, b *route.Route) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
		})
		in := filter.NewInput(&e.Event)
		deliveries := make([]deliveryResult, len(routes))
		results[i] = eventResult{ID: e.ID, Event: e.Type, Deliveries: deliveries}
		for j, r := range routes {
			if err := acquire(ctx, inRequest, s.creates); err != nil {
				deliveries[j] = deliveryResult{Postback: r.Name, Result: resultUnstored, err: err}
				continue
			}
			store := func() {
				defer release(inRequest, s.creates)
				deliveries[j] = s.storeOne(ctx, namespace, e, in, r)
			}
			if i == len(events)-1 && j == len(routes)-1 {
				store() // The last, or the only one, needs no goroutine, whose stack would have to grow first.
			} else {
				stores.Go(store)
			}
		}
	}
	stores.Wait()
	return results
}

// hold waits for as long as what was stored asks for, at most until ctx ends.
func hold(ctx context.Context, events []eventResult) {
	var longest time.Duration
	for i := range events {
		for _, d := range events[i].Deliveries {
			longest = max(longest, d.hold)
		}
	}
	if longest <= 0 {
		return
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// acquire takes a place in both, or fails when ctx ends.
func acquire(ctx context.Context, first, second chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case first <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case second <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-first
		return ctx.Err()
	}
}

func release(first, second chan struct{}) {
	<-second
	<-first
}

// storeOne stores the delivery of an event for one Postback, unless the Postback does not take it.
func (s *Server) storeOne(ctx context.Context, namespace string, e *event.Posted, in *filter.Input, r *route.Route) (result deliveryResult) {
	defer s.unstoredOnPanic(r, &result)
	if r.State == v1alpha1.PostbackDisabled {
		return deliveryResult{Postback: r.Name, Result: resultSkipped, Reason: reasonDisabled}
	}
	if skipped := s.skippedByFilter(ctx, e, in, r); skipped != nil {
		return *skipped
	}
	if s.options.Backlog.Full(r) {
		return deliveryResult{Postback: r.Name, Result: resultRefused, Reason: reasonBacklogFull}
	}
	return s.keep(ctx, namespace, e, r)
}

// keep makes the delivery of an event for a Postback, and has the intake store it.
func (s *Server) keep(ctx context.Context, namespace string, e *event.Posted, r *route.Route) (result deliveryResult) {
	reference := v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}
	d, err := delivery.New(namespace, reference, r.Format, &e.Event)
	if err != nil {
		return deliveryResult{Postback: r.Name, Result: resultUnstored, err: err}
	}
	ctx, span := s.options.Traces.Store(ctx, d)
	defer func() { span.EndStore(string(result.Result), result.Result == resultUnstored) }()
	if leavesNoRoom(d) {
		return deliveryResult{Postback: r.Name, Result: resultRefused, Reason: reasonTooLarge}
	}
	outcome := s.options.Intake.Store(ctx, &intake.Delivery{Object: d, Event: e, Route: r})
	result = deliveryResult{Postback: r.Name, Result: outcome.Result, Reason: outcome.Reason, err: outcome.Err, hold: outcome.Hold}
	if outcome.Result == resultStored || outcome.Result == resultDuplicate || outcome.Result == resultConflict {
		result.Delivery = d.Name
	}
	return result
}

// unstoredOnPanic keeps a fault in the storing of one delivery from ending the process, and what others have in flight.
func (s *Server) unstoredOnPanic(r *route.Route, result *deliveryResult) {
	if fault := recover(); fault != nil {
		s.options.Log.Error(errFault, "Delivery not stored", "postback", r.Key(), "cause", fault, "stack", string(debug.Stack()))
		*result = deliveryResult{Postback: r.Name, Result: resultUnstored, err: errFault}
	}
}

const (
	// maxStored is what etcd takes of one object by default, as JSON.
	maxStored = 1536 << 10
	// maxStatus is what the log of a delivery can grow to: 20 attempts whose texts are escaped.
	maxStatus = 320 << 10
	// maxRest is more than everything but body and status takes.
	maxRest = 16 << 10
	// worstEscape is how many bytes JSON can make of one: "<" becomes \u003c.
	worstEscape = 6
	// maxBody is the most that the API takes as a body.
	maxBody = 1 << 20
)

// leavesNoRoom reports whether a delivery leaves no room for its log: it could be stored, but no attempt be recorded; or
// has a larger body than the API takes.
func leavesNoRoom(d *v1alpha1.PostbackDelivery) bool {
	const room = maxStored - maxStatus
	if len(d.Spec.Body) > maxBody {
		return true
	}
	if len(d.Spec.Body)*worstEscape+maxRest < room {
		return false // the usual case, for nothing
	}
	encoded, err := json.Marshal(d)
	return err != nil || len(encoded) > room
}
