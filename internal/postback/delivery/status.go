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

package delivery

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Request identifies a request for redelivery: the values of the annotations that made it, as HandledToken returns
// them, or "".
type Request struct {
	// Redeliver comes from RedeliverAnnotation, FromPostback from PassedRedeliverAnnotation.
	Redeliver, FromPostback string
}

// RequestOf returns the unanswered requests for redelivery of a delivery.
func RequestOf(d *v1alpha1.PostbackDelivery) Request {
	return Request{
		Redeliver:    unanswered(d.Annotations[v1alpha1.RedeliverAnnotation], d.Status.LastHandledRedeliver),
		FromPostback: unanswered(d.Annotations[v1alpha1.PassedRedeliverAnnotation], d.Status.LastHandledRedeliverFromPostback),
	}
}

func unanswered(value, handled string) string {
	if value == "" {
		return ""
	}
	if token := v1alpha1.HandledToken(value); token != handled {
		return token
	}
	return ""
}

// None reports whether there is no request.
func (q Request) None() bool { return q == Request{} }

// handle records a request as handled, and reports whether it is new.
func (q Request) handle(status *v1alpha1.PostbackDeliveryStatus) bool {
	fresh := false
	for _, token := range []struct {
		asked   string
		handled *string
	}{{q.Redeliver, &status.LastHandledRedeliver}, {q.FromPostback, &status.LastHandledRedeliverFromPostback}} {
		if token.asked != "" && token.asked != *token.handled {
			*token.handled = token.asked
			fresh = true
		}
	}
	return fresh
}

// Apply adds an attempt to the status of a delivery, and sets phase, conditions and next attempt. A new request begins
// a new round. An attempt already on record changes nothing.
func Apply(d *v1alpha1.PostbackDelivery, r *route.Route, attempt v1alpha1.Attempt, request Request) {
	status := &d.Status
	if recorded(status, attempt) {
		return
	}
	newRound := request.handle(status)
	if newRound {
		status.Round = v1alpha1.DeliveryRound{}
		status.CompletionTime = nil
	}
	attempt.Number = status.AttemptCount + 1
	status.AttemptCount = attempt.Number
	status.Attempts = append(status.Attempts, attempt)
	if extra := len(status.Attempts) - v1alpha1.MaxRecordedAttempts; extra > 0 {
		status.Attempts = append([]v1alpha1.Attempt(nil), status.Attempts[extra:]...)
	}
	if !attempt.Outcome.Ours() {
		status.Round.Attempts++
	}
	if status.Round.StartTime == nil {
		status.Round.StartTime = ptr.To(attempt.Time)
	}
	status.ObservedGeneration = d.Generation

	end := attempt.Time.Add(attempt.Duration.Duration)
	switch {
	case attempt.Outcome == v1alpha1.OutcomeSucceeded:
		setDelivered(d, attempt, end)
	case status.Phase.Finished() && !newRound:
		// Another replica has finished the delivery: this attempt is only added to the record.
	default:
		setFailure(d, r, attempt, end)
	}
}

// Newest returns the newest attempt on record of a delivery, or nil.
func Newest(d *v1alpha1.PostbackDelivery) *v1alpha1.Attempt {
	if last := len(d.Status.Attempts) - 1; last >= 0 {
		return &d.Status.Attempts[last]
	}
	return nil
}

// recorded reports whether an attempt is on record already, because an earlier write succeeded although its answer
// was lost. Two attempts of one delivery never begin in the same microsecond.
func recorded(status *v1alpha1.PostbackDeliveryStatus, attempt v1alpha1.Attempt) bool {
	for i := range status.Attempts {
		have := &status.Attempts[i]
		if have.Time.Time.Equal(attempt.Time.Time) && have.Outcome == attempt.Outcome {
			return true
		}
	}
	return false
}

func setDelivered(d *v1alpha1.PostbackDelivery, attempt v1alpha1.Attempt, end time.Time) {
	d.Status.Phase = v1alpha1.DeliveryDelivered
	d.Status.NextAttemptTime = nil
	if d.Status.CompletionTime == nil {
		d.Status.CompletionTime = ptr.To(metav1.NewMicroTime(end))
	}
	meta.RemoveStatusCondition(&d.Status.Conditions, v1alpha1.ReconcilingCondition)
	meta.RemoveStatusCondition(&d.Status.Conditions, v1alpha1.StalledCondition)
	setCondition(d, v1alpha1.DeliveredCondition, metav1.ConditionTrue, v1alpha1.EndpointAcceptedReason,
		fmt.Sprintf("The endpoint answered %d to attempt %d.", ptr.Deref(attempt.StatusCode, 0), attempt.Number), end)
}

