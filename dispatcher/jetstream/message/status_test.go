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

package message_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

var accepted = time.Date(2026, 1, 31, 12, 0, 0, 7e8, time.UTC)

// failed returns a delivery with this many failed attempts, whose texts have a length.
func failed(t *testing.T, attempts, length int) *v1alpha1.PostbackDelivery {
	t.Helper()
	d := sample(t, "")
	d.Generation = 1
	for i := range attempts {
		delivery.Apply(d, &route.Route{}, v1alpha1.Attempt{
			Time: metav1.NewMicroTime(accepted.Add(time.Duration(i) * time.Minute)), Outcome: v1alpha1.OutcomeFailed5xx, StatusCode: ptr.To[int32](503),
			Message: strings.Repeat("<", length), ResponseBody: strings.Repeat("\u2028", length/3),
		}, delivery.Request{})
	}
	return d
}

func TestRetryComesBackWithItsStatus(t *testing.T) {
	for name, test := range map[string]struct {
		attempts int
		gone     bool
		subject  string
	}{
		"first level":      {attempts: 1, subject: ".1"},
		"second level":     {attempts: 2, subject: ".2"},
		"last level":       {attempts: 9, subject: ".5"},
		"of a gone one":    {attempts: 3, gone: true, subject: ".6"},
		"beyond the bound": {attempts: 30, subject: ".5"},
	} {
		t.Run(name, func(t *testing.T) {
			d := failed(t, test.attempts, 10)
			if test.gone {
				d.Status.NextAttemptTime = nil
			}
			m, err := names.Retry(d, accepted)
			if err != nil {
				t.Fatal(err)
			}
			if want := "postback.waiting.partner.6f1c1c3e-0b1e-4d2f-9c1a-4f5f2f9f3a10" + test.subject; m.Subject != want {
				t.Errorf("subject %s, want %s", m.Subject, want)
			}
			got, stored, err := names.ParseWaiting(m.Subject, m.Header, m.Data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d.Status, got.Status); diff != "" || !stored.Equal(accepted) {
				t.Errorf("stored at %s; status: -want +got:\n%s", stored, diff)
			}
			if n, err := message.AttemptCount(m.Header); err != nil || int(n) != test.attempts {
				t.Errorf("%d attempts, %v", n, err)
			}
		})
	}
}

func TestLogShowsEveryAttempt(t *testing.T) {
	d := failed(t, 2, 10)
	a := v1alpha1.Attempt{Time: metav1.NewMicroTime(accepted.Add(time.Hour)), Outcome: v1alpha1.OutcomeSucceeded, StatusCode: ptr.To[int32](200)}
	m, err := names.Log(d, accepted, a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := names.ParseLog(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	delivery.Apply(d, nil, a, delivery.Request{})
	if diff := cmp.Diff(d.Status, got.Status); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// NATS refuses a message whose headers exceed 64 KiB.
func TestTextsOfTheOldestAttemptsAreCutFirst(t *testing.T) {
	d := failed(t, v1alpha1.MaxRecordedAttempts, v1alpha1.MaxMessage)
	m, err := names.Retry(d, accepted)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Header.Get(message.StatusHeader)); n > message.MaxStatus {
		t.Errorf("the status has %d bytes", n)
	}
	got, _, err := names.ParseWaiting(m.Subject, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	first, last := got.Status.Attempts[0], got.Status.Attempts[v1alpha1.MaxRecordedAttempts-1]
	if first.Message != "" || first.Outcome != v1alpha1.OutcomeFailed5xx || last.Message == "" || last.ResponseBody == "" {
		t.Errorf("first %+v, last %+v", first, last)
	}
	if d.Status.Attempts[0].Message == "" {
		t.Error("the delivery itself has lost its texts")
	}
}

func TestStatusThatIsNoJSONIsRefused(t *testing.T) {
	m, err := names.Retry(failed(t, 1, 1), accepted)
	if err != nil {
		t.Fatal(err)
	}
	m.Header.Set(message.StatusHeader, "{")
	if _, _, err := names.ParseWaiting(m.Subject, m.Header, m.Data); err == nil || !strings.Contains(err.Error(), message.StatusHeader) {
		t.Errorf("error %v", err)
	}
	if _, err := message.AttemptCount(nats.Header{message.StatusHeader: {"{"}}); err == nil {
		t.Error("no error")
	}
}
