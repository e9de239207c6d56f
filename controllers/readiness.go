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
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

// state is a state that kstatus (sigs.k8s.io/cli-utils) derives from the conditions.
type state string

const (
	stateReady       state = "Ready"
	stateReconciling state = "Reconciling" // waits for something that is expected to come
	stateStalled     state = "Stalled"     // waits until somebody changes something
)

// readiness is the conclusion of a pass about an object, from which Ready, Reconciling and Stalled follow.
type readiness struct {
	state   state
	reason  string
	message string
}

func reconciling(reason, message string) *readiness {
	return &readiness{stateReconciling, reason, message}
}
func stalled(reason, message string) *readiness { return &readiness{stateStalled, reason, message} }
func ready(reason, message string) *readiness   { return &readiness{stateReady, reason, message} }

// conditionOrder is the order of the conditions in a status.
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

// apply sets Ready, sets the one of Reconciling and Stalled that is true, and removes the others.
func (c conditionSetter) apply(v *readiness) {
	status := metav1.ConditionFalse
	if v.state == stateReady {
		status = metav1.ConditionTrue
	}
	c.set(v1alpha1.ReadyCondition, status, v.reason, v.message)
	for _, s := range []state{stateReconciling, stateStalled} {
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
		// The API stores whole seconds. Truncation makes the object in memory equal to a later read.
		LastTransitionTime: metav1.NewTime(c.now.Truncate(time.Second)),
		Reason:             reason,
		Message:            message,
	})
	inOrder(*c.conditions)
}

// inOrder sorts conditions by conditionOrder.
func inOrder(conditions []metav1.Condition) {
	slices.SortStableFunc(conditions, func(a, b metav1.Condition) int {
		return slices.Index(conditionOrder, a.Type) - slices.Index(conditionOrder, b.Type)
	})
}

// observed reports whether the condition Ready is about the given generation.
func observed(conditions []metav1.Condition, generation int64) bool {
	condition := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition)
	return condition != nil && condition.ObservedGeneration == generation
}

// lossReasons are the reasons that cause a Warning event if the object was Ready before.
var lossReasons = []string{
	v1alpha1.KeyNotFoundReason, v1alpha1.SecretNotFoundReason, v1alpha1.HeaderSecretNotFoundReason, v1alpha1.AuthSecretNotFoundReason,
	v1alpha1.TLSSecretNotFoundReason,
}

// refusalReasons are the reasons whose messages quote the API server.
var refusalReasons = []string{
	v1alpha1.PolicyDeniedReason, v1alpha1.QuotaExceededReason, v1alpha1.ForbiddenReason, v1alpha1.InvalidReason, v1alpha1.TooLargeReason,
}

// readinessOfRefusal returns the readiness after the API server refused a request for a lasting reason, or nil. Its
// message quotes the API server. A missing right is Reconciling, because an API server that has just started may not
// have read the roles.
func readinessOfRefusal(failures ...error) *readiness {
	for _, failure := range failures {
		if failure == nil {
			continue
		}
		kind, words := refusal.Of(failure)
		if !slices.Contains(refusalReasons, string(kind)) {
			continue
		}
		judge := stalled
		if kind == refusal.Forbidden {
			judge = reconciling
		}
		return judge(string(kind), fmt.Sprintf("The API server refuses %s: %s. The operator tries again.",
			refusal.Object(failure), strings.TrimSuffix(cmp.Or(words, "the object is not acceptable"), ".")))
	}
	return nil
}

// newFailure reports whether a readiness is a mistake or loss that the earlier conditions did not report.
func newFailure(before []metav1.Condition, v *readiness) bool {
	if v == nil || v.state == stateReady {
		return false
	}
	if v.state == stateStalled {
		condition := meta.FindStatusCondition(before, v1alpha1.StalledCondition)
		return condition == nil || condition.Reason != v.reason
	}
	if slices.Contains(refusalReasons, v.reason) {
		condition := meta.FindStatusCondition(before, v1alpha1.ReadyCondition)
		return condition == nil || condition.Reason != v.reason
	}
	return meta.IsStatusConditionTrue(before, v1alpha1.ReadyCondition) && slices.Contains(lossReasons, v.reason)
}

// progressing is the readiness after an error that left no other conclusion.
func progressing() *readiness {
	return reconciling(v1alpha1.ProgressingReason, "The last step failed. The operator tries again.")
}