func setFailure(d *v1alpha1.PostbackDelivery, r *route.Route, attempt v1alpha1.Attempt, end time.Time) {
	status := &d.Status
	next := end.Add(Delay(status.Round.Attempts))
	if at := attempt.RetryAfterTime; at != nil && at.After(next) {
		next = at.Time
	}
	reason, message := giveUp(status.Round, r, next)
	if reason == "" {
		setWaiting(d, attempt, next, end)
		return
	}
	message = fmt.Sprintf("Attempt %d: %s. %s", attempt.Number, cause(attempt), message)
	status.Phase = v1alpha1.DeliveryFailed
	status.NextAttemptTime = nil
	status.CompletionTime = ptr.To(metav1.NewMicroTime(end))
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ReconcilingCondition)
	setCondition(d, v1alpha1.DeliveredCondition, metav1.ConditionFalse, reason, message, end)
	setCondition(d, v1alpha1.StalledCondition, metav1.ConditionTrue, reason, message, end)
}

// setWaiting schedules the next attempt. After a 410 there is no time: the delivery waits until the endpoint is tried
// again.
func setWaiting(d *v1alpha1.PostbackDelivery, attempt v1alpha1.Attempt, next, end time.Time) {
	status := &d.Status
	reason, outlook := v1alpha1.RetryScheduledReason, "It will be tried again."
	status.NextAttemptTime = ptr.To(metav1.NewMicroTime(next))
	if attempt.Outcome == v1alpha1.OutcomeGone {
		reason = v1alpha1.WaitingForEndpointReason
		outlook = fmt.Sprintf("It waits until the spec of the Postback changes, or the delivery is annotated with %s.", v1alpha1.RedeliverAnnotation)
		status.NextAttemptTime = nil
	}
	status.Phase = v1alpha1.DeliveryRetrying
	status.CompletionTime = nil
	message := fmt.Sprintf("Attempt %d: %s. %s", attempt.Number, cause(attempt), outlook)
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.StalledCondition)
	setCondition(d, v1alpha1.DeliveredCondition, metav1.ConditionFalse, reason, message, end)
	setCondition(d, v1alpha1.ReconcilingCondition, metav1.ConditionTrue, reason, message, end)
}

// cause returns the reason why an attempt failed.
func cause(attempt v1alpha1.Attempt) string {
	if attempt.Message == "" {
		return string(attempt.Outcome)
	}
	return attempt.Message
}

// giveUp returns a reason and message if a limit of spec.retry permits no further attempt.
func giveUp(round v1alpha1.DeliveryRound, r *route.Route, next time.Time) (reason, message string) {
	if r.MaxAttempts > 0 && round.Attempts >= r.MaxAttempts {
		return v1alpha1.MaxAttemptsReason, fmt.Sprintf("spec.retry.maxAttempts (%d) allows no further attempt. "+
			"Annotate it with %s to try again.", r.MaxAttempts, v1alpha1.RedeliverAnnotation)
	}
	if limit := r.GiveUpAfter.Duration; limit > 0 && next.Sub(round.StartTime.Time) > limit {
		return v1alpha1.GaveUpReason, fmt.Sprintf("The next attempt would come later than spec.retry.giveUpAfter (%s) allows. "+
			"Annotate it with %s to try again.", limit, v1alpha1.RedeliverAnnotation)
	}
	return "", ""
}

func setCondition(d *v1alpha1.PostbackDelivery, conditionType string, value metav1.ConditionStatus, reason, message string, at time.Time) {
	meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
		Type:               conditionType,
		Status:             value,
		ObservedGeneration: d.Generation,
		// The API stores whole seconds. Truncation makes the object in memory equal to a later read.
		LastTransitionTime: metav1.NewTime(at.Truncate(time.Second)),
		Reason:             reason,
		Message:            message,
	})
}
