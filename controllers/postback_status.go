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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// updateStatus patches the status if it changed, and then emits the Kubernetes Events about the change.
func (r *PostbackReconciler) updateStatus(ctx context.Context, s *postbackScope) error {
	observePostback(s)
	// The dispatcher appends its condition to the list. A different order alone is no reason to write.
	before := s.before.Status.DeepCopy()
	inOrder(before.Conditions)
	if equality.Semantic.DeepEqual(*before, s.postback.Status) {
		return nil
	}
	if written, err := patchStatus(ctx, r.Client, s.before, s.postback); !written {
		return err
	}
	recordFailure(r.Events, s.postback, s.before.Status.Conditions, s.readiness)
	r.recordCertificateWarning(s)
	r.recordTestEvent(s)
	r.recordRedelivery(ctx, s)
	return nil
}

// recordCertificateWarning emits one Kubernetes Event for a client certificate that is expired or not yet valid.
func (r *PostbackReconciler) recordCertificateWarning(s *postbackScope) {
	if s.certificateWarning == "" || s.readiness.state != stateReady {
		return
	}
	before := meta.FindStatusCondition(s.before.Status.Conditions, v1alpha1.ReadyCondition)
	if before == nil || !strings.HasSuffix(before.Message, s.certificateWarning) {
		r.Events.Eventf(s.postback, nil, corev1.EventTypeWarning, v1alpha1.ClientCertificateInvalidReason, "Check", "%s", s.certificateWarning)
	}
}

// observePostback writes the conclusions of the pass into the status.
func observePostback(s *postbackScope) {
	status := &s.postback.Status
	conditions := conditionSetter{&status.Conditions, s.postback.Generation, s.now}
	if s.handledRotate != "" {
		status.LastHandledRotateSecret = s.handledRotate
	}
	if s.resolved.secret != nil {
		status.SecretName = s.resolved.secret.GetSecretName()
	}
	switch {
	case s.published.route != nil:
		status.EndpointHost = endpointHost(s.published.route.URL)
	case s.published.removed:
		status.EndpointHost = ""
	}
	observeTestEvent(s, conditions)
	observeReady(s, conditions)
}

// observeTestEvent sets the condition TestEvent if the pass answered a request.
func observeTestEvent(s *postbackScope, conditions conditionSetter) {
	if t := s.testEvent; t != nil {
		s.postback.Status.LastHandledSendTest = t.handled
		conditions.set(v1alpha1.TestEventCondition, t.status(), t.reason, t.message)
	}
}

// observeReady sets Ready, Reconciling and Stalled. After an error, an earlier conclusion about the same generation
// stays, unless the route is not in force.
func observeReady(s *postbackScope, conditions conditionSetter) {
	status := &s.postback.Status
	if s.readiness == nil {
		switch {
		case s.published.outdated:
			s.readiness = routeNotPublished()
		case observed(status.Conditions, s.postback.Generation):
			return
		default:
			s.readiness = progressing()
		}
	}
	status.ObservedGeneration = s.postback.Generation
	conditions.apply(s.readiness)
}

// observeRoute compares the published route with the routes that the dispatcher replicas have loaded.
func (r *PostbackReconciler) observeRoute(ctx context.Context, s *postbackScope) error {
	if s.published.secret == nil {
		return nil
	}
	if err := r.Replicas.confirm(ctx); err != nil {
		return err
	}
	a := r.Replicas.acknowledged(client.ObjectKeyFromObject(s.postback), r.published.since(s.postback.UID, s.published.secret.ResourceVersion))
	if a.Doubted > 0 {
		s.requeue.in(requeueSoon) // The claim may be newer than Confirm. Otherwise the replica restarts.
	}
	switch {
	case a.Live == 0:
		s.readiness = noDispatcher()
	case a.Loaded < a.Live:
		s.readiness = waitingForDispatcher(a.Loaded, a.Live)
	default:
		s.readiness = routed(s.postback.Spec.GetState(), s.certificateWarning)
	}
	return nil
}
