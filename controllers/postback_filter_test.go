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

package controllers

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// A filter that does not compile loses no event: the previous filter decides about new events.
func TestInvalidFilterKeepsTheLastRoute(t *testing.T) {
	b := newBench(t)
	const good, broken = `event.data.sale.amount > 1000`, "event.data.sale.amount >\n nothing("
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.Filter = good }))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if got := b.route("crm").Filter; got != good {
		t.Fatalf("the route has the filter %q", got)
	}
	b.told()
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) {
		p.Spec.Filter, p.Spec.Triggers, p.Spec.State = broken, []v1alpha1.Trigger{"*"}, v1alpha1.PostbackPaused
	})
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.InvalidFilterReason, "line 2, column 10")
	r := b.route("crm")
	if r == nil || r.Filter != good || len(r.Triggers) != 2 || r.State != v1alpha1.PostbackPaused {
		t.Errorf("the route is %+v, want the one of before with the new state", r)
	}
	if told := b.told(); len(told) != 1 {
		t.Errorf("events %q, want one", told)
	}
	// A rotation that is requested meanwhile is passed on nevertheless.
	annotate(b, &v1alpha1.Postback{}, "crm", v1alpha1.RotateSecretAnnotation, "1")
	b.settle("crm")
	if handled := b.postback("crm").Status.LastHandledRotateSecret; handled != "1" {
		t.Errorf("handled %q", handled)
	}
	modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.Filter = "event.event != 'sale.created'" })
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if r := b.route("crm"); r.Filter != "event.event != 'sale.created'" || len(r.Triggers) != 1 {
		t.Errorf("the route is %+v", r)
	}
	if meta.FindStatusCondition(b.postback("crm").Status.Conditions, v1alpha1.StalledCondition) != nil {
		t.Error("still Stalled")
	}
}

// A Postback that never had a valid filter has no route.
func TestInvalidFilterOfANewPostback(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.Filter = "1" }))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateStalled, v1alpha1.InvalidFilterReason, "must give true or false")
	if b.route("crm") != nil {
		t.Error("there is a route")
	}
}
