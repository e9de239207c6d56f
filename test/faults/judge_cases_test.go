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
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

func arrived(d time.Duration, b behaviour) *arrival {
	return &arrival{id: "evt_1", replica: "one", body: sha256.Sum256([]byte("{data}")), at: at(d), behaviour: b, answer: "said", answered: at(d)}
}

// attempted returns the record of an attempt that took 100 ms.
func attempted(number int32, d time.Duration, outcome v1alpha1.Outcome, code int32) v1alpha1.Attempt {
	a := v1alpha1.Attempt{
		Number: number, Time: metav1.NewMicroTime(at(d)), Duration: metav1.Duration{Duration: 100 * time.Millisecond}, Outcome: outcome,
	}
	if code != 0 {
		a.StatusCode, a.ResponseBody = ptr.To(code), "said"
	}
	return a
}

func noted(a v1alpha1.Attempt) v1alpha1.Attempt {
	a.Message = takenOver
	return a
}

func answered(a v1alpha1.Attempt, with string) v1alpha1.Attempt {
	a.ResponseBody = with
	return a
}

func saying(a *arrival, answer string) *arrival {
	a.answer = answer
	return a
}

func lasting(a v1alpha1.Attempt, d time.Duration) v1alpha1.Attempt {
	a.Duration.Duration = d
	return a
}

func unanswered(a *arrival) *arrival {
	a.answered = time.Time{}
	return a
}

func delivered(attempts ...v1alpha1.Attempt) *v1alpha1.PostbackDelivery {
	d := &v1alpha1.PostbackDelivery{}
	d.Spec.Event.ID, d.Spec.Body = "evt_1", "{data}"
	d.Status.Phase, d.Status.Attempts, d.Status.AttemptCount = v1alpha1.DeliveryDelivered, attempts, int32(len(attempts))
	return d
}

