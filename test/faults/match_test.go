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
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// record is a recorded attempt with the arrivals that match it.
type record struct {
	*v1alpha1.Attempt

	arrivals []*arrival
}

func (r *record) end() time.Time { return r.Time.Add(r.Duration.Duration) }

// matching has the attempts of a delivery in the order of their records, and the arrivals that match none.
type matching struct {
	records    []*record
	of         map[*arrival]*record
	unrecorded []*arrival
}

// match assigns each arrival to the attempt with the same response, or else to an attempt during which it came.
// Attempts without an arrival come first, then later ones.
func match(attempts []v1alpha1.Attempt, arrivals []*arrival) *matching {
	m := &matching{of: map[*arrival]*record{}}
	for i := range attempts {
		m.records = append(m.records, &record{Attempt: &attempts[i]})
	}
	byTime := slices.SortedFunc(slices.Values(m.records), func(a, b *record) int { return b.Time.Compare(a.Time.Time) })
	for _, fits := range []func(*record, *arrival) bool{
		func(r *record, a *arrival) bool { return r.ResponseBody == a.answer },
		func(r *record, _ *arrival) bool { return len(r.arrivals) == 0 && r.ResponseBody == "" },
		func(*record, *arrival) bool { return true },
	} {
		for _, a := range arrivals {
			if m.of[a] != nil {
				continue
			}
			if i := slices.IndexFunc(byTime, func(r *record) bool { return r.covers(a) && fits(r, a) }); i >= 0 {
				byTime[i].arrivals = append(byTime[i].arrivals, a)
				m.of[a] = byTime[i]
			}
		}
	}
	for _, r := range m.records {
		slices.SortFunc(r.arrivals, func(a, b *arrival) int { return a.at.Compare(b.at) })
	}
	for _, a := range arrivals {
		if m.of[a] == nil {
			m.unrecorded = append(m.unrecorded, a)
		}
	}
	return m
}

// covers reports whether an arrival came during an attempt.
func (r *record) covers(a *arrival) bool {
	const slack = 2 * time.Millisecond
	return !a.at.Before(r.Time.Add(-slack)) && !a.at.After(r.end().Add(slack))
}

// judgeLog compares the record of a delivery with its arrivals.
func (v *verdict) judgeLog(e evidence, d *v1alpha1.PostbackDelivery, m *matching) {
	id := d.Spec.Event.ID
	want := sha256.Sum256([]byte(d.Spec.Body))
	for _, a := range e.arrivals[id] {
		if a.body != want || a.problem != "" {
			v.problem(&v.different, "%s arrived with another body than was stored, or badly signed (%s)", id, a.problem)
		}
	}
	if n := len(m.records); int32(n) != d.Status.AttemptCount {
		v.problem(&v.different, "%s: %d attempts are listed, %d counted", id, n, d.Status.AttemptCount)
	}
	for _, r := range m.records {
		switch problem := v.compare(e, r); {
		case problem == "":
		case r.Outcome == v1alpha1.OutcomeTimeout && r.Duration.Duration >= timeout:
			v.starved++
		default:
			v.problem(&v.different, "%s: attempt %d at %s is recorded as %s (%s) after %s: %s", id, r.Number,
				r.Time.Format(time.TimeOnly), r.Outcome, r.Message, r.Duration.Duration, problem)
		}
	}
	for _, a := range m.unrecorded {
		v.unrecorded++
		if !e.lostRecord(a) {
			v.problem(&v.different, "%s arrived at %s from %s, and no log shows it though that replica was not killed", id, a.at.Format(time.TimeOnly), a.replica)
		}
	}
}

// compare returns the fault in the record of one attempt, or "".
func (v *verdict) compare(e evidence, r *record) string {
	if len(r.arrivals) == 0 {
		switch {
		case r.Outcome == v1alpha1.OutcomeConnectionRefused, r.Outcome == v1alpha1.OutcomeConnectionReset && r.StatusCode == nil:
			return ""
		case r.Outcome == v1alpha1.OutcomeTimeout && e.during(r.Time.Time, r.end(), stopped, ""):
			return ""
		}
		return "nothing arrived"
	}
	last := len(r.arrivals) - 1
	if last > 1 {
		return fmt.Sprintf("%d requests arrived, and an attempt is two at most", last+1)
	}
	for _, a := range r.arrivals[:last] {
		if a.behaviour != resetting {
			return fmt.Sprintf("%d requests arrived, and the first was answered (%s)", last+1, a.behaviour)
		}
	}
	a := r.arrivals[last]
	if r.Outcome == outcomes[a.behaviour] {
		code := ptr.Deref(r.StatusCode, 0)
		switch a.behaviour {
		case well, lying:
			return differs(code == 200 && r.ResponseBody == a.answer, r, a)
		case unwell:
			return differs(code == 503 && r.ResponseBody == a.answer, r, a)
		case busy:
			return differs(code == 429 && r.ResponseBody == a.answer && r.RetryAfterTime != nil, r, a)
		case hanging, late, resetting, cut, garbled:
			return differs(code == 0 && r.ResponseBody == "", r, a)
		}
	}
	// The deadline fired late, or the response came close to it: the replica lacked CPU time to notice it.
	starved := r.Duration.Duration > timeout+lateSlack || a.answered.After(r.Time.Add(timeout-lateSlack))
	unseen := r.Outcome == v1alpha1.OutcomeTimeout || a.behaviour == late && r.Outcome == v1alpha1.OutcomeSucceeded && r.ResponseBody == a.answer
	if unseen && r.Duration.Duration >= timeout && (starved || e.during(r.Time.Time, r.end(), stopped, a.replica)) {
		v.seenLate++
		return ""
	}
	return fmt.Sprintf("the endpoint was %s", a.behaviour)
}

// lateSlack is the delay from which on a replica counts as starved.
const lateSlack = 500 * time.Millisecond

func differs(same bool, r *record, a *arrival) string {
	if same {
		return ""
	}
	return fmt.Sprintf("status %d and %q, but the endpoint was %s and said %q", ptr.Deref(r.StatusCode, 0), r.ResponseBody, a.behaviour, a.answer)
}
