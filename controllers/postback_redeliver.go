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
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
)

// redeliverSinceForm is the remedy in messages about a refused value.
const redeliverSinceForm = "The value has the form <since>/<token>, where <since> is a duration before now, such as 24h, or a time " +
	"in RFC 3339, such as 2026-03-01T12:00:00Z, at most a year ago; the token is optional. Set another value."

// reconcileRedelivery answers the redeliver-since annotation. Each pass marks a bounded number of the Postback's
// deliveries and records its progress in the status. The status alone determines the remaining work, so that a
// restarted manager continues it.
func (r *PostbackReconciler) reconcileRedelivery(ctx context.Context, s *postbackScope) error {
	status := &s.postback.Status
	value := s.postback.Annotations[v1alpha1.RedeliverSinceAnnotation]
	if request := v1alpha1.HandledToken(value); value != "" && (status.Redelivery == nil || status.Redelivery.Request != request) {
		r.redeliveries.forget(s.postback.UID)
		s.acceptRedelivery(value)
		if status.Redelivery.Since != nil {
			// The status must record Since before the first redelivery, because a duration counts back from now.
			s.requeue.in(minRequeue)
		}
		return nil
	}
	if status.Redelivery == nil || status.Redelivery.Since == nil || status.Redelivery.CompletionTime != nil {
		r.redeliveries.forget(s.postback.UID)
		return nil
	}
	progress := r.redeliveries.of(s.postback.UID, status.Redelivery)
	done, err := r.redeliverStep(ctx, s.postback, progress)
	status.Redelivery.Requested = max(status.Redelivery.Requested, progress.requested())
	if err != nil {
		return err
	}
	if !done {
		s.requeue.in(minRequeue)
		return nil
	}
	s.completeRedelivery()
	return nil
}

// acceptRedelivery records a new request in the status. It also records a refused one, so that the refusal is
// reported once.
func (s *postbackScope) acceptRedelivery(value string) {
	status := &s.postback.Status
	status.Redelivery = &v1alpha1.Redelivery{Request: v1alpha1.HandledToken(value)}
	since, err := redeliverSince(value, s.now)
	if err != nil {
		message := fmt.Sprintf("%q in the annotation %s is refused: %s. %s", shortened(value), v1alpha1.RedeliverSinceAnnotation, err, redeliverSinceForm)
		s.setRedelivery(metav1.ConditionFalse, v1alpha1.RedeliveryInvalidReason, message)
		s.redeliveryEvent = &redeliveryEvent{corev1.EventTypeWarning, v1alpha1.RedeliveryRefusedReason, message}
		return
	}
	status.Redelivery.Since = &metav1.Time{Time: since}
	s.setRedelivery(metav1.ConditionFalse, v1alpha1.RedeliveryInProgressReason, fmt.Sprintf(
		"Redelivery of the undelivered deliveries made since %s is being requested.", since.Format(time.RFC3339)))
}

// completeRedelivery records that every redelivery has been requested.
func (s *postbackScope) completeRedelivery() {
	redelivery := s.postback.Status.Redelivery
	redelivery.CompletionTime = &metav1.Time{Time: s.now.Truncate(time.Second)}
	message := fmt.Sprintf("Redelivery of all undelivered deliveries made since %s is requested: %d. They are sent as the endpoint accepts them.",
		redelivery.Since.UTC().Format(time.RFC3339), redelivery.Requested)
	s.setRedelivery(metav1.ConditionTrue, v1alpha1.RedeliveryCompleteReason, message)
	s.redeliveryEvent = &redeliveryEvent{corev1.EventTypeNormal, v1alpha1.RedeliveryRequestedReason, message}
}

func (s *postbackScope) setRedelivery(status metav1.ConditionStatus, reason, message string) {
	conditionSetter{&s.postback.Status.Conditions, s.postback.Generation, s.now}.set(v1alpha1.RedeliveryCondition, status, reason, message)
}

// redeliveryEvent is a Kubernetes Event to emit after the status is written.
type redeliveryEvent struct{ eventType, reason, message string }

// recordRedelivery emits the Kubernetes Event with the result of a request, after the status is written.
func (r *PostbackReconciler) recordRedelivery(ctx context.Context, s *postbackScope) {
	if e := s.redeliveryEvent; e != nil {
		logf.FromContext(ctx).Info("Redelivery since a time answered", audit.Key, audit.RedeliverySinceAction,
			"reason", e.reason, "request", s.postback.Status.Redelivery.Request, "count", s.postback.Status.Redelivery.Requested)
		r.Events.Eventf(s.postback, nil, e.eventType, e.reason, "RedeliverSince", "%s", e.message)
	}
}

// redeliverSince returns the time that a value of the annotation means, in whole seconds like creation times. The
// errors repeat no part of the value.
func redeliverSince(value string, now time.Time) (time.Time, error) {
	text, _, _ := strings.Cut(value, "/")
	since, err := time.Parse(time.RFC3339, text)
	if err != nil {
		back, err := time.ParseDuration(text)
		if err != nil {
			return time.Time{}, errors.New("it begins with neither a duration nor a time")
		}
		if back <= 0 {
			return time.Time{}, errors.New("the duration is not positive")
		}
		since = now.Add(-back)
	}
	switch {
	case since.After(now):
		return time.Time{}, errors.New("the time lies in the future")
	case now.Sub(since) > v1alpha1.MaxRedeliverSince:
		return time.Time{}, errors.New("it reaches back more than a year")
	}
	return since.UTC().Truncate(time.Second), nil
}
