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

// Package waiting tells all tools why a delivery waits and until when, and how healthy an endpoint is.
package waiting

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

// Reason is the reason why a delivery waits.
type Reason string

// Reasons, in the order in which For checks them.
const (
	// NoPostback: the Postback of the delivery no longer exists.
	NoPostback Reason = "NoPostback"
	// NoRoute: the dispatcher knows no route of the Postback yet.
	NoRoute Reason = "NoRoute"
	// NoDispatcher: no dispatcher replica is alive.
	NoDispatcher Reason = "NoDispatcher"
	// Paused and Disabled are states of the Postback.
	Paused   Reason = "Paused"
	Disabled Reason = "Disabled"
	// RetryAfter, Gone and CircuitOpen are the reasons in status.waiting of the Postback.
	RetryAfter  = Reason(v1alpha1.WaitRetryAfter)
	Gone        = Reason(v1alpha1.WaitGone)
	CircuitOpen = Reason(v1alpha1.WaitCircuitOpen)
	// Scheduled: the scheduled time of the next attempt is in the future.
	Scheduled Reason = "Scheduled"
	// InTurn: the attempt is due, and waits behind other deliveries of the Postback.
	InTurn Reason = "InTurn"
	// APIServerUnavailable: the API server does not answer, so nothing can be read or recorded.
	APIServerUnavailable Reason = "APIServerUnavailable"
)

// Why is the reason why a delivery waits. The zero value means that it does not wait.
type Why struct {
	Reason Reason
	// Sentence describes the reason for users.
	Sentence string
	// Next is the time of the next attempt, or zero if none is planned. A time before now means at once.
	Next time.Time
}

// Delivery is the part of a PostbackDelivery that determines why it waits.
type Delivery struct {
	Phase v1alpha1.DeliveryPhase
	// Attempts is the number of attempts on record.
	Attempts int32
	Test     bool
	// Asked says that a user requested a redelivery of this delivery, which is not handled yet. InBulk says so of a
	// request for many deliveries (redeliver-since), which overrides only the schedule.
	Asked, InBulk bool
	// Scheduled is status.nextAttemptTime, or zero.
	Scheduled time.Time
}

// Of returns the part of a PostbackDelivery that determines why it waits.
func Of(d *v1alpha1.PostbackDelivery) Delivery {
	of := Delivery{
		Phase: cmp.Or(d.Status.Phase, v1alpha1.DeliveryPending), Attempts: d.Status.AttemptCount, Test: d.Spec.Test,
	}
	of.Asked, of.InBulk = Requested(d)
	if next := d.Status.NextAttemptTime; next != nil {
		of.Scheduled = next.Time
	}
	return of
}

// Requested returns Asked and InBulk of a delivery: its unhandled requests for redelivery.
func Requested(d *v1alpha1.PostbackDelivery) (asked, inBulk bool) {
	request := delivery.RequestOf(d)
	return request.Redeliver != "", request.FromPostback != ""
}

func (d *Delivery) requested() bool { return d.Asked || d.InBulk }

// Done reports whether a delivery is finished and no redelivery of it is requested.
func (d *Delivery) Done() bool { return d.Phase.Finished() && !d.requested() }

// For returns the reason why a delivery waits. p is its Postback, or nil if it does not exist.
func For(d Delivery, p *v1alpha1.Postback, now time.Time) Why {
	if d.Done() {
		return Why{}
	}
	if p == nil {
		return Why{NoPostback, "Its Postback no longer exists.", time.Time{}}
	}
	if why := unroutable(p); why.Reason != "" {
		return why
	}
	if why := stopped(p); why.Reason != "" && !d.Asked && !d.Test {
		return why
	}
	due := now
	if d.Scheduled.After(now) && !d.requested() {
		due = d.Scheduled
	}
	why := d.passing(Endpoint(p, now))
	switch scheduled := due.After(now); {
	case why.Reason != "" && (why.Reason == Gone || why.Next.After(due) || !scheduled):
		return why
	case scheduled:
		return Why{Scheduled, "The next attempt is scheduled for " + clock(due, now) + ".", due}
	}
	return Why{InTurn, "The attempt is due.", now}
}

