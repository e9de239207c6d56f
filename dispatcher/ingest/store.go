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
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/event"
	"github.com/postback-dev/postback-operator/dispatcher/filter"
	"github.com/postback-dev/postback-operator/dispatcher/format"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// createTries is how often to try if what AlreadyExists speaks of is gone by the time of the look.
const createTries = 3

var errFault = errors.New("a fault of the dispatcher: see its log")

var errRepeatedlyGone = errors.New("the delivery exists, and is gone when it is read, each time")

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;create

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
			} else {
				stores.Go(func() {
					defer release(inRequest, s.creates)
					deliveries[j] = s.storeOne(ctx, namespace, e, in, r)
				})
			}
		}
	}
	stores.Wait()
	return results
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

// storeOne stores the delivery of an event for one Postback and hands it over to be attempted. That does not wait for
// the rest of the request: the elected replica counts from the storing, and would make the same attempt.
func (s *Server) storeOne(ctx context.Context, namespace string, e *event.Posted, in *filter.Input, r *route.Route) (result deliveryResult) {
	defer s.unstoredOnPanic(r, &result)
	if r.State == v1alpha1.PostbackDisabled {
		return deliveryResult{Postback: r.Name, Result: resultSkipped, Reason: reasonDisabled}
	}
	if skipped := s.skippedByFilter(ctx, e, in, r); skipped != nil {
		return *skipped
	}
	if s.options.Backlog.Pending(namespace, r.UID) >= int(r.MaxPending) {
		return deliveryResult{Postback: r.Name, Result: resultRefused, Reason: reasonBacklogFull}
	}
	return s.create(ctx, namespace, e, r)
}

// create makes the delivery of an event for a Postback, and has it attempted.
func (s *Server) create(ctx context.Context, namespace string, e *event.Posted, r *route.Route) (result deliveryResult) {
	reference := v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}
	var stored *v1alpha1.PostbackDelivery
	begin := s.options.FirstAttempts.Reserve(r)
	if begin != nil {
		defer func() { begin(stored) }()
	}
	d, err := delivery.New(namespace, reference, r.Format, &e.Event)
	if err != nil {
		return deliveryResult{Postback: r.Name, Result: resultUnstored, err: err}
	}
	if begin == nil {
		d.Annotations = map[string]string{v1alpha1.DeferredAnnotation: "true"}
	}
	ctx, span := s.options.Traces.Store(ctx, d)
	defer func() { span.EndStore(string(result.Result), result.Result == resultUnstored) }()
	for range createTries {
		if leavesNoRoom(d) {
			return deliveryResult{Postback: r.Name, Result: resultRefused, Reason: reasonTooLarge}
		}
		err = s.options.Store.Create(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner))
		if err == nil {
			stored = d
			return deliveryResult{Postback: r.Name, Delivery: d.Name, Result: resultStored}
		}
		// The API server counts against a quota before it looks whether the name is taken.
		if !apierrors.IsAlreadyExists(err) && !isQuotaExceeded(err) {
			return refusal(r.Name, err)
		}
		existing := &v1alpha1.PostbackDelivery{}
		getErr := s.options.Store.Get(ctx, client.ObjectKeyFromObject(d), existing)
		switch {
		case getErr == nil:
			return compare(r.Name, d, e, existing)
		case !apierrors.IsNotFound(getErr):
			return refusal(r.Name, getErr)
		case isQuotaExceeded(err):
			return refusal(r.Name, err)
		}
	}
	return deliveryResult{Postback: r.Name, Result: resultUnstored, err: errRepeatedlyGone}
}

// unstoredOnPanic keeps a fault in the storing of one delivery from ending the process, and what others have in flight.
func (s *Server) unstoredOnPanic(r *route.Route, result *deliveryResult) {
	if fault := recover(); fault != nil {
		s.options.Log.Error(errFault, "Delivery not stored", "postback", r.Key(), "cause", fault, "stack", string(debug.Stack()))
		*result = deliveryResult{Postback: r.Name, Result: resultUnstored, err: errFault}
	}
}

// compare says whether what exists under an event's id is that event. What exists keeps the format in which it was stored,
// whatever the Postback asks for now.
func compare(postback string, d *v1alpha1.PostbackDelivery, e *event.Posted, existing *v1alpha1.PostbackDelivery) deliveryResult {
	stored := &existing.Spec
	body, err := format.Body(stored.Format, existing.Namespace, e.StoredAt(stored.Event.CreatedAt.Time))
	if err != nil {
		return deliveryResult{Postback: postback, Result: resultUnstored, err: err}
	}
	if stored.PostbackRef == d.Spec.PostbackRef && stored.Event.ID == e.ID && stored.Event.Type == e.Type && stored.Body == string(body) {
		return deliveryResult{Postback: postback, Delivery: existing.Name, Result: resultDuplicate}
	}
	return deliveryResult{Postback: postback, Delivery: existing.Name, Result: resultConflict}
}

// refusal says what an error of the API server means. Whatever is not known to be final is Unstored, so that no event
// is lost.
func refusal(postback string, err error) deliveryResult {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return deliveryResult{Postback: postback, Result: resultSkipped, Reason: reasonNamespaceTerminating}
	case isNamespaceNotFound(err):
		return deliveryResult{Postback: postback, Result: resultSkipped, Reason: reasonNamespaceNotFound}
	case isQuotaExceeded(err):
		return deliveryResult{Postback: postback, Result: resultRefused, Reason: reasonQuotaExceeded}
	case delivery.IsTooLarge(err):
		return deliveryResult{Postback: postback, Result: resultRefused, Reason: reasonTooLarge}
	case apierrors.IsInvalid(err):
		// The API server's message may quote the body.
		err = errors.New("the API server says that the delivery is invalid")
	}
	return deliveryResult{Postback: postback, Result: resultUnstored, err: err}
}

func isNamespaceNotFound(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && apierrors.IsNotFound(err) && status.ErrStatus.Details != nil && status.ErrStatus.Details.Kind == "namespaces"
}

func isQuotaExceeded(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
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
