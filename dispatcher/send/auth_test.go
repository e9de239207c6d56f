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
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const clientSecret = "s3cret/of the client"

// tokenServer issues the tokens "token-1", "token-2" and so on.
type tokenServer struct {
	given  atomic.Int32
	asked  atomic.Int32
	mu     sync.Mutex
	form   url.Values
	answer http.HandlerFunc // Replaces the token response.
	life   int
	delay  chan struct{}
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	s.mu.Lock()
	s.form = form
	s.mu.Unlock()
	if s.delay != nil {
		select {
		case <-s.delay:
		case <-r.Context().Done():
		}
	}
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	user, password, _ := r.BasicAuth()
	if user != "dispatcher" || password != url.QueryEscape(clientSecret) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{"access_token": fmt.Sprintf("token-%d", s.given.Add(1)), "token_type": "bearer"}
	if s.life > 0 {
		answer["expires_in"] = s.life
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// echo answers with the header Authorization, reversed, because the record of an attempt omits credentials.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, backwards(r.Header.Get("Authorization")))
	}))
	t.Cleanup(server.Close)
	return server
}

func backwards(text string) string {
	letters := []byte(text)
	slices.Reverse(letters)
	return string(letters)
}

func withToken(endpoint, tokenURL string) *route.Route {
	r := routeTo(endpoint)
	r.Auth = &route.Auth{OAuth2: &route.OAuth2{TokenURL: tokenURL + "/token?" + secretInURL, ClientID: "dispatcher", ClientSecret: clientSecret}}
	return r
}

func TestBasicAndBearer(t *testing.T) {
	endpoint := echo(t)
	for want, auth := range map[string]*route.Auth{
		"":                                   nil,
		"Bearer t0ken":                       {Bearer: "t0ken"},
		"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==": {Basic: &route.BasicAuth{Username: "Aladdin", Password: "open sesame"}},
	} {
		t.Run(want, func(t *testing.T) {
			r := routeTo(endpoint.URL)
			r.Auth = auth
			if attempt := newSender().Send(t.Context(), r, event("{}")); backwards(attempt.ResponseBody) != want {
				t.Errorf("Authorization is %q, want %q", backwards(attempt.ResponseBody), want)
			}
		})
	}
	r := routeTo(endpoint.URL)
	r.Auth = &route.Auth{}
	if attempt := newSender().Send(t.Context(), r, event("{}")); attempt.Outcome != v1alpha1.OutcomeInvalidRequest {
		t.Errorf("an auth without anything gives %s", attempt.Outcome)
	}
}

func TestTokenIsKeptUntilItEnds(t *testing.T) {
	server := &tokenServer{life: 600}
	tokens := httptest.NewServer(server)
	defer tokens.Close()
	clock := clocktesting.NewFakePassiveClock(time.Now())
	sender := senderWith(t, clock, egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
	r := withToken(echo(t).URL, tokens.URL)
	r.Auth.OAuth2.Scopes, r.Auth.OAuth2.Audience = []string{"events.write", "x"}, "https://crm.example.com"
	want := func(token string) {
		t.Helper()
		if attempt := sender.Send(t.Context(), r, event("{}")); backwards(attempt.ResponseBody) != "Bearer "+token || attempt.Outcome != v1alpha1.OutcomeSucceeded {
			t.Errorf("attempt is %s (%s) with %q, want %s", attempt.Outcome, attempt.Message, attempt.ResponseBody, token)
		}
	}
	want("token-1")
	if f := server.form; f.Get("grant_type") != "client_credentials" || f.Get("scope") != "events.write x" || f.Get("audience") != "https://crm.example.com" {
		t.Errorf("asked for with %v", f)
	}
	want("token-1")
	clock.SetTime(clock.Now().Add(9 * time.Minute))
	want("token-1")
	clock.SetTime(clock.Now().Add(45 * time.Second)) // Within the last 30 seconds of the token.
	want("token-2")
	// A change of the settings needs a new token.
	r.Auth.OAuth2.Audience = "https://other.example.com"
	want("token-3")
	// Another Postback gets its own token.
	r.UID = "u2"
	want("token-4")
}

// A token without a lifetime, or with a very short one, is used too.
func TestTokenLives(t *testing.T) {
	for life, want := range map[int]int32{0: 1, 1: 1, 3600: 1} {
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			server := &tokenServer{life: life}
			tokens := httptest.NewServer(server)
			sender := senderWith(t, clocktesting.NewFakePassiveClock(time.Now()), egress.Options{AllowCIDRs: egress.List{"127.0.0.0/8"}})
			r := withToken(echo(t).URL, tokens.URL)
			for range 3 {
				sender.Send(t.Context(), r, event("{}"))
			}
			tokens.Close()
			if got := server.given.Load(); got != want {
				t.Errorf("%d tokens of %ds for 3 attempts, want %d", got, life, want)
			}
		})
	}
}

