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
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// updateStatus writes what a pass has found out, if it differs from what the status says, and then tells of it.
func (r *PostbackReconciler) updateStatus(ctx context.Context, s *postbackScope) error {
	observePostback(s)
	// The dispatcher's condition comes last in the list at first. That alone is no reason to write.
	before := s.before.Status.DeepCopy()
	inOrder(before.Conditions)
	if equality.Semantic.DeepEqual(*before, s.postback.Status) {
		return nil
	}
	if written, err := patchStatus(ctx, r.Client, s.before, s.postback); !written {
		return err
	}
	if newTrouble(s.before.Status.Conditions, s.verdict) {
		r.Events.Eventf(s.postback, nil, corev1.EventTypeWarning, s.verdict.reason, "Check", "%s", s.verdict.message)
	}
	r.tellRemark(s)
	r.tellTestEvent(s)
	r.tellRedelivery(ctx, s)
	return nil
}

// tellRemark warns once of what Ready tells beside its verdict.
func (r *PostbackReconciler) tellRemark(s *postbackScope) {
	if s.remark == "" || s.verdict.state != stateReady {
		return
	}
	before := meta.FindStatusCondition(s.before.Status.Conditions, v1alpha1.ReadyCondition)
	if before == nil || !strings.HasSuffix(before.Message, s.remark) {
		r.Events.Eventf(s.postback, nil, corev1.EventTypeWarning, v1alpha1.ClientCertificateInvalidReason, "Check", "%s", s.remark)
	}
}

// observePostback derives the status from the pass.
func observePostback(s *postbackScope) {
	status := &s.postback.Status
	conditions := conditionSetter{&status.Conditions, s.postback.Generation, s.now}
	if s.handledRotate != "" {
		status.LastHandledRotateSecret = s.handledRotate
	}
	if t := s.testEvent; t != nil {
		status.LastHandledSendTest = t.handled
		conditions.set(v1alpha1.TestEventCondition, t.status(), t.reason, t.message)
	}
	if s.secret != nil {
		status.SecretName = s.secret.GetSecretName()
	}
	switch {
	case s.route != nil:
		status.EndpointHost = endpointHost(s.route.URL)
	case s.routeRemoved:
		status.EndpointHost = ""
	}
	if s.verdict == nil {
		switch {
		case s.routeAmiss:
			s.verdict = waiting(v1alpha1.ProgressingReason, "The route is not published as it ought to be, so events may not be routed: "+
				"the last step did not succeed and is being repeated.")
		case judged(status.Conditions, s.postback.Generation):
			return
		default:
			s.verdict = progressing()
		}
	}
	status.ObservedGeneration = s.postback.Generation
	conditions.apply(s.verdict)
}
