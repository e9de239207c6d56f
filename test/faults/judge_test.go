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

package faults

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// faultKind is a kind of fault that TestFaults causes.
type faultKind string

const (
	// killed means that a replica was killed at the end of the fault and restarted.
	killed faultKind = "killed"
	// stopped means that a replica was suspended (SIGSTOP) until its Leases expired.
	stopped faultKind = "stopped"
	// outage is a time without a working API server. leaseLost means that a Lease was deleted.
	outage    faultKind = "outage"
	leaseLost faultKind = "lease lost"
	// streamDown is a time without NATS, with the JetStream intake.
	streamDown faultKind = "NATS down"
)

// fault is a fault that was caused.
type fault struct {
	kind    faultKind
	replica string
	// from and to bound the fault; for killed both are the moment of the kill.
	from, to time.Time
}

const (
	// recordGrace is how long after a response its attempt may be unrecorded.
	recordGrace = 5 * time.Second
	// aftermath is how long the effects of a fault last: until the election's Lease expires and backoffs end.
	aftermath = 30 * time.Second
	// inLane bounds how long a message that the stream delivered twice may wait for its attempt after the other
	// attempt is recorded.
	inLane = 5 * time.Second
	// takenOver is part of the recorded message of a takeover.
	takenOver = "the endpoint may have received the event before"
)

// schedule has the times from a failed attempt to the next, as the README states them.
var schedule = []time.Duration{12 * time.Second, 148 * time.Second, 1808 * time.Second, 22026 * time.Second, 24 * time.Hour}

// evidence has everything that is known at the end of a run.
type evidence struct {
	// accepted has the data of each accepted event, by its id.
	accepted   map[string]string
	arrivals   map[string][]*arrival
	deliveries map[string]*v1alpha1.PostbackDelivery
	faults     []fault
	// stream is true with the JetStream intake, where two attempts of a success have two entries in the log.
	stream bool
	// asked is when redeliver-since was set for the remaining deliveries; zero means never.
	asked time.Time
}

// verdict is the conclusion from the evidence.
type verdict struct {
	accepted, delivered, arrivals, attempts int
	// unrecorded counts arrivals without a record. overlaps counts attempts that began before another had ended.
	// seenLate counts timely responses that the dispatcher noticed too late. takenOver counts early attempts whose
	// message says so. givenAgain counts first attempts of messages that the stream delivered again. starved counts
	// attempts that timed out before the dispatcher had sent the request or noticed the response.
	lost, duplicates, unrecorded, overlaps, early, takenOver, givenAgain, different, seenLate, starved int
	// reasons counts the duplicates by their explanation.
	reasons map[string]int
	// problems describes the violations.
	problems []string
}

