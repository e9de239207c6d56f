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

// Package attempt makes an attempt: it sends the signed request and records the outcome in the PostbackDelivery. It also makes
// the first attempts of the deliveries that this replica stored.
package attempt

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/dispatcher/traffic"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/refusal"
)

// ErrInFlight means that an attempt of the same delivery is in flight in this replica.
var ErrInFlight = errors.New("an attempt of this delivery is in flight")

// Cause says why an attempt is made.
type Cause struct {
	// Request identifies the request of a user for this attempt.
	Request delivery.Request
	// TakenOver is true if another replica recorded no attempt in its time, and this one takes over.
	TakenOver bool
}

// takenOverNote is part of the message of a takeover: the endpoint may have received one request more than the record
// shows.
const takenOverNote = "made by another replica, because the first one was busy or gone and recorded no attempt " +
	"in its time; the endpoint may have received the event before"

const deliverAction = "Deliver"

// Attempter makes attempts, and at most one of each delivery at a time. It is safe for concurrent use.
type Attempter struct {
	Sender   *send.Sender
	Recorder *delivery.Recorder
	Events   events.EventRecorder
	// Traces records a span of each attempt. It may be nil.
	Traces *trace.Traces
	// Traffic counts each recorded attempt. It may be nil.
	Traffic *traffic.Counter

	mu       sync.Mutex
	inFlight map[types.NamespacedName]struct{}
}

// Record applies a change to a delivery and stores the result, as delivery.Recorder does.
type Record func(ctx context.Context, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error)

// Attempt sends a delivery to the endpoint of a route, records the outcome, and returns the delivery as recorded. It
// returns ErrInFlight, without an effect, if an attempt of the delivery is in flight here. It returns
// delivery.ErrGone if the delivery was deleted meanwhile.
//
// An attempt, once begun, is recorded even if nobody waits for it any more, because the endpoint has seen it. ctx
// should end only when the process must. Attempt calls sent with the result before it records it.
func (a *Attempter) Attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route, cause Cause, sent func(*v1alpha1.Attempt)) (*v1alpha1.PostbackDelivery, error) {
	release, ok := a.Claim(client.ObjectKeyFromObject(d))
	if !ok {
		return nil, ErrInFlight
	}
	defer release()
	return a.AttemptWith(ctx, d, r, cause, sent, func(ctx context.Context, apply func(*v1alpha1.PostbackDelivery)) (*v1alpha1.PostbackDelivery, error) {
		return a.Recorder.Record(ctx, d, apply)
	})
}

// AttemptWith is Attempt with another store of the record than the PostbackDelivery. The caller has the claim.
func (a *Attempter) AttemptWith(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route, cause Cause, sent func(*v1alpha1.Attempt), write Record) (*v1alpha1.PostbackDelivery, error) {
	log := logf.FromContext(ctx).WithValues("delivery", klog.KObj(d), "postback", r.Key(), "eventID", d.Spec.Event.ID)
	if !cause.Request.None() {
		log = log.WithValues(audit.Key, audit.RedeliveredAction, "request", cmp.Or(cause.Request.Redeliver, cause.Request.FromPostback))
	}
	traced, span := a.Traces.Attempt(ctx, d, r)
	if id := span.ID(); id != "" {
		log = log.WithValues("traceID", id)
	}
	result := a.Sender.Send(traced, r, d)
	if result.Outcome == v1alpha1.OutcomeInterrupted && errors.Is(context.Cause(ctx), lane.ErrDeleted) {
		result.Message = "the Postback was deleted during the attempt; the endpoint may have received it"
	}
	observe(result)
	sent(&result)
	if cause.TakenOver {
		result.Message = noteTakeover(result.Message)
	}
	record, cancel := EndLater(ctx, lastWrite)
	defer cancel()
	var before v1alpha1.PostbackDeliveryStatus
	recorded, err := write(logf.IntoContext(record, log), func(d *v1alpha1.PostbackDelivery) {
		before = d.Status
		delivery.Apply(d, r, result, cause.Request)
	})
	span.EndAttempt(result, recorded)
	if err != nil {
		a.announceUnrecorded(r, err)
		return nil, err
	}
	log.Info("Attempted", "attempt", recorded.Status.AttemptCount, "outcome", result.Outcome, "phase", recorded.Status.Phase,
		"duration", result.Duration.Duration.String(), "takenOver", cause.TakenOver)
	entered := entered(&before, recorded)
	a.Traffic.Count(r, &result, entered)
	if entered != "" {
		a.announce(r, recorded)
	}
	return recorded, nil
}

