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

package adopt

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// decision is the action for a delivery without an owner. Without park, adopt, regular and after, it stays until its
// Postback appears.
type decision struct {
	// park writes a status, so that the delivery is sent only on request.
	park bool
	// adopt replaces the delivery by one of the present Postback.
	adopt bool
	// regular is true if the present Postback is the original owner. The delivery then needs no adoption.
	regular bool
	// after is the time until the next decision.
	after time.Duration
}

// decide returns the action for a delivery without an owner. target is the route of the Postback of its name, or nil.
func decide(d *v1alpha1.PostbackDelivery, target *route.Route, now time.Time) decision {
	age := now.Sub(d.CreationTimestamp.Time)
	finished, recorded := d.Status.Phase.Finished(), d.Status.AttemptCount > 0
	switch {
	case !finished && !recorded && age < statusGrace:
		return decision{after: min(statusGrace-age, statusGrace)}
	case !finished && !recorded:
		return decision{park: true}
	case target != nil && nameOf(d, target) == d.Name:
		return decision{regular: true}
	case target != nil && !d.Spec.Test:
		return decision{adopt: true}
	case finished:
		return decision{}
	case target == nil && age < postbackGrace:
		return decision{after: min(postbackGrace-age, postbackGrace)}
	}
	return decision{park: true}
}

// nameOf returns the name of a delivery after its adoption. With attempts on record it is the regular name of its
// event, so a repeated post is a duplicate. Without them the name differs, so that a repeated post is delivered.
func nameOf(d *v1alpha1.PostbackDelivery, target *route.Route) string {
	uid := target.UID
	if d.Status.AttemptCount == 0 {
		uid = types.UID(string(uid) + "/restored")
	}
	return delivery.Name(v1alpha1.PostbackReference{Name: target.Name, UID: uid}, d.Spec.Event.ID)
}

// adopted returns a copy of the delivery that the present Postback owns, with the record of its attempts.
func adopted(d *v1alpha1.PostbackDelivery, target *route.Route) *v1alpha1.PostbackDelivery {
	spec := d.Spec
	spec.PostbackRef = v1alpha1.PostbackReference{Name: target.Name, UID: target.UID}
	a := delivery.FromSpec(d.Namespace, spec)
	a.Name = nameOf(d, target)
	a.Labels[v1alpha1.RestoredLabel] = "true"
	a.Annotations = maps.Clone(d.Annotations)
	for _, name := range []string{v1alpha1.DeferredAnnotation, v1alpha1.TraceparentAnnotation} {
		delete(a.Annotations, name)
	}
	a.Status = *d.Status.DeepCopy()
	for i := range a.Status.Attempts {
		// The generations belong to the former Postback and say nothing about the present endpoint.
		a.Status.Attempts[i].PostbackGeneration = 0
	}
	if delivered := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.DeliveredCondition); delivered != nil &&
		delivered.Reason == v1alpha1.PostbackNotFoundReason {
		say(a, v1alpha1.RestoredReason, restoredMessage, delivered.LastTransitionTime.Time)
	}
	return a
}

const restoredMessage = "The delivery was restored from a backup. Nothing is sent by itself, because the endpoint may have the event already. " +
	"Annotate it with " + v1alpha1.RedeliverAnnotation + " to send it."

// park makes a delivery Failed, with the reason in its conditions. It is sent only on request.
func park(d *v1alpha1.PostbackDelivery, target *route.Route, now time.Time) {
	status := &d.Status
	status.Phase, status.NextAttemptTime, status.ObservedGeneration = v1alpha1.DeliveryFailed, nil, d.Generation
	status.CompletionTime = ptr.To(metav1.NewMicroTime(now))
	if status.AttemptCount == 0 {
		// An earlier replica may have handled these requests before the backup: do not repeat them.
		if token := d.Annotations[v1alpha1.RedeliverAnnotation]; token != "" {
			status.LastHandledRedeliver = v1alpha1.HandledToken(token)
		}
		if token := d.Annotations[v1alpha1.PassedRedeliverAnnotation]; token != "" {
			status.LastHandledRedeliverFromPostback = v1alpha1.HandledToken(token)
		}
	}
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ReconcilingCondition)
	if target != nil {
		say(d, v1alpha1.RestoredReason, restoredMessage, now)
		return
	}
	say(d, v1alpha1.PostbackNotFoundReason, fmt.Sprintf("The delivery was restored from a backup, and the Postback %q does not exist. "+
		"It is adopted when a Postback of that name appears, and deleted after %s otherwise.",
		d.Spec.PostbackRef.Name, v1alpha1.DefaultHistoryTTL), now)
}

func say(d *v1alpha1.PostbackDelivery, reason, message string, at time.Time) {
	for conditionType, value := range map[string]metav1.ConditionStatus{
		v1alpha1.DeliveredCondition: metav1.ConditionFalse, v1alpha1.StalledCondition: metav1.ConditionTrue,
	} {
		meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
			Type: conditionType, Status: value, ObservedGeneration: d.Generation, Reason: reason, Message: message,
			LastTransitionTime: metav1.NewTime(at.Truncate(time.Second)),
		})
	}
}