func (v *verdict) problem(counter *int, format string, args ...any) {
	*counter++
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge compares the arrivals with the records and the guarantees.
func judge(e evidence) *verdict {
	v := &verdict{accepted: len(e.accepted), reasons: map[string]int{}}
	for _, id := range slices.Sorted(maps.Keys(e.accepted)) {
		v.judgeAccepted(e, id)
	}
	for _, id := range slices.Sorted(maps.Keys(e.arrivals)) {
		if e.deliveries[id] == nil {
			v.problem(&v.different, "%s arrived, and there is no delivery of it", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.deliveries)) {
		d := e.deliveries[id]
		v.arrivals += len(e.arrivals[id])
		v.attempts += len(d.Status.Attempts)
		matched := match(d.Status.Attempts, e.arrivals[id])
		v.judgeLog(e, d, matched)
		v.judgeTimes(e, d)
		v.judgeDuplicates(e, d, matched)
	}
	return v
}

// judgeAccepted checks that an accepted event has arrived.
func (v *verdict) judgeAccepted(e evidence, id string) {
	d := e.deliveries[id]
	switch {
	case d == nil:
		v.problem(&v.lost, "%s was accepted, and there is no delivery of it", id)
		return
	case d.Status.Phase != v1alpha1.DeliveryDelivered:
		v.problem(&v.lost, "%s is %s after %d attempts", id, cmp.Or(d.Status.Phase, "unattempted"), d.Status.AttemptCount)
		return
	case !slices.ContainsFunc(e.arrivals[id], func(a *arrival) bool { return a.succeeded() || a.acceptedLate(d) }):
		v.problem(&v.lost, "%s is recorded as delivered, and its endpoint accepted none", id)
		return
	case !strings.Contains(d.Spec.Body, e.accepted[id]):
		v.problem(&v.different, "%s was stored with other data than it was posted with", id)
	}
	v.delivered++
}

// succeeded reports whether an arrival was answered with a success.
func (a *arrival) succeeded() bool { return outcomes[a.behaviour] == v1alpha1.OutcomeSucceeded }

// acceptedLate reports whether a response after the deadline counted as a success. The endpoint did accept the event,
// and a suspended replica found the response when it was resumed.
func (a *arrival) acceptedLate(d *v1alpha1.PostbackDelivery) bool {
	return a.behaviour == late && !a.answered.IsZero() && slices.ContainsFunc(d.Status.Attempts, func(r v1alpha1.Attempt) bool {
		return r.Outcome == v1alpha1.OutcomeSucceeded && r.ResponseBody == a.answer
	})
}

// judgeTimes checks that no attempt was made before its time.
func (v *verdict) judgeTimes(e evidence, d *v1alpha1.PostbackDelivery) {
	counted := 0
	for i := range d.Status.Attempts {
		next := &d.Status.Attempts[i]
		if e.stream && next.Number == 1 {
			// The stream delivered the message, perhaps again: the record of that delivery begins here.
			counted = 0
		}
		if i > 0 && (e.asked.IsZero() || next.Time.Time.Before(e.asked)) {
			previous := &d.Status.Attempts[i-1]
			end := previous.Time.Add(previous.Duration.Duration)
			due := end.Add(schedule[min(max(counted, 1), len(schedule))-1])
			if at := previous.RetryAfterTime; at != nil && at.After(due) {
				due = at.Time
			}
			switch {
			case next.Time.Time.Before(end):
				v.overlaps++
				if !strings.Contains(next.Message, takenOver) && !strings.Contains(previous.Message, takenOver) {
					v.problem(&v.early, "%s: attempt %d began before attempt %d had ended, and the log does not say why: %+v",
						d.Spec.Event.ID, next.Number, previous.Number, d.Status.Attempts)
				}
			case previous.Outcome == v1alpha1.OutcomeSucceeded: // judgeDuplicates explains this one.
			case strings.Contains(next.Message, takenOver):
				// The previous attempt was unrecorded at that time, so no next attempt was scheduled.
				v.takenOver++
			case next.Number == 2 && next.Time.Time.Before(end.Add(inLane)) && e.heldUp(previous.Time.Time, next.Time.Time, ""):
				v.givenAgain++ // The second record is that of another first attempt.
			case next.Time.Time.Before(due):
				v.problem(&v.early, "%s: attempt %d began at %s, %s before its time; the log: %+v", d.Spec.Event.ID, next.Number,
					next.Time.Format(time.TimeOnly), due.Sub(next.Time.Time), d.Status.Attempts)
			}
		}
		if !next.Outcome.Ours() {
			counted++
		}
	}
}

// judgeDuplicates explains each arrival of an event that its endpoint had accepted before.
func (v *verdict) judgeDuplicates(e evidence, d *v1alpha1.PostbackDelivery, m *matching) {
	var accepted *arrival
	for _, a := range e.arrivals[d.Spec.Event.ID] {
		if accepted != nil {
			v.duplicates++
			reason := e.explain(m, accepted, a)
			if reason == "" {
				v.problem(&v.different, "%s arrived again at %s, though it was accepted at %s", d.Spec.Event.ID, a.at.Format(time.TimeOnly), accepted.at.Format(time.TimeOnly))
				reason = "unexplained"
			}
			v.reasons[reason]++
		}
		if a.succeeded() {
			accepted = a
		}
	}
}

// explain returns the reason why an event arrived again, or "".
func (e evidence) explain(m *matching, before, again *arrival) string {
	first, second := m.of[before], m.of[again]
	switch {
	case first == nil:
		return "the replica was killed before it recorded the answer"
	case first.Outcome != v1alpha1.OutcomeSucceeded:
		return "the answer came too late"
	case second == nil && e.during(before.at, again.at, "", ""):
		return "taken over during a fault, and the replica killed before the record"
	case second == nil:
		return ""
	case strings.Contains(second.Message, takenOver), strings.Contains(first.Message, takenOver):
		return "taken over from a replica that did not record in time; the log says so"
	case e.heldUp(before.at, again.at, before.replica):
		return "given out again by the stream while the record of it was held up"
	case !e.asked.IsZero() && again.at.After(e.asked):
		return "asked for by redeliver-since before it was recorded as delivered"
	}
	return ""
}

// heldUp reports whether a fault may have delayed the record of a replica's attempt until the stream delivered the
// message again. A replica of "" means any.
func (e evidence) heldUp(from, to time.Time, replica string) bool {
	return e.stream && (e.during(from, to, streamDown, "") || e.during(from, to, stopped, replica))
}

// during reports whether a fault of a kind affected a replica in a time; "" means any kind or replica.
func (e evidence) during(from, to time.Time, kind faultKind, replica string) bool {
	return slices.ContainsFunc(e.faults, func(f fault) bool {
		return (kind == "" || f.kind == kind) && (replica == "" || f.replica == replica) &&
			!f.from.After(to) && !f.to.Add(aftermath).Before(from)
	})
}

// lostRecord reports whether the record of an arrival was lost because the replica was killed.
func (e evidence) lostRecord(a *arrival) bool {
	return slices.ContainsFunc(e.faults, func(f fault) bool {
		if f.kind != killed || f.replica != a.replica || f.from.Before(a.at) {
			return false
		}
		// Without the API server or NATS, a record waits for it.
		return f.from.Sub(a.at) <= timeout+recordGrace || e.during(a.at.Add(-aftermath), f.from, outage, "") ||
			e.during(a.at.Add(-aftermath), f.from, streamDown, "") ||
			e.during(a.at, f.from, stopped, a.replica)
	})
}
