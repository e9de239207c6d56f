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
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const secretInURL = "token=s3cret"

func newSender() *send.Sender {
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		panic(err)
	}
	out, err := egress.New(egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8", "::1/128"}})
	if err != nil {
		panic(err)
	}
	return send.New(send.Options{Signer: signer, UserAgent: "Postback/test", Clock: clock.RealClock{}, Egress: out})
}

// event returns the delivery of an event with a body.
func event(body string) *v1alpha1.PostbackDelivery {
	return &v1alpha1.PostbackDelivery{Spec: v1alpha1.PostbackDeliverySpec{Event: v1alpha1.EventReference{ID: "evt_1"}, Body: body}}
}

func routeTo(url string) *route.Route {
	return &route.Route{
		Namespace: "partner-acme", Name: "crm", UID: "u1", URL: url,
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureDub, v1alpha1.SignatureStandardWebhooks},
		Keys:       []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
		Timeout:    metav1.Duration{Duration: 10 * time.Second},
	}
}

func TestRequest(t *testing.T) {
	type received struct {
		method string
		header http.Header
		body   []byte
	}
	requests := make(chan received, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- received{r.Method, r.Header, body}
	}))
	defer server.Close()

	r := routeTo(server.URL)
	r.Headers = []route.Header{{Name: "X-Tenant", Value: "acme"}, {Name: "user-agent", Value: "other"}}
	body := []byte(`{"data":{"name":"Zoë","n":12345678901234567890}}`)
	attempt := newSender().Send(t.Context(), r, event(string(body)))
	if attempt.Outcome != v1alpha1.OutcomeSucceeded || *attempt.StatusCode != 200 || attempt.RemoteIP != "127.0.0.1" ||
		attempt.Message != "" || attempt.Duration.Duration <= 0 {
		t.Errorf("attempt is %+v", attempt)
	}
	got := <-requests
	if got.method != http.MethodPost || !bytes.Equal(got.body, body) {
		t.Errorf("received %s %q", got.method, got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Postback/test", "X-Tenant": "acme", "webhook-id": "evt_1",
	} {
		if got.header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	for _, name := range []string{"Dub-Signature", "webhook-signature", "webhook-timestamp"} {
		if got.header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
}

func TestOutcomes(t *testing.T) {
	closed := receiver.Refusing(t)
	status := func(code int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://moved.example.com/hooks?"+secretInURL)
			w.WriteHeader(code)
			fmt.Fprint(w, "answer")
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	oldTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	oldTLS.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	oldTLS.StartTLS()
	t.Cleanup(oldTLS.Close)
	plain := status(200)
	hang := receiver.Raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })

	tests := map[string]struct {
		url     string
		timeout time.Duration
		want    v1alpha1.Outcome
		code    int32
		message string
	}{
		"204":                    {url: status(204), want: v1alpha1.OutcomeSucceeded, code: 204},
		"299":                    {url: status(299), want: v1alpha1.OutcomeSucceeded, code: 299},
		"301":                    {url: status(301), want: v1alpha1.OutcomeRedirected, code: 301, message: "moved.example.com"},
		"304":                    {url: status(304), want: v1alpha1.OutcomeRedirected, code: 304, message: "304 Not Modified"},
		"400":                    {url: status(400), want: v1alpha1.OutcomeRejected4xx, code: 400, message: "400 Bad Request"},
		"410":                    {url: status(410), want: v1alpha1.OutcomeGone, code: 410, message: "410 Gone"},
		"503":                    {url: status(503), want: v1alpha1.OutcomeFailed5xx, code: 503, message: "503 Service Unavailable"},
		"999":                    {url: status(999), want: v1alpha1.OutcomeUnexpectedStatus, code: 999},
		"refused":                {url: "http://" + closed, want: v1alpha1.OutcomeConnectionRefused, message: "refused"},
		"hang":                   {url: "http://" + hang, timeout: time.Second, want: v1alpha1.OutcomeTimeout, message: "spec.timeout"},
		"closed":                 {url: "http://" + receiver.Raw(t, func(net.Conn) {}), want: v1alpha1.OutcomeConnectionReset},
		"closed after request":   {url: "http://" + receiver.Raw(t, receiver.Answering("")), want: v1alpha1.OutcomeConnectionReset, message: "EOF"},
		"cut header":             {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 200 O")), want: v1alpha1.OutcomeConnectionReset},
		"not HTTP":               {url: "http://" + receiver.Raw(t, receiver.Answering("SSH-2.0-OpenSSH_9.6\r\n\r\n")), want: v1alpha1.OutcomeInvalidResponse, message: "malformed"},
		"huge header":            {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")), want: v1alpha1.OutcomeInvalidResponse},
		"long line":              {url: "http://" + receiver.Raw(t, receiver.Answering(strings.Repeat("X", 3000)+"\r\n\r\n")), want: v1alpha1.OutcomeInvalidResponse, message: "malformed"},
		"status 042":             {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 042 odd\r\n\r\n")), want: v1alpha1.OutcomeInvalidResponse, message: "042 odd"},
		"switching protocols":    {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")), want: v1alpha1.OutcomeUnexpectedStatus, code: 101},
		"bad length":             {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")), want: v1alpha1.OutcomeInvalidResponse},
		"no such name":           {url: "http://no-such-host.invalid/", want: v1alpha1.OutcomeNameNotResolved},
		"unknown authority":      {url: untrusted.URL, want: v1alpha1.OutcomeTLSFailed, message: "unknown authority"},
		"old TLS":                {url: oldTLS.URL, want: v1alpha1.OutcomeTLSFailed},
		"TLS to plain port":      {url: strings.Replace(plain, "http://", "https://", 1), want: v1alpha1.OutcomeTLSFailed},
		"body shorter than said": {url: "http://" + receiver.Raw(t, receiver.Answering("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort")), want: v1alpha1.OutcomeSucceeded, code: 200},
	}
	sender := newSender()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := routeTo(test.url + "?" + secretInURL)
			if test.timeout > 0 {
				r.Timeout.Duration = test.timeout
			}
			attempt := sender.Send(t.Context(), r, event("{}"))
			if attempt.Outcome != test.want {
				t.Errorf("outcome is %s (%s), want %s", attempt.Outcome, attempt.Message, test.want)
			}
			if code := attempt.StatusCode; (code == nil) != (test.code == 0) || code != nil && *code != test.code {
				t.Errorf("status code is %v, want %d", code, test.code)
			}
			if !strings.Contains(attempt.Message, test.message) {
				t.Errorf("message %q does not contain %q", attempt.Message, test.message)
			}
			if strings.Contains(attempt.Message, secretInURL) {
				t.Errorf("message shows the query of a URL: %q", attempt.Message)
			}
			if len(attempt.Message) > v1alpha1.MaxMessage {
				t.Errorf("message of %d bytes", len(attempt.Message))
			}
			if attempt.Outcome != v1alpha1.OutcomeSucceeded && attempt.Message == "" {
				t.Error("a failure without a message")
			}
		})
	}
}

func TestInvalidRequestIsNotSent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent") }))
	defer server.Close()
	r := routeTo(server.URL)
	r.Keys = []string{"whsec_bm90!!YmFzZTY0"}
	attempt := newSender().Send(t.Context(), r, event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeInvalidRequest || strings.Contains(attempt.Message, "bm90") {
		t.Errorf("attempt is %+v", attempt)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // The server notices a closed connection only after it has read the body.
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	attempt := newSender().Send(ctx, routeTo(server.URL), event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeInterrupted {
		t.Errorf("outcome is %s (%s)", attempt.Outcome, attempt.Message)
	}
}

func TestResponseBodyIsBoundedAndValid(t *testing.T) {
	bodies := map[string]string{
		"short":              "ok",
		"long":               strings.Repeat("x", 1<<20),
		"cut character":      strings.Repeat("x", v1alpha1.MaxResponseBody-1) + "é",
		"not UTF-8":          strings.Repeat("\xff\xfe", v1alpha1.MaxResponseBody),
		"NUL and escapes":    "a\x00b\x1b[31m",
		"multi-byte":         strings.Repeat("日本", v1alpha1.MaxResponseBody),
		"larger when mended": strings.Repeat("\xff", v1alpha1.MaxResponseBody),
	}
	sender := newSender()
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
			defer server.Close()
			attempt := sender.Send(t.Context(), routeTo(server.URL), event("{}"))
			got := attempt.ResponseBody
			if len(got) > v1alpha1.MaxResponseBody || !utf8.ValidString(got) || got == "" || strings.Contains(got, "\x00") {
				t.Errorf("response body of %d bytes, valid %t", len(got), utf8.ValidString(got))
			}
			if attempt.Outcome != v1alpha1.OutcomeSucceeded {
				t.Errorf("outcome is %s", attempt.Outcome)
			}
		})
	}
}

func TestEndlessBodyEndsAtTheDeadline(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}))
	defer server.Close()
	r := routeTo(server.URL)
	r.Timeout.Duration = time.Second
	attempt := newSender().Send(t.Context(), r, event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeSucceeded || attempt.Duration.Duration > 5*time.Second {
		t.Errorf("outcome %s after %s", attempt.Outcome, attempt.Duration.Duration)
	}
}

// If the endpoint has closed an idle connection, the sender uses another one within the same attempt.
func TestStaleConnectionIsReplaced(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	sender := newSender()
	for i := range 5 {
		attempt := sender.Send(t.Context(), routeTo(server.URL), event(`{"n":1}`))
		if attempt.Outcome != v1alpha1.OutcomeSucceeded || attempt.ResponseBody != `{"n":1}` {
			t.Fatalf("attempt %d is %+v", i, attempt)
		}
		server.CloseClientConnections()
	}
}
