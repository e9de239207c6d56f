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

package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/test/doors"
)

// tokens maps each valid token, which is also its user's name, to the error of Check for the namespace acme.
type tokens map[string]error

func (a tokens) Check(_ context.Context, namespace, token string) (string, error) {
	err, ok := a[token]
	switch {
	case !ok:
		return "", &access.UnauthenticatedError{Detail: "Unknown."}
	case err != nil:
		return "", err
	case namespace != "acme":
		return "", &access.ForbiddenError{User: token, Right: rbacreview.Right{Verb: access.Verb, Group: "postback.dev", Resource: access.Resource, Namespace: namespace}}
	}
	return token, nil
}

func withToken(request *http.Request, values ...string) *http.Request {
	for _, value := range values {
		request.Header.Add("Authorization", value)
	}
	return request
}

func TestWhoMaySend(t *testing.T) {
	options, offered := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	lines := make(chan string, 100)
	options.Log = funcr.New(func(prefix, args string) { lines <- prefix + args }, funcr.Options{Verbosity: 9})
	options.Access = tokens{
		"system:serviceaccount:apps:shop": nil,
		"down":                            errors.New("connection refused"),
	}
	server := testServer(t, options)
	const good = "Bearer system:serviceaccount:apps:shop"
	tests := map[string]struct {
		namespace string
		header    []string
		code      int
		kind      string
		detail    string
		challenge string
	}{
		"token":                {"acme", []string{good}, 202, "", "", ""},
		"scheme in any case":   {"acme", []string{strings.Replace(good, "Bearer ", "bEARER  ", 1)}, 202, "", "", ""},
		"no token":             {"acme", nil, 401, "unauthenticated", "Authorization: Bearer <token>", access.Challenge},
		"empty token":          {"acme", []string{"Bearer "}, 401, "unauthenticated", "Authorization: Bearer <token>", access.Challenge},
		"password":             {"acme", []string{"Basic YTpi"}, 401, "unauthenticated", "Authorization: Bearer <token>", access.Challenge},
		"two tokens":           {"acme", []string{good, good}, 401, "unauthenticated", "in one header", access.Challenge},
		"two words":            {"acme", []string{good + " x"}, 401, "unauthenticated", "in one header", access.Challenge},
		"unknown token":        {"acme", []string{"Bearer hush"}, 401, "unauthenticated", "Unknown. Send a valid token", access.Challenge + `, error="invalid_token"`},
		"another namespace":    {"globex", []string{good}, 403, "forbidden", "kubectl -n globex create rolebinding NAME --clusterrole=postback-event-sender --serviceaccount=apps:shop", ""},
		"no answer":            {"acme", []string{"Bearer down"}, 503, "access-unknown", "send the request again later", ""},
		"path before the rest": {"Acme", nil, 400, "invalid-namespace", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			// The server must not read the body, which is invalid, before it has authorized the caller.
			body := "not JSON"
			if tt.code == 202 {
				body = simple
			}
			got := do(t, withToken(newPost(t, server.URL, tt.namespace, []byte(body)), tt.header...))
			if got.code != tt.code || tt.kind != "" && got.Type != "urn:postback:problem:"+tt.kind || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %d: %s", got.code, got.raw)
			}
			if got.header.Get("WWW-Authenticate") != tt.challenge || (got.header.Get("Retry-After") == "2") != (tt.code == 503) {
				t.Errorf("got %v", got.header)
			}
		})
	}
	if n := len(offered.Sorted()); n != 2 {
		t.Errorf("%d deliveries, want 2", n)
	}
	server.Close()
	close(lines)
	for line := range lines {
		for _, secret := range []string{"hush", "YTpi", "Bearer"} {
			if strings.Contains(line, secret) {
				t.Errorf("the log holds %s: %s", secret, line)
			}
		}
	}
}