// Concurrent attempts of a Postback request one token.
func TestTokenIsAskedForOnce(t *testing.T) {
	server := &tokenServer{life: 600, delay: make(chan struct{})}
	tokens := httptest.NewServer(server)
	defer tokens.Close()
	sender, r := newSender(), withToken(echo(t).URL, tokens.URL)
	var done sync.WaitGroup
	for range 20 {
		done.Go(func() {
			if attempt := sender.Send(t.Context(), r, event("{}")); backwards(attempt.ResponseBody) != "Bearer token-1" {
				t.Errorf("attempt is %s (%s) with %q", attempt.Outcome, attempt.Message, attempt.ResponseBody)
			}
		})
	}
	close(server.delay)
	done.Wait()
	if n := server.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestTokenIsDroppedAfter401(t *testing.T) {
	server := &tokenServer{life: 600}
	tokens := httptest.NewServer(server)
	defer tokens.Close()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer endpoint.Close()
	sender, r := newSender(), withToken(endpoint.URL, tokens.URL)
	for i, want := range []v1alpha1.Outcome{v1alpha1.OutcomeRejected4xx, v1alpha1.OutcomeSucceeded, v1alpha1.OutcomeSucceeded} {
		if attempt := sender.Send(t.Context(), r, event("{}")); attempt.Outcome != want {
			t.Errorf("attempt %d is %s", i, attempt.Outcome)
		}
	}
}

// Without a token, nothing is sent to the endpoint. The record contains no secret and no text of the authorisation
// server.
func TestTokenFaults(t *testing.T) {
	const leak = "le4ked"
	writing := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "https://elsewhere.example.com/"+leak)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	const form, js = "application/x-www-form-urlencoded", "application/json"
	tests := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"invalid client":     {writing(401, js, `{"error":"invalid_client","error_description":"`+leak+`"}`), "401 Unauthorized (invalid_client)"},
		"invalid scope":      {writing(400, js, `{"error":"invalid_scope"}`), "spec.auth.oauth2.scopes"},
		"unknown error":      {writing(400, js, `{"error":"`+leak+`"}`), "400 Bad Request"},
		"error as form":      {writing(400, form, "error=invalid_grant&error_description="+leak), "invalid_grant"},
		"500":                {writing(500, "text/html", "<html>"+leak), "500"},
		"302":                {writing(302, "text/html", leak), "elsewhere.example.com, change spec.auth.oauth2.tokenURL"},
		"error as 200":       {writing(200, js, `{"error":"invalid_client"}`), "invalid_client"},
		"no token":           {writing(200, js, `{"token":"`+leak+`"}`), "no bearer token"},
		"no JSON":            {writing(200, js, leak), "no bearer token"},
		"HTML":               {writing(200, "text/html", "<html>"+leak), "no bearer token"},
		"another type":       {writing(200, js, `{"access_token":"`+leak+`","token_type":"mac"}`), "no bearer token"},
		"line break in it":   {writing(200, js, `{"access_token":"`+leak+`\r\nX: y","token_type":"bearer"}`), "no bearer token"},
		"endless":            {func(w http.ResponseWriter, r *http.Request) { endless(w, r, leak) }, "no bearer token"},
		"closes":             {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"silent":             {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "spec.timeout"},
		"expires in garbage": {writing(200, js, `{"access_token":"`+leak+`","expires_in":"soon"}`), "no bearer token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens := httptest.NewServer(&tokenServer{answer: test.answer})
			defer tokens.Close()
			endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent") }))
			defer endpoint.Close()
			r := withToken(endpoint.URL, tokens.URL)
			r.Timeout.Duration = 2 * time.Second
			attempt := newSender().Send(t.Context(), r, event("{}"))
			if attempt.Outcome != v1alpha1.OutcomeAuthenticationFailed || !strings.Contains(attempt.Message, test.want) {
				t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
			}
			for _, secret := range []string{leak, clientSecret, url.QueryEscape(clientSecret), secretInURL} {
				if strings.Contains(attempt.Message+attempt.ResponseBody, secret) {
					t.Errorf("%q shows %q", attempt.Message, secret)
				}
			}
			if attempt.RemoteIP != "" || attempt.StatusCode != nil {
				t.Errorf("attempt is %+v", attempt)
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request, text string) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat(text, 1000)); err != nil {
			return
		}
	}
}

// The rules for addresses apply to the authorisation server, too.
func TestTokenServerIsUnderTheAddressPolicy(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	defer tokens.Close()
	sender := senderWith(t, clocktesting.NewFakePassiveClock(time.Now()), egress.Options{})
	attempt := sender.Send(t.Context(), withToken("https://example.com", tokens.URL), event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeAuthenticationFailed || !strings.Contains(attempt.Message, "--allow-cidr") {
		t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
	}
}

func TestInterruptedWhileWaitingForAToken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tokens := httptest.NewServer(&tokenServer{answer: func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}})
	defer tokens.Close()
	attempt := newSender().Send(ctx, withToken(echo(t).URL, tokens.URL), event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeInterrupted {
		t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
	}
}

// Firewalls block the default user agent Go-http-client/1.1, so the token request has the User-Agent of the sender.
func TestTokenRequestHasTheUserAgent(t *testing.T) {
	server := &tokenServer{}
	agents := make(chan string, 1)
	authorities := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agents <- r.UserAgent()
		server.ServeHTTP(w, r)
	}))
	defer authorities.Close()
	newSender().Send(t.Context(), withToken(echo(t).URL, authorities.URL), event("{}"))
	if got := <-agents; got != "Postback/test" {
		t.Errorf("User-Agent is %q", got)
	}
}

// A token that was sent to one endpoint is not sent to the next.
func TestChangedEndpointGetsATokenOfItsOwn(t *testing.T) {
	server := &tokenServer{}
	authority := httptest.NewServer(server)
	defer authority.Close()
	sender := newSender()
	for _, want := range []string{"Bearer token-1", "Bearer token-2"} {
		attempt := sender.Send(t.Context(), withToken(echo(t).URL, authority.URL), event("{}"))
		if got := backwards(attempt.ResponseBody); got != want {
			t.Errorf("Authorization is %q, want %q", got, want)
		}
	}
}
