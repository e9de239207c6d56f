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
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/test/receiver"
)

func senderWith(t *testing.T, c *clocktesting.FakePassiveClock, o egress.Options) *send.Sender {
	t.Helper()
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		t.Fatal(err)
	}
	out, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return send.New(send.Options{Signer: signer, UserAgent: "Postback/test", Clock: c, Egress: out})
}

// A connection made under the rules of one namespace must not carry a request of a namespace with other rules.
func TestConnectionsAreNotSharedAcrossRules(t *testing.T) {
	endpoint := echo(t)
	sender := senderWith(t, clocktesting.NewFakePassiveClock(time.Now()), egress.Options{AllowCIDRs: egress.List{"wide=127.0.0.0/8"}})
	for i, step := range []struct {
		namespace string
		want      v1alpha1.Outcome
	}{
		{"narrow", v1alpha1.OutcomeAddressBlocked},
		{"wide", v1alpha1.OutcomeSucceeded},
		{"narrow", v1alpha1.OutcomeAddressBlocked},
		{"wide", v1alpha1.OutcomeSucceeded},
		{"other", v1alpha1.OutcomeAddressBlocked},
	} {
		r := routeTo(endpoint.URL)
		r.Namespace, r.UID = step.namespace, types.UID(step.namespace)
		attempt := sender.Send(t.Context(), r, event("{}"))
		if attempt.Outcome != step.want {
			t.Errorf("attempt %d is %s: %s", i, attempt.Outcome, attempt.Message)
		}
		if step.want == v1alpha1.OutcomeAddressBlocked && (attempt.RemoteIP != "" || !strings.Contains(attempt.Message, "--allow-cidr")) {
			t.Errorf("attempt %d is %+v", i, attempt)
		}
	}
}

// Faults of the proxy and of the endpoint have different outcomes.
func TestProxyOutcomes(t *testing.T) {
	for answer, want := range map[string]v1alpha1.Outcome{
		"HTTP/1.1 407 x\r\n\r\n": v1alpha1.OutcomeProxyFailed,
		"HTTP/1.1 403 x\r\n\r\n": v1alpha1.OutcomeProxyFailed,
		"nonsense\r\n\r\n":       v1alpha1.OutcomeProxyFailed,
		"":                       v1alpha1.OutcomeProxyFailed,
		"HTTP/1.1 502 x\r\n\r\n": v1alpha1.OutcomeConnectionFailed,
		"HTTP/1.1 503 x\r\n\r\n": v1alpha1.OutcomeConnectionFailed,
		"HTTP/1.1 504 x\r\n\r\n": v1alpha1.OutcomeTimeout,
		// After the proxy's response, the endpoint closes the connection.
		"HTTP/1.1 200 x\r\n\r\n": v1alpha1.OutcomeConnectionReset,
	} {
		t.Run(answer, func(t *testing.T) {
			sender := senderWith(t, clocktesting.NewFakePassiveClock(time.Now()), egress.Options{Proxy: "http://" + receiver.Raw(t, receiver.Answering(answer))})
			attempt := sender.Send(t.Context(), routeTo("http://crm.example.com/?"+secretInURL), event("{}"))
			if attempt.Outcome != want || attempt.RemoteIP != "" || strings.Contains(attempt.Message, secretInURL) {
				t.Errorf("after %q attempt is %s (%s) from %q, want %s", answer, attempt.Outcome, attempt.Message, attempt.RemoteIP, want)
			}
			if want != v1alpha1.OutcomeConnectionReset && !strings.Contains(attempt.Message, "egress proxy") {
				t.Errorf("message is %q", attempt.Message)
			}
		})
	}
}

// Headers of a Postback override no header of HTTP or the dispatcher, even if the API's validation has let them
// through.
func TestReservedHeaders(t *testing.T) {
	var header http.Header
	var host string
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header, host = r.Header, r.Host }))
	defer endpoint.Close()
	r := routeTo(endpoint.URL)
	r.Signatures = []v1alpha1.SignatureScheme{v1alpha1.SignatureStandardWebhooks}
	for _, name := range []string{
		"Host", "Content-Type", "content-encoding", "Content-Length", "Transfer-Encoding", "Connection", "Proxy-Authorization", "Te", "Trailer",
		"Upgrade", "Expect", "Accept-Encoding", "User-Agent", "Dub-Signature", "webhook-id", "Webhook-Signature", "webhook-timestamp", "webhook-other",
	} {
		r.Headers = append(r.Headers, route.Header{Name: name, Value: "overridden"})
	}
	r.Headers = append(r.Headers, route.Header{Name: "X-Tenant", Value: "acme"}, route.Header{Name: "Idempotency-Key", Value: "mine"})
	d := event("{}")
	d.Spec.Format = v1alpha1.FormatCloudEvents
	if attempt := newSender().Send(t.Context(), r, d); attempt.Outcome != v1alpha1.OutcomeSucceeded {
		t.Fatalf("attempt is %s: %s", attempt.Outcome, attempt.Message)
	}
	for name, values := range header {
		if strings.Contains(strings.Join(values, " "), "overridden") {
			t.Errorf("header %s is overridden", name)
		}
	}
	if host != strings.TrimPrefix(endpoint.URL, "http://") || header.Get("X-Tenant") != "acme" || header.Get("Idempotency-Key") != "mine" {
		t.Errorf("host %s, headers %v", host, header)
	}
	if header.Get("Content-Type") != "application/cloudevents+json; charset=UTF-8" || header.Get("Dub-Signature") != "" {
		t.Errorf("headers are %v", header)
	}
}

func TestRetryAfterAndGenerationAreRecorded(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for code, want := range map[int]time.Duration{200: 0, 429: time.Minute, 503: time.Minute, 404: time.Minute, 301: time.Minute} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(code)
			}))
			sender := senderWith(t, clocktesting.NewFakePassiveClock(now), egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
			r := routeTo(endpoint.URL)
			r.Generation = 7
			attempt := sender.Send(t.Context(), r, event("{}"))
			endpoint.Close()
			if got := attempt.RetryAfterTime; (got == nil) != (want == 0) || got != nil && got.Sub(now) != want {
				t.Errorf("%d asks for %v", code, got)
			}
			if attempt.PostbackGeneration != 7 {
				t.Errorf("generation is %d", attempt.PostbackGeneration)
			}
		})
	}
}

// The sender connects to the host that the header Host names.
func TestHostHasOneForm(t *testing.T) {
	_, resolver := newMovingName(t, "127.0.0.1")
	sender, _ := agingSender(t, egress.Options{Resolver: resolver})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for name, test := range map[string]struct{ host, want string }{
		"a name with an umlaut":         {"BÜCHER.test", "xn--bcher-kva.test"},
		"an address of wide characters": {"１２７.0.0.1", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			attempt := sender.Send(t.Context(), routeTo("http://"+test.host+":"+port), event("{}"))
			if attempt.ResponseBody != test.want+":"+port {
				t.Errorf("Host is %q: %+v", attempt.ResponseBody, attempt)
			}
		})
	}
}