// noteTakeover puts takenOverNote in front of a message, whose end is cut at the bound of the API.
func noteTakeover(message string) string {
	if message == "" {
		return takenOverNote
	}
	message = takenOverNote + "; " + message
	return strings.ToValidUTF8(message[:min(len(message), v1alpha1.MaxMessage)], "")
}

// lastWrite is the time left to record an attempt after ctx has ended.
const lastWrite = 3 * time.Second

// EndLater returns a context that ends a grace after its parent.
func EndLater(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}

// entered returns the phase that an attempt gave a delivery, or "" if the phase is the same as before. In a new round
// each phase counts as new.
func entered(before *v1alpha1.PostbackDeliveryStatus, after *v1alpha1.PostbackDelivery) v1alpha1.DeliveryPhase {
	sameRound := before.Round.StartTime.Equal(after.Status.Round.StartTime)
	if before.Phase == after.Status.Phase && before.AttemptCount < after.Status.AttemptCount && sameRound {
		return ""
	}
	return after.Status.Phase
}

// announce counts a new phase, and emits a Kubernetes Event on the Postback. The note names no delivery and no cause:
// the API merges Events of one reason, and keeps the first note.
func (a *Attempter) announce(r *route.Route, after *v1alpha1.PostbackDelivery) {
	observePhase(after)
	switch {
	case after.Status.Phase == v1alpha1.DeliveryFailed:
		a.Events.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.DeliveryFailedReason, deliverAction,
			"An event was not delivered and will not be tried again: see the PostbackDeliveries in phase Failed")
	case after.Status.Phase == v1alpha1.DeliveryRetrying:
		a.Events.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.AttemptFailedReason, deliverAction,
			"An event was not delivered and will be tried again: \"kubectl postback events\" shows it")
	case after.Status.Phase == v1alpha1.DeliveryDelivered && after.Status.Round.Attempts > 1:
		a.Events.Eventf(r.Postback(), nil, corev1.EventTypeNormal, v1alpha1.DeliveredAfterRetriesReason, deliverAction,
			"An event was delivered after retries")
	}
}

// announceUnrecorded emits a Kubernetes Event with the API server's reason for refusing the record of an attempt. The
// delivery itself does not show the attempt.
func (a *Attempter) announceUnrecorded(r *route.Route, err error) {
	if !errors.Is(err, delivery.ErrUnrecordable) {
		return
	}
	kind, message := refusal.Of(err)
	a.Events.Eventf(r.Postback(), nil, corev1.EventTypeWarning, v1alpha1.AttemptNotRecordedReason, deliverAction,
		"The API server refuses the record of an attempt (%s): %s. The delivery waits for a day, or until the annotation %s requests it",
		kind, message, v1alpha1.RedeliverAnnotation)
}

// Claim reserves a delivery: until release, no other attempt of it begins here. ok is false while another caller has
// it. A caller that first looks for a record of the delivery claims it before the look-ups, and keeps the claim until
// its own record.
func (a *Attempter) Claim(d types.NamespacedName) (release func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.inFlight[d]; ok {
		return nil, false
	}
	if a.inFlight == nil {
		a.inFlight = map[types.NamespacedName]struct{}{}
	}
	a.inFlight[d] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.inFlight, d)
	}, true
}
