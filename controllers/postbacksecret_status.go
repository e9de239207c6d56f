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
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// updateStatus writes the status if it changed, and then emits Kubernetes Events.
func (r *PostbackSecretReconciler) updateStatus(ctx context.Context, s *postbackSecretScope) error {
	observePostbackSecret(s)
	if equality.Semantic.DeepEqual(s.before.Status, s.object.Status) {
		return nil
	}
	if written, err := patchStatus(ctx, r.Client, s.before, s.object); !written {
		return err
	}
	recordFailure(r.Events, s.object, s.before.Status.Conditions, s.readiness)
	if s.refused != (keyring.Requests{}) {
		logf.FromContext(ctx).Info("Rotation refused", audit.Key, audit.RotationRefusedAction, "request", cmp.Or(s.refused.Own, s.refused.Passed))
		r.Events.Eventf(s.object, nil, corev1.EventTypeWarning, v1alpha1.RotationRefusedReason, "RotateKey",
			"The operator does not manage the key of Secret %q (source External): replace it there", s.object.GetSecretName())
	}
	return nil
}

// observePostbackSecret writes the conclusions of the pass into the status.
func observePostbackSecret(s *postbackSecretScope) {
	status := &s.object.Status
	setHandled(status, s.refused.Or(handledBefore(s.object)))
	observeKeys(s)
	if s.readiness == nil {
		if observed(status.Conditions, s.object.Generation) {
			return
		}
		s.readiness = progressing()
	}
	status.ObservedGeneration = s.object.Generation
	conditions := conditionSetter{&status.Conditions, s.object.Generation, s.now}
	conditions.apply(s.readiness)
	observeOverlap(s, conditions)
}

// observeKeys copies the state of the core Secret's keys into the status, if the pass read them.
func observeKeys(s *postbackSecretScope) {
	if s.keys == nil {
		return
	}
	status, k := &s.object.Status, s.keys.keyring
	status.Version = k.Version
	status.LastRotationTime = ptr.To(metav1.NewTime(k.RotatedAt))
	setHandled(status, k.Handled)
	status.PreviousVersion, status.PreviousExpiryTime, status.NextRotationTime = 0, nil, nil
	if len(k.Previous) > 0 {
		newest := k.Previous[0]
		status.PreviousVersion = newest.Version
		status.PreviousExpiryTime = ptr.To(metav1.NewTime(newest.RetiredAt.Add(s.object.Spec.GetOverlap()).Truncate(time.Second)))
	}
	if !s.keys.nextRotation.IsZero() {
		status.NextRotationTime = ptr.To(metav1.NewTime(s.keys.nextRotation.Truncate(time.Second)))
	}
}

func setHandled(status *v1alpha1.PostbackSecretStatus, handled keyring.Requests) {
	status.LastHandledRotateSecret, status.LastHandledRotateSecretFromPostback = handled.Own, handled.Passed
}

// observeOverlap sets Overlap while a previous key signs. A failed pass cannot end a previous key, so Overlap stays.
func observeOverlap(s *postbackSecretScope, conditions conditionSetter) {
	switch {
	case s.failed:
	case s.keys != nil && len(s.keys.keyring.Previous) > 0:
		conditions.set(v1alpha1.OverlapCondition, metav1.ConditionTrue, v1alpha1.PreviousKeySignsReason,
			fmt.Sprintf("Previous keys that keep signing beside the current one: %d.", len(s.keys.keyring.Previous)))
	case s.previousSigns:
		conditions.set(v1alpha1.OverlapCondition, metav1.ConditionTrue, v1alpha1.PreviousKeySignsReason,
			"The previous key keeps signing until it is removed from the Secret.")
	default:
		meta.RemoveStatusCondition(conditions.conditions, v1alpha1.OverlapCondition)
	}
}
