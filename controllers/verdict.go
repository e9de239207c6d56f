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
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// state is how an object fares, as kstatus has it.
type state string

const (
	stateReady   state = "Ready"
	stateWaiting state = "Reconciling" // for something that is expected to come
	stateStalled state = "Stalled"     // until somebody changes something
)

// verdict is what a pass found out about an object.
type verdict struct {
	state   state
	reason  string
	message string
}

func waiting(reason, message string) *verdict { return &verdict{stateWaiting, reason, message} }
func stalled(reason, message string) *verdict { return &verdict{stateStalled, reason, message} }
func ready(reason, message string) *verdict   { return &verdict{stateReady, reason, message} }

// conditionOrder is the order in which conditions stand, whatever came first.
var conditionOrder = []string{
	v1alpha1.ReadyCondition, v1alpha1.ReconcilingCondition, v1alpha1.StalledCondition,
	v1alpha1.OverlapCondition, v1alpha1.EndpointHealthyCondition, v1alpha1.TestEventCondition, v1alpha1.RedeliveryCondition,
}

// conditionSetter sets conditions of one object for one pass.
type conditionSetter struct {
	conditions *[]metav1.Condition
	generation int64
	now        time.Time
}

// apply sets Ready, and Reconciling or Stalled while they are true.
func (c conditionSetter) apply(v *verdict) {
	status := metav1.ConditionFalse
	if v.state == stateReady {
		status = metav1.ConditionTrue
	}
	c.set(v1alpha1.ReadyCondition, status, v.reason, v.message)
	for _, s := range []state{stateWaiting, stateStalled} {
		if v.state == s {
			c.set(string(s), metav1.ConditionTrue, v.reason, v.message)
		} else {
			meta.RemoveStatusCondition(c.conditions, string(s))
		}
	}
}

func (c conditionSetter) set(conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(c.conditions, metav1.Condition{
		Type:               conditionType,
		Status:             status,
		ObservedGeneration: c.generation,
		// The API keeps seconds: memory equals what a read returns.
		LastTransitionTime: metav1.NewTime(c.now.Truncate(time.Second)),
		Reason:             reason,
		Message:            message,
	})
	inOrder(*c.conditions)
}

// inOrder puts conditions into their order.
func inOrder(conditions []metav1.Condition) {
	slices.SortStableFunc(conditions, func(a, b metav1.Condition) int {
		return slices.Index(conditionOrder, a.Type) - slices.Index(conditionOrder, b.Type)
	})
}

// judged reports whether the Ready condition is about the given generation.
func judged(conditions []metav1.Condition, generation int64) bool {
	condition := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	return condition != nil && condition.ObservedGeneration == generation
}

// lossReasons are those of what is worth a warning when it was there before.
var lossReasons = []string{
	v1alpha1.KeyNotFoundReason, v1alpha1.SecretNotFoundReason, v1alpha1.HeaderSecretNotFoundReason, v1alpha1.AuthSecretNotFoundReason,
	v1alpha1.TLSSecretNotFoundReason,
}

// newTrouble reports whether a verdict is a mistake, or a loss, that the conditions before did not tell.
func newTrouble(before []metav1.Condition, v *verdict) bool {
	if v == nil || v.state == stateReady {
		return false
	}
	if v.state == stateStalled {
		condition := meta.FindStatusCondition(before, v1alpha1.StalledCondition)
		return condition == nil || condition.Reason != v.reason
	}
	return meta.IsStatusConditionTrue(before, v1alpha1.ReadyCondition) && slices.Contains(lossReasons, v.reason)
}

// progressing is the verdict on an object that an error kept from a verdict.
func progressing() *verdict {
	return waiting(v1alpha1.ProgressingReason, "The last step did not succeed and is being repeated.")
}