// TestJudge: the judge finds each violation, and does not report cases that a fault explains.
func TestJudge(t *testing.T) {
	const (
		ms        = time.Millisecond
		succeeded = v1alpha1.OutcomeSucceeded
		failed    = v1alpha1.OutcomeFailed5xx
	)
	ok := attempted(1, 0, succeeded, 200)
	killedAt := func(d time.Duration) fault { return fault{kind: killed, replica: "one", from: at(d), to: at(d)} }
	tests := map[string]struct {
		delivery *v1alpha1.PostbackDelivery
		arrivals []*arrival
		faults   []fault
		asked    time.Time
		stream   bool
		// want is part of the problem, or "" for none.
		want       string
		duplicates int
	}{
		"delivered":          {delivery: delivered(ok), arrivals: []*arrival{arrived(50*ms, well)}},
		"no delivery":        {want: "there is no delivery"},
		"not delivered":      {delivery: &v1alpha1.PostbackDelivery{}, want: "unattempted"},
		"never arrived":      {delivery: delivered(ok), want: "its endpoint accepted none"},
		"arrived unrecorded": {delivery: delivered(), arrivals: []*arrival{arrived(0, well)}, want: "no log shows it"},
		"record lost by a kill": {
			delivery: delivered(noted(attempted(1, 20*time.Second, succeeded, 200))), faults: []fault{killedAt(time.Second)},
			arrivals: []*arrival{arrived(50*ms, well), arrived(20*time.Second+50*ms, well)}, duplicates: 1,
		},
		"record lost long before the kill": {
			delivery: delivered(attempted(1, 20*time.Second, succeeded, 200)), faults: []fault{killedAt(19 * time.Second)},
			arrivals: []*arrival{arrived(50*ms, well), arrived(20*time.Second+50*ms, well)}, duplicates: 1, want: "no log shows it",
		},
		"other status": {delivery: delivered(attempted(1, 0, failed, 500)), arrivals: []*arrival{arrived(50*ms, unwell), arrived(60*ms, well)}, want: "2 requests arrived"},
		"other outcome": {
			delivery: delivered(attempted(1, 0, v1alpha1.OutcomeTimeout, 0), attempted(2, 13*time.Second, succeeded, 200)),
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(13*time.Second+50*ms, well)}, want: "the endpoint was unwell",
		},
		"on time": {
			delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 12100*ms, succeeded, 200)),
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(12150*ms, well)},
		},
		"early": {
			delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 12099*ms, succeeded, 200)),
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(12150*ms, well)}, want: "1ms before its time",
		},
		"taken over before its time": {
			delivery: delivered(attempted(1, 0, failed, 503), noted(attempted(2, 2*time.Second, succeeded, 200))),
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(2050*ms, well)},
		},
		"asked for": {
			delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 9*time.Second, succeeded, 200)), asked: at(8 * time.Second),
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(9050*ms, well)},
		},
		"again, without a reason": {
			delivery: delivered(ok, attempted(2, 13*time.Second, succeeded, 200)),
			arrivals: []*arrival{arrived(50*ms, well), arrived(13050*ms, well)}, want: "arrived again", duplicates: 1,
		},
		"taken over": {
			delivery: delivered(ok, noted(attempted(2, 13*time.Second, succeeded, 200))),
			arrivals: []*arrival{arrived(50*ms, well), arrived(13050*ms, well)}, duplicates: 1,
		},
		"given out again by the stream": {
			delivery: together(delivered(ok), delivered(attempted(1, 31*time.Second, succeeded, 200))), stream: true,
			arrivals: []*arrival{arrived(50*ms, well), arrived(31050*ms, well)}, duplicates: 1,
			faults: []fault{{kind: streamDown, from: at(0), to: at(time.Second)}},
		},
		"given out again by the stream, without a reason": {
			delivery: together(delivered(ok), delivered(attempted(1, 31*time.Second, succeeded, 200))), stream: true,
			arrivals: []*arrival{arrived(50*ms, well), arrived(31050*ms, well)}, duplicates: 1, want: "arrived again",
		},
		"given out again by the stream, and refused then": {
			delivery: together(delivered(ok), delivered(attempted(1, 3*time.Second, failed, 503), attempted(2, 15100*ms, succeeded, 200))), stream: true,
			arrivals: []*arrival{arrived(50*ms, well), arrived(3050*ms, unwell), arrived(15150*ms, well)}, duplicates: 2,
			faults: []fault{{kind: streamDown, from: at(0), to: at(time.Second)}},
		},
		"given out again by the stream, refused then, and early": {
			delivery: together(delivered(ok), delivered(attempted(1, 3*time.Second, failed, 503), attempted(2, 15099*ms, succeeded, 200))), stream: true,
			arrivals: []*arrival{arrived(50*ms, well), arrived(3050*ms, unwell), arrived(15150*ms, well)}, duplicates: 2,
			faults: []fault{{kind: streamDown, from: at(0), to: at(time.Second)}}, want: "1ms before its time",
		},
		"given out again by the stream while it was attempted": {
			delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 2*time.Second, succeeded, 200)), stream: true,
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(2050*ms, well)}, faults: []fault{{kind: streamDown, from: at(0), to: at(time.Second)}},
		},
		"a retry before its time while there was no stream": {
			delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 12100*ms, failed, 503), attempted(3, 15*time.Second, succeeded, 200)), stream: true,
			arrivals: []*arrival{arrived(50*ms, unwell), arrived(12150*ms, unwell), arrived(15050*ms, well)}, want: "before its time",
			faults: []fault{{kind: streamDown, from: at(0), to: at(time.Second)}},
		},
		"record lost with NATS and the replica": {
			delivery: delivered(attempted(1, 20*time.Second, succeeded, 200)), stream: true,
			faults:   []fault{{kind: streamDown, from: at(0), to: at(18 * time.Second)}, killedAt(19 * time.Second)},
			arrivals: []*arrival{arrived(50*ms, well), arrived(20*time.Second+50*ms, well)}, duplicates: 1,
		},
		"other body": {
			delivery: delivered(ok), want: "another body",
			arrivals: []*arrival{{id: "evt_1", replica: "one", at: at(50 * ms), behaviour: well, answer: "said"}},
		},
		"accepted late by a stopped replica": {
			delivery: delivered(lasting(ok, 20*time.Second)), arrivals: []*arrival{arrived(50*ms, late)},
			faults: []fault{{kind: stopped, replica: "one", from: at(time.Second), to: at(20 * time.Second)}},
		},
		"accepted late, without a reason": {
			delivery: delivered(lasting(ok, timeout+100*ms)), arrivals: []*arrival{arrived(50*ms, late)}, want: "the endpoint was late",
		},
		"said to be accepted, and never answered": {
			delivery: delivered(lasting(ok, 20*time.Second)), arrivals: []*arrival{unanswered(arrived(50*ms, late))},
			faults: []fault{{kind: stopped, replica: "one", from: at(time.Second), to: at(20 * time.Second)}}, want: "accepted none",
		},
		"two at a time": {
			delivery: delivered(noted(answered(attempted(1, 0, succeeded, 200), "first")), noted(answered(attempted(2, 1*ms, succeeded, 200), "second"))),
			arrivals: []*arrival{saying(arrived(51*ms, well), "second"), saying(arrived(52*ms, well), "first")},
			faults:   []fault{killedAt(0)}, duplicates: 1,
		},
		"two at a time, unsaid": {
			delivery: delivered(answered(attempted(1, 0, failed, 503), "first"), answered(attempted(2, 1*ms, succeeded, 200), "second")),
			arrivals: []*arrival{saying(arrived(50*ms, unwell), "first"), saying(arrived(52*ms, well), "second")},
			faults:   []fault{killedAt(0)}, want: "the log does not say why",
		},
		"a free retry": {delivery: delivered(ok), arrivals: []*arrival{arrived(40*ms, resetting), arrived(50*ms, well)}},
		"nothing came": {delivery: delivered(attempted(1, 0, failed, 503), attempted(2, 13*time.Second, succeeded, 200)), arrivals: []*arrival{arrived(13050*ms, well)}, want: "nothing arrived"},
		"refused":      {delivery: delivered(attempted(1, 0, v1alpha1.OutcomeConnectionRefused, 0), attempted(2, 13*time.Second, succeeded, 200)), arrivals: []*arrival{arrived(13050*ms, well)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := evidence{
				accepted: map[string]string{"evt_1": "data"}, arrivals: map[string][]*arrival{"evt_1": test.arrivals},
				deliveries: map[string]*v1alpha1.PostbackDelivery{}, faults: test.faults, stream: test.stream, asked: test.asked,
			}
			if test.delivery != nil {
				e.deliveries["evt_1"] = test.delivery
			}
			v := judge(e)
			if got := strings.Join(v.problems, "; "); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("problems are %q, want %q", got, test.want)
			}
			if v.duplicates != test.duplicates {
				t.Errorf("%d duplicates, want %d", v.duplicates, test.duplicates)
			}
		})
	}
}