// passing returns why, or the zero value if the delivery need not wait for that. A user's request for one delivery
// overrides an open circuit and a 410, but not Retry-After.
func (d *Delivery) passing(why Why) Why {
	if why.Reason != RetryAfter && (d.Asked || d.Test && d.Attempts == 0) {
		return Why{}
	}
	return why
}

// Postback returns the reason why all deliveries of a Postback wait, or the zero value.
func Postback(p *v1alpha1.Postback, now time.Time) Why {
	return cmp.Or(unroutable(p), stopped(p), Endpoint(p, now))
}

// Backlog returns the reason why the deliveries of a Postback's backlog wait, with the time of their next attempt. It
// is the zero value without a backlog.
func Backlog(p *v1alpha1.Postback, now time.Time) Why {
	b := p.Status.Backlog
	if b == nil {
		return Why{}
	}
	d := Delivery{Phase: v1alpha1.DeliveryPending}
	if b.NextAttemptTime != nil {
		d.Scheduled = b.NextAttemptTime.Time
	}
	return For(d, p, now)
}

// Endpoint returns the reason why deliveries wait for the endpoint of a Postback, or the zero value.
func Endpoint(p *v1alpha1.Postback, now time.Time) Why {
	wait := p.Status.Waiting
	if wait == nil {
		return Why{}
	}
	next := now
	if wait.Until != nil && wait.Until.After(now) {
		next = wait.Until.Time
	}
	switch ahead := next.After(now); {
	case wait.Reason == v1alpha1.WaitGone:
		return Why{Gone, "The endpoint answered 410 (Gone): its deliveries wait until spec changes, or until somebody sends a test event or redelivers one of them.", time.Time{}}
	case wait.Reason == v1alpha1.WaitRetryAfter && ahead:
		return Why{RetryAfter, "The endpoint asked to wait until " + clock(next, now) + ".", next}
	case wait.Reason == v1alpha1.WaitCircuitOpen && ahead:
		return Why{CircuitOpen, "The endpoint is down; the next probe is at " + clock(next, now) + ".", next}
	case wait.Reason == v1alpha1.WaitCircuitOpen:
		return Why{CircuitOpen, "The endpoint is down; a probe is due.", now}
	}
	return Why{} // The pause is over.
}

// Unavailable returns the answer while the API server does not respond.
func Unavailable() Why {
	return Why{APIServerUnavailable, "The API server is unavailable: attempts cannot be read or recorded.", time.Time{}}
}

// Behind adds the number of deliveries of the same Postback that come first to the reason of a due delivery.
func (w Why) Behind(others int) Why {
	switch {
	case w.Reason != InTurn || others <= 0:
	case others == 1:
		w.Sentence = "The attempt is due, behind 1 other."
	default:
		w.Sentence = fmt.Sprintf("The attempt is due, behind %d others.", others)
	}
	return w
}

// unroutable returns the reason why no dispatcher can send a Postback's deliveries, or the zero value.
func unroutable(p *v1alpha1.Postback) Why {
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ReadyCondition)
	switch {
	case ready == nil || ready.Status == metav1.ConditionTrue:
		return Why{}
	case ready.Reason == v1alpha1.NoDispatcherReason:
		return Why{NoDispatcher, "No dispatcher replica is running.", time.Time{}}
	case p.Status.EndpointHost == "":
		return Why{NoRoute, fmt.Sprintf("Postback %s has no route yet (%s).", p.Name, ready.Reason), time.Time{}}
	}
	return Why{} // The last good route is in force.
}

// stopped returns the reason if a user paused or disabled the Postback.
func stopped(p *v1alpha1.Postback) Why {
	switch state := p.Spec.GetState(); state {
	case v1alpha1.PostbackPaused, v1alpha1.PostbackDisabled:
		return Why{Reason(state), fmt.Sprintf("Postback %s is %s.", p.Name, strings.ToLower(string(state))), time.Time{}}
	default:
		return Why{}
	}
}

// clock formats a time in UTC, without its date if it is today.
func clock(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format("15:04:05 UTC")
	}
	return at.Format("2006-01-02 15:04:05 UTC")
}
