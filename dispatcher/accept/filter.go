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

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// skippedByFilter returns the result Skipped or Unstored if the filter does not select the event, and nil if it does.
// If the filter fails, the event is skipped, because its relevance is unknown.
func (a *Acceptor) skippedByFilter(ctx context.Context, e *event.Posted, in *filter.Input, r *route.Route) *DeliveryResult {
	if r.Filter == "" {
		return nil
	}
	matches, err := a.matches(ctx, r.Filter, in)
	switch {
	case err == nil && matches:
		return nil
	case err == nil:
		return &DeliveryResult{Postback: r.Name, Result: intake.Skipped, Reason: FilteredOut}
	case ctx.Err() != nil:
		// The filter did not fail: the time ran out.
		return &DeliveryResult{Postback: r.Name, Result: intake.Unstored, Err: ctx.Err()}
	}
	filterFailures.Inc()
	a.announceFilterFailed(e.Type, r, err)
	return &DeliveryResult{Postback: r.Name, Result: intake.Skipped, Reason: FilterFailed}
}

func (a *Acceptor) matches(ctx context.Context, expression string, in *filter.Input) (bool, error) {
	f, err := a.filters.Get(expression)
	if err != nil {
		return false, err
	}
	return f.Matches(ctx, in)
}

// announceFilterFailed emits a Kubernetes Event on the Postback. The error quotes no value of the posted event.
func (a *Acceptor) announceFilterFailed(eventType string, r *route.Route, err error) {
	if a.options.Events == nil {
		return
	}
	a.options.Events.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.FilterFailedReason, "Filter",
		"spec.filter fails on an event of type %s, which is not sent: %v. If a field may be missing, check it first with has(event.data.field).", eventType, err)
}
