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
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const dispatcherFieldOwner = "postback-dispatcher"

// tellHealth writes the condition EndpointHealthy by server-side apply, as the dispatcher does.
func (b *bench) tellHealth(name string, status metav1.ConditionStatus, message string) {
	b.t.Helper()
	b.must(b.direct.Status().Apply(b.ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Postback",
		"metadata": map[string]any{"namespace": b.ns, "name": name},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": v1alpha1.EndpointHealthyCondition, "status": string(status), "reason": string(v1alpha1.OutcomeFailed5xx),
			"message": message, "lastTransitionTime": "2026-01-31T12:00:00Z",
		}}},
	}}), client.FieldOwner(dispatcherFieldOwner), client.ForceOwnership))
}

func (b *bench) health(name string) metav1.Condition {
	b.t.Helper()
	condition := meta.FindStatusCondition(b.postback(name).Status.Conditions, v1alpha1.EndpointHealthyCondition)
	if condition == nil {
		b.t.Fatalf("the condition is lost: %s", describe(b.postback(name).Status.Conditions))
	}
	return *condition
}

// The manager and the dispatcher write one list of conditions. Neither loses a condition of the other.
func TestTwoWritersOfOneStatus(t *testing.T) {
	b := newBench(t)
	b.routed("crm")
	// The dispatcher writes a new condition between each read and write of the manager.
	told := 0
	for round := range 10 {
		generation := b.postback("crm").Generation
		modify(b, &v1alpha1.Postback{}, "crm", func(p *v1alpha1.Postback) { p.Spec.DisplayName = fmt.Sprintf("CRM %d", round) })
		between := true
		b.faulty.refuse = func(what string, object client.Object) error {
			if _, ok := object.(*v1alpha1.Postback); ok && what == "patch status" && between {
				between = false
				told++
				b.tellHealth("crm", metav1.ConditionFalse, fmt.Sprintf("failure %d", told))
			}
			return nil
		}
		result, err := b.postbacks.Reconcile(b.ctx, ctrl.Request{NamespacedName: b.key("crm")})
		if err != nil || result.RequeueAfter == 0 {
			t.Fatalf("a conflict gave %+v, %v; want another pass", result, err)
		}
		b.settle("crm")
		b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
		if got := b.health("crm"); got.Message != fmt.Sprintf("failure %d", told) {
			t.Fatalf("round %d: %+v", round, got)
		}
		ready := meta.FindStatusCondition(b.postback("crm").Status.Conditions, v1alpha1.ReadyCondition)
		if ready.ObservedGeneration != generation+1 {
			t.Fatalf("Ready is of generation %d, want %d", ready.ObservedGeneration, generation+1)
		}
	}
	b.faulty.refuse = nil
	// A write of the dispatcher alone causes no write of the manager.
	before := b.faulty.count()
	for round := range 10 {
		b.tellHealth("crm", metav1.ConditionTrue, fmt.Sprintf("success %d", round))
		b.settle("crm")
	}
	if writes := b.faulty.count() - before; writes != 0 {
		t.Errorf("%d writes of the manager after those of the dispatcher: %v", writes, b.faulty.kinds)
	}
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if got := b.health("crm"); got.Message != "success 9" {
		t.Errorf("%+v", got)
	}
	b.checkOwners("crm")
}

// checkOwners checks the field managers in the list of conditions.
func (b *bench) checkOwners(name string) {
	b.t.Helper()
	for _, entry := range b.postback(name).ManagedFields {
		if entry.Subresource != "status" {
			continue
		}
		var fields map[string]any
		b.must(json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields))
		conditions, _, err := unstructured.NestedMap(fields, "f:status", "f:conditions")
		b.must(err)
		for key := range conditions {
			ofHealth := strings.Contains(key, v1alpha1.EndpointHealthyCondition)
			if strings.HasPrefix(key, "k:") && ofHealth != (entry.Manager == dispatcherFieldOwner) {
				b.t.Errorf("%s owns the condition %s", entry.Manager, key)
			}
		}
	}
}

// The first write of a status may be the dispatcher's.
func TestHealthBeforeTheFirstStatus(t *testing.T) {
	b := newBench(t)
	b.create(newPostback("crm", nil))
	b.tellHealth("crm", metav1.ConditionFalse, "early")
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if got := b.health("crm"); got.Message != "early" {
		t.Errorf("%+v", got)
	}
	if first := b.postback("crm").Status.Conditions[0]; first.Type != v1alpha1.ReadyCondition {
		t.Errorf("the first condition is %s", first.Type)
	}
}

// A change of the dispatcher's condition alone does not pass the manager's predicate.
func TestHealthAloneIsNotLookedAt(t *testing.T) {
	before := newPostback("crm", nil)
	before.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ReadyCondition, Status: metav1.ConditionTrue}}
	after := before.DeepCopy()
	after.Status.Conditions = append(after.Status.Conditions, metav1.Condition{Type: v1alpha1.EndpointHealthyCondition, Status: metav1.ConditionFalse})
	after.Status.Waiting = &v1alpha1.EndpointWait{Reason: v1alpha1.WaitCircuitOpen}
	after.Status.Backlog = &v1alpha1.Backlog{Deliveries: 540000, OldestTime: new(metav1.Now())}
	look := postbackChanged()
	if look.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("a change of the endpoint's health wakes the manager")
	}
	after.Status.Conditions[0].Status = metav1.ConditionFalse
	if !look.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
		t.Error("a change of Ready does not wake the manager")
	}
}
