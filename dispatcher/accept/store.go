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

package accept

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/fault"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

var errFault = errors.New("a fault of the dispatcher: see its log")

// store stores a delivery for each event and matching Postback. The results are in the order of the events and of the
// Postbacks' names. When ctx ends, the remaining deliveries are Unstored.
func (a *Acceptor) store(ctx context.Context, namespace string, events []event.Posted, matched [][]*route.Route) Results {
	results := make(Results, len(events))
	inRequest := make(chan struct{}, a.options.RequestStores)
	first := firstByID(events)
	var running sync.WaitGroup
	for i := range events {
		e := &events[i]
		deliveries := make([]DeliveryResult, len(matched[i]))
		results[i] = EventResult{ID: e.ID, Event: e.Type, Deliveries: deliveries}
		if first[i] != i {
			continue
		}
		in := filter.NewInput(&e.Event)
		for j, r := range matched[i] {
			if err := acquire(ctx, inRequest, a.stores); err != nil {
				deliveries[j] = DeliveryResult{Postback: r.Name, Result: intake.Unstored, Err: err}
				continue
			}
			storeThis := func() {
				defer release(inRequest, a.stores)
				deliveries[j] = a.storeOne(ctx, namespace, e, in, r)
			}
			if i == len(events)-1 && j == len(matched[i])-1 {
				storeThis() // The last store runs here: a goroutine would first have to grow its stack.
			} else {
				running.Go(storeThis)
			}
		}
	}
	running.Wait()
	for i := range events {
		if first[i] != i {
			repeat(results[i].Deliveries, results[first[i]].Deliveries)
		}
	}
	a.progress.remember(namespace, events, results)
	return results
}

// firstByID maps the index of each event to that of the first event with the same id. Both are the same event.
func firstByID(events []event.Posted) []int {
	byID := make(map[string]int, len(events))
	first := make([]int, len(events))
	for i := range events {
		j, known := byID[events[i].ID]
		if !known {
			j, byID[events[i].ID] = i, i
		}
		first[i] = j
	}
	return first
}

// repeat derives the results of a repeated event within one request from those of its first occurrence.
func repeat(second, first []DeliveryResult) {
	copy(second, first)
	for i := range second {
		if second[i].Result == intake.Stored {
			second[i].Result = intake.Duplicate
		}
	}
}

// acquire gets a slot of both semaphores, or fails when ctx ends.
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

// storeOne stores the delivery of an event for one Postback, unless the Postback is disabled, filters the event out
// or is full.
func (a *Acceptor) storeOne(ctx context.Context, namespace string, e *event.Posted, in *filter.Input, r *route.Route) (result DeliveryResult) {
	// A panic must not end the other stores in flight.
	defer fault.Recover(a.options.Log, "Delivery not stored", func() []any {
		result = DeliveryResult{Postback: r.Name, Result: intake.Unstored, Err: errFault}
		return []any{"postback", r.Key()}
	})
	if r.State == v1alpha1.PostbackDisabled {
		return DeliveryResult{Postback: r.Name, Result: intake.Skipped, Reason: Disabled}
	}
	if skipped := a.skippedByFilter(ctx, e, in, r); skipped != nil {
		return *skipped
	}
	if name, known := a.progress.stored(namespace, e, r); known {
		return DeliveryResult{Postback: r.Name, Delivery: name, Result: intake.Duplicate}
	}
	if a.options.Backlog.Full(r) {
		return DeliveryResult{Postback: r.Name, Result: intake.Refused, Reason: BacklogFull}
	}
	return a.keep(ctx, namespace, e, r)
}

// keep builds the delivery of an event for a Postback and gives it to the intake.
func (a *Acceptor) keep(ctx context.Context, namespace string, e *event.Posted, r *route.Route) (result DeliveryResult) {
	reference := v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}
	d, err := delivery.New(namespace, reference, r.Format, &e.Event)
	if err != nil {
		return DeliveryResult{Postback: r.Name, Result: intake.Unstored, Err: err}
	}
	ctx, span := a.options.Traces.Store(ctx, d)
	defer func() { span.EndStore(string(result.Result), result.Result == intake.Unstored) }()
	if leavesNoRoom(d) {
		return DeliveryResult{Postback: r.Name, Result: intake.Refused, Reason: intake.TooLarge}
	}
	outcome := a.options.Intake.Store(ctx, &intake.Delivery{Object: d, Event: e, Route: r})
	outcome.Announce(a.options.Events, r)
	result = DeliveryResult{
		Postback: r.Name, Result: outcome.Result, Reason: outcome.Reason, Message: outcome.Message, Err: outcome.Err, Delay: outcome.Delay,
	}
	if outcome.Result == intake.Stored || outcome.Result == intake.Duplicate || outcome.Result == intake.Conflict {
		result.Delivery = d.Name
	}
	return result
}

const (
	// maxStored is the default size limit of an etcd object, in bytes of JSON.
	maxStored = 1536 << 10
	// maxStatus is the largest status in bytes: 20 attempts with escaped texts.
	maxStatus = 320 << 10
	// maxRest exceeds the size in bytes of all fields other than body and status.
	maxRest = 16 << 10
	// worstEscape is the largest factor by which JSON escaping grows a byte: "<" becomes \u003c.
	worstEscape = 6
	// maxBody is the API's bound for a body, in bytes.
	maxBody = 1 << 20
)

// leavesNoRoom reports whether the body exceeds the API's bound, or the delivery leaves too little room for the
// record of its attempts.
func leavesNoRoom(d *v1alpha1.PostbackDelivery) bool {
	const room = maxStored - maxStatus
	if len(d.Spec.Body) > maxBody {
		return true
	}
	if len(d.Spec.Body)*worstEscape+maxRest < room {
		return false // The body is usually small: skip the encoding.
	}
	encoded, err := json.Marshal(d)
	return err != nil || len(encoded) > room
}
