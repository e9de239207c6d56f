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

package send_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
)

// signed has the parts of a request that a receiver verifies.
type signed struct{ id, timestamp, signature, body string }

// Each attempt has its own timestamp and signature, so that a receiver with a narrow tolerance accepts a retry. The
// id stays, so that the receiver can drop duplicates (vercel/eve#1570, stripe/stripe-dotnet#1184,
// sendgrid/sendgrid-nodejs#1435).
func TestEachAttemptIsStampedAndSignedAnew(t *testing.T) {
	webhook, err := standardwebhooks.NewWebhook(routeTo("").Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	var got []signed
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, signed{r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), string(body)})
		if err := webhook.VerifyIgnoringTimestamp(body, r.Header); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer endpoint.Close()
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	sender := senderWith(t, clock, egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
	d := event(`{"n":12345678901234567890}`)
	signatures := map[string]bool{}
	for i := range 4 {
		sender.Send(t.Context(), routeTo(endpoint.URL), d)
		if want := strconv.FormatInt(clock.Now().Unix(), 10); got[i].timestamp != want {
			t.Errorf("attempt %d is stamped %s, it is %s", i, got[i].timestamp, want)
		}
		if got[i].id != d.Spec.Event.ID || got[i].body != d.Spec.Body {
			t.Errorf("attempt %d carries %s: %s", i, got[i].id, got[i].body)
		}
		signatures[got[i].signature] = true
		clock.SetTime(clock.Now().Add(time.Minute))
	}
	if len(signatures) != 4 {
		t.Errorf("%d signatures for 4 attempts", len(signatures))
	}
}

// The signature covers the sent bytes exactly, in every format. Convoy converted the body for some endpoints after
// signing it, and lost digits.
func TestSignatureIsOfTheBytesThatAreSent(t *testing.T) {
	webhook, err := standardwebhooks.NewWebhook(routeTo("").Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	const body = "{ \"z\":12345678901234567890.10, \"a\":\"é <&> \\u00e9\",\t\"z2\":1E400 }"
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		if string(got) != body || webhook.Verify(got, r.Header) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer endpoint.Close()
	for _, format := range []v1alpha1.PayloadFormat{"", v1alpha1.FormatJSON, v1alpha1.FormatCloudEvents, v1alpha1.FormatSlack} {
		t.Run(string(format), func(t *testing.T) {
			d := event(body)
			d.Spec.Format = format
			if attempt := newSender().Send(t.Context(), routeTo(endpoint.URL), d); attempt.Outcome != v1alpha1.OutcomeSucceeded {
				t.Errorf("format %q: attempt is %s", format, attempt.Outcome)
			}
		})
	}
}
