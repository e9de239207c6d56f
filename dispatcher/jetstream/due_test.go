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

package jetstream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// failedOnce returns a delivery whose next attempt is due after a time, because of the schedule or of Retry-After.
func failedOnce(after time.Duration, retryAfter bool) *v1alpha1.PostbackDelivery {
	next := ptr.To(metav1.NewMicroTime(noon.Add(after)))
	a := v1alpha1.Attempt{Number: 1, Time: metav1.NewMicroTime(noon.Add(-time.Second)), Outcome: v1alpha1.OutcomeFailed5xx}
	if retryAfter {
		a.RetryAfterTime = next
	}
	return &v1alpha1.PostbackDelivery{Status: v1alpha1.PostbackDeliveryStatus{
		Phase: v1alpha1.DeliveryRetrying, AttemptCount: 1, Attempts: []v1alpha1.Attempt{a}, NextAttemptTime: next,
	}}
}

func TestDueIn(t *testing.T) {
	for name, test := range map[string]struct {
		d    *v1alpha1.PostbackDelivery
		want time.Duration
	}{
		"no attempt yet":          {d: &v1alpha1.PostbackDelivery{}},
		"invalid message":         {},
		"scheduled":               {d: failedOnce(time.Minute, false), want: time.Minute},
		"due":                     {d: failedOnce(0, false)},
		"overdue":                 {d: failedOnce(-time.Hour, false)},
		"longest delay":           {d: failedOnce(delivery.MaxDelay, false), want: delivery.MaxDelay},
		"the clock was set back":  {d: failedOnce(delivery.MaxDelay+jumpSlack+1, false)},
		"waits for its endpoint":  {d: &v1alpha1.PostbackDelivery{Status: v1alpha1.PostbackDeliveryStatus{AttemptCount: 1}}},
		"delayed by the endpoint": {d: failedOnce(time.Hour, true), want: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			if got := dueIn(test.d, noon); got != test.want {
				t.Errorf("dueIn = %s, want %s", got, test.want)
			}
		})
	}
}

func TestAdvance(t *testing.T) {
	read := func(ds ...*v1alpha1.PostbackDelivery) (messages []drained) {
		for i, d := range ds {
			messages = append(messages, drained{RawStreamMsg: &jetstream.RawStreamMsg{Sequence: uint64(10 + i)}, delivery: d})
		}
		return messages
	}
	var many []*v1alpha1.PostbackDelivery
	for range 5 {
		many = append(many, failedOnce(-time.Second, false))
	}
	due, soon, late := failedOnce(-time.Second, false), failedOnce(time.Minute, false), failedOnce(time.Hour, true)
	for name, test := range map[string]struct {
		read []drained
		// due is the number of returned messages, next the sequence to continue from, aside the number of messages
		// set aside. rest is the time until the next read, most its bound.
		due   int
		next  uint64
		aside int
		rest  time.Duration
		most  int
	}{
		"all are due":                           {read: read(due, due), due: 2, next: 12},
		"the second is not":                     {read: read(due, soon, soon), due: 1, next: 11, rest: time.Minute, most: leastRead},
		"the sixth is not":                      {read: read(append(many, soon)...), due: 5, next: 15, rest: time.Minute, most: 10},
		"a delayed one is passed":               {read: read(late, due, soon), due: 1, next: 12, aside: 1, rest: time.Minute, most: leastRead},
		"one due in a moment rests for a while": {read: read(failedOnce(time.Millisecond, false)), rest: shortestRest, most: leastRead},
		"an invalid one is returned":            {read: []drained{{RawStreamMsg: &jetstream.RawStreamMsg{Sequence: 10}, invalid: errOther}}, due: 1, next: 11},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cursor{most: laneShare}
			if got := c.advance(test.read, noon); len(got) != test.due {
				t.Errorf("%d are due, want %d", len(got), test.due)
			}
			if c.most != test.most {
				t.Errorf("the next read is bounded by %d, want %d", c.most, test.most)
			}
			if c.next != test.next || len(c.again) != test.aside {
				t.Errorf("next %d and %d aside, want %d and %d", c.next, len(c.again), test.next, test.aside)
			}
			if rest := c.restUntil; test.rest == 0 != rest.IsZero() || test.rest > 0 && rest.Sub(noon) != test.rest {
				t.Errorf("it rests until %s, want %s", rest, test.rest)
			}
		})
	}
}

func TestMayHaveDue(t *testing.T) {
	for name, test := range map[string]struct {
		cursor cursor
		n      uint64
		want   bool
	}{
		"new messages":        {n: 1, want: true},
		"none":                {},
		"rests":               {n: 1, cursor: cursor{restUntil: noon.Add(time.Second)}},
		"rested":              {n: 1, cursor: cursor{restUntil: noon}, want: true},
		"read since the poll": {n: 1, cursor: cursor{dryAt: 7}},
		"one to be read again now": {
			cursor: cursor{dryAt: 7, again: map[uint64]reread{1: {at: noon}}}, want: true,
		},
		"one to be read again later": {cursor: cursor{dryAt: 7, again: map[uint64]reread{1: {at: noon.Add(1)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.cursor.mayHaveDue(test.n, 7, noon); got != test.want {
				t.Errorf("mayHaveDue = %v", got)
			}
		})
	}
}

func TestRecordOf(t *testing.T) {
	failed := failedOnce(-time.Second, false)
	final, test, again := failed.DeepCopy(), failed.DeepCopy(), failed.DeepCopy()
	final.Status.Phase, test.Spec.Test, again.Status.AttemptCount = v1alpha1.DeliveryFailed, true, 2
	for name, c := range map[string]struct {
		d    *v1alpha1.PostbackDelivery
		few  bool
		want recordKind
	}{
		"first failure, few objects":        {d: failed, few: true, want: recordObjectIfFree},
		"first failure, many objects":       {d: failed, want: recordRetry},
		"second failure, few objects":       {d: again, few: true, want: recordRetry},
		"final failure":                     {d: final, want: recordObject},
		"test event, though there are many": {d: test, want: recordObject},
	} {
		t.Run(name, func(t *testing.T) {
			if got := recordOf(c.d, c.few); got != c.want {
				t.Errorf("recordOf = %d, want %d", got, c.want)
			}
		})
	}
}
