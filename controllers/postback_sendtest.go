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
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// maxShown bounds the part of an annotation that a message repeats.
const maxShown = 80

// shortened returns the beginning of an annotation's value, for a message.
func shortened(value string) string {
	return strings.ToValidUTF8(value[:min(len(value), maxShown)], "")
}

// sendTestForm is the remedy in messages. It shows an event type, because users may set a bare token: "1" is a valid
// type.
const sendTestForm = "The value has the form <event type>/<token>, such as lead.created/1; the token is optional."

// testEventResult is the result of a request for a test event.
type testEventResult struct {
	handled string
	stored  bool
	reason  string
	message string
}

// reconcileTestEvent answers a new value of the send-test annotation. A test event waits until the Postback has a
// route.
func (r *PostbackReconciler) reconcileTestEvent(ctx context.Context, s *postbackScope) error {
	value := s.postback.Annotations[v1alpha1.SendTestAnnotation]
	if value == "" || v1alpha1.HandledToken(value) == s.postback.Status.LastHandledSendTest {
		return nil
	}
	eventType, _, _ := strings.Cut(value, "/")
	data, refused := testEventData(s.postback, eventType)
	if refused != nil {
		refused.handled = v1alpha1.HandledToken(value)
		s.testEvent = refused
		return nil
	}
	if s.published.secret == nil {
		return nil
	}
	d, err := newTestDelivery(s.postback, value, eventType, data, s.now)
	if err != nil {
		return fmt.Errorf("make a test event: %w", err)
	}
	message := fmt.Sprintf("The test event %s is stored as PostbackDelivery %q.", eventType, d.Name)
	err = r.Client.Create(ctx, d)
	switch {
	case err == nil:
		logf.FromContext(ctx).Info("Test event stored", audit.Key, audit.TestEventAction,
			"delivery", klog.KObj(d), "eventType", eventType, "request", v1alpha1.HandledToken(value))
	case apierrors.IsAlreadyExists(err):
		// The name follows from the annotation. Either an earlier pass created the delivery and failed to record it,
		// or the annotation has an earlier value again. The two cannot be told apart, and the message suits both.
		message = fmt.Sprintf("The test event %s was stored as PostbackDelivery %q: to send another one, use another token, such as %s/2.",
			eventType, d.Name, eventType)
	default:
		return fmt.Errorf("create PostbackDelivery of a test event: %w", err)
	}
	s.testEvent = &testEventResult{
		handled: v1alpha1.HandledToken(value), stored: true, reason: v1alpha1.TestEventStoredReason, message: message,
	}
	return nil
}

// refuseTestEvent returns the reason why a Postback gets no test event of a type, or nil.
func refuseTestEvent(postback *v1alpha1.Postback, eventType string) *testEventResult {
	if !event.ValidType(eventType) {
		return &testEventResult{
			reason:  v1alpha1.TestEventInvalidReason,
			message: fmt.Sprintf("%q in the annotation %s is not an event type. %s", shortened(eventType), v1alpha1.SendTestAnnotation, sendTestForm),
		}
	}
	if !route.Subscribed(postback.Spec.Triggers, eventType) {
		return &testEventResult{
			reason: v1alpha1.TestEventNotSubscribedReason,
			message: fmt.Sprintf("No trigger in spec.triggers selects the event type %s: add one, or send a test event of a type that is selected. %s",
				eventType, sendTestForm),
		}
	}
	return nil
}

// testEventData returns the data of a test event, or a result with the reason for its refusal.
func testEventData(postback *v1alpha1.Postback, eventType string) (json.RawMessage, *testEventResult) {
	if refused := refuseTestEvent(postback, eventType); refused != nil {
		return nil, refused
	}
	given, ok := postback.Annotations[v1alpha1.SendTestDataAnnotation]
	if !ok {
		return event.Sample(eventType), nil
	}
	data, err := event.DecodeData([]byte(given))
	if err != nil {
		return nil, &testEventResult{
			reason: v1alpha1.TestEventInvalidDataReason,
			message: fmt.Sprintf("The annotation %s is not the data of an event: %s. Correct or remove it, and set another token.",
				v1alpha1.SendTestDataAnnotation, err),
		}
	}
	return data, nil
}

// newTestDelivery returns the delivery of a test event. Its name depends on the Postback and the annotation's value alone.
func newTestDelivery(postback *v1alpha1.Postback, value, eventType string, data json.RawMessage, now time.Time) (*v1alpha1.PostbackDelivery, error) {
	reference := v1alpha1.PostbackReference{Name: postback.Name, UID: postback.UID}
	d, err := delivery.New(postback.Namespace, reference, postback.Spec.GetFormat(), &event.Event{
		ID:        event.TestID(string(postback.UID), value),
		Type:      eventType,
		CreatedAt: now.UTC().Truncate(time.Millisecond),
		Data:      data,
	})
	if err != nil {
		return nil, err
	}
	d.Spec.Test = true
	return d, nil
}

// recordTestEvent emits a Kubernetes Event with the result of the request, after the status is written.
func (r *PostbackReconciler) recordTestEvent(s *postbackScope) {
	if s.testEvent == nil {
		return
	}
	eventType, reason := corev1.EventTypeNormal, v1alpha1.TestEventReason
	if !s.testEvent.stored {
		eventType = corev1.EventTypeWarning
		reason = v1alpha1.TestEventRefusedReason
	}
	r.Events.Eventf(s.postback, nil, eventType, reason, "SendTest", "%s", s.testEvent.message)
}

func (t *testEventResult) status() metav1.ConditionStatus {
	if t.stored {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}