// A refusal does not wait for the body of the request.
func TestRefusesBeforeTheBody(t *testing.T) {
	options, _ := testOptions(doors.Store{})
	options.Access = tokens{}
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodPost, eventsURL, unread{t})
	options.server(t).Handler().ServeHTTP(recorder, request)
	if recorder.Code != http.StatusUnauthorized {
		t.Errorf("got %d", recorder.Code)
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

func TestRateOfEachCaller(t *testing.T) {
	var stored atomic.Int32
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	clock := clocktesting.NewFakePassiveClock(testNow)
	options.Clock, options.Rate, options.Burst = clock, 10, 100
	options.Access = tokens{"shop": nil, "billing": nil}
	server := testServer(t, options)
	batch := func(n int) []byte { return []byte("[" + strings.Repeat(simple+",", n-1) + simple + "]") }
	send := func(caller string, n int) *reply {
		got := do(t, withToken(newPost(t, server.URL, "acme", batch(n)), "Bearer "+caller))
		if got.code == http.StatusAccepted {
			stored.Add(int32(n))
		}
		return got
	}
	if got := send("shop", 100); got.code != http.StatusAccepted {
		t.Fatalf("got %d: %s", got.code, got.raw)
	}
	got := send("shop", 1)
	if got.code != http.StatusTooManyRequests || got.Type != "urn:postback:problem:rate-limited" || got.header.Get("Retry-After") != "1" ||
		!strings.Contains(got.Detail, "may post 10 events per second, and 100 at once") {
		t.Errorf("got %d, %s: %s", got.code, got.header.Get("Retry-After"), got.raw)
	}
	if got := send("billing", 50); got.code != http.StatusAccepted {
		t.Errorf("another caller: %d: %s", got.code, got.raw)
	}
	clock.SetTime(testNow.Add(2 * time.Second))
	got = send("shop", 50)
	if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") != "4" {
		t.Errorf("got %d, %s: %s", got.code, got.header.Get("Retry-After"), got.raw)
	}
	clock.SetTime(testNow.Add(6 * time.Second))
	if got := send("shop", 50); got.code != http.StatusAccepted {
		t.Errorf("after the time of Retry-After: %d: %s", got.code, got.raw)
	}
	if stored.Load() != 200 {
		t.Errorf("%d events", stored.Load())
	}
}

func TestHandshake(t *testing.T) {
	options, _ := testOptions(doors.Store{})
	options.Access = tokens{}
	options.Rate, options.Burst = 10, 100
	server := testServer(t, options)
	ask := func(header http.Header) *reply {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, server.URL+eventsURL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		return do(t, request)
	}
	got := ask(http.Header{"Webhook-Request-Origin": {"eventemitter.example.com"}, "Webhook-Request-Rate": {"120"}})
	if got.code != http.StatusOK || got.raw != "" || got.header.Get("WebHook-Allowed-Origin") != "eventemitter.example.com" ||
		got.header.Get("WebHook-Allowed-Rate") != "600" || got.header.Get("Allow") != "POST" || got.header.Get("Content-Type") != "" {
		t.Errorf("got %d %v: %s", got.code, got.header, got.raw)
	}
	if got := ask(http.Header{"Webhook-Request-Origin": {"a"}}); got.code != http.StatusOK || got.header.Get("WebHook-Allowed-Rate") != "" {
		t.Errorf("without a rate: %d %v", got.code, got.header)
	}
	if got := ask(http.Header{"Webhook-Request-Origin": {"é"}}); got.code != http.StatusBadRequest || got.Type != "urn:postback:problem:invalid-origin" {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	if got := ask(http.Header{}); got.code != http.StatusMethodNotAllowed {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
}

func TestReach(t *testing.T) {
	tests := map[string]struct {
		address   string
		access    Access
		cert, key string
		plain     bool
		rate      float64
		burst     int
		want      string
	}{
		"loopback":                {address: "127.0.0.1:0"},
		"loopback 6":              {address: "[::1]:0"},
		"mapped loopback":         {address: "[::ffff:127.0.0.1]:0"},
		"localhost":               {address: "localhost:0"},
		"everywhere, nobody asks": {address: ":8080", cert: "a", key: "b", want: "--ingest-auth=Kubernetes"},
		"everywhere, in clear":    {address: "0.0.0.0:8080", access: tokens{}, want: "--ingest-plain-http"},
		"a name, in clear":        {address: "example:8080", access: tokens{}, want: "--ingest-plain-http"},
		"everywhere, with TLS":    {address: "[::]:8080", access: tokens{}, cert: "a", key: "b"},
		"everywhere, behind TLS":  {address: ":8080", access: tokens{}, plain: true},
		"plain, but nobody asks":  {address: ":8080", plain: true, want: "--ingest-auth=Kubernetes"},
		"certificate alone":       {address: "127.0.0.1:0", cert: "a", want: "set both"},
		"key alone":               {address: "127.0.0.1:0", key: "a", want: "set both"},
		"rate below zero":         {address: "127.0.0.1:0", rate: -1, want: "--ingest-rate"},
		"small burst":             {address: "127.0.0.1:0", rate: 1, burst: 99, want: "--ingest-burst"},
		"rate and burst":          {address: "127.0.0.1:0", rate: 0.5, burst: 100},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			options, _ := testOptions(doors.Store{})
			options.Address, options.Access, options.CertFile, options.KeyFile, options.PlainHTTP = tt.address, tt.access, tt.cert, tt.key, tt.plain
			options.Rate, options.Burst = tt.rate, tt.burst
			err := options.server(t).options.validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
