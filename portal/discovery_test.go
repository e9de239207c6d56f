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

package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/issuer"
)

// TestIssuerThatIsAway: without the issuer, the portal serves links, tells the reason and the time of the next try, and
// continues by itself.
func TestIssuerThatIsAway(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "away-acme")
	subject := member(t, "viewer", acme, acme)
	fresh, err := openid.New(openid.Options{
		Issuer: login.URL, ClientID: clientID, CAFile: r.portal.options.OpenID.CAFile, SecretFile: r.portal.options.OpenID.SecretFile,
		RedirectURL: ownOrigin + callbackPath, Clock: r.clock, Log: r.portal.options.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.portal.door.openid = fresh
	b := newBrowser()
	if got := b.ask(r, http.MethodGet, startPath, ""); got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.body, "has just started") {
		t.Errorf("before the discovery, a sign-in is answered with %s: %s", got.Status, got.body)
	}
	login.Set(func(s *issuer.Settings) { s.Down = true })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); fresh.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	eventually := gomega.NewWithT(t).Eventually
	eventually(func() string {
		r.later(time.Second)
		return b.ask(r, http.MethodGet, startPath, "").body
	}).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.ContainSubstring("tries again at"))
	if text := r.log.String(); !strings.Contains(text, "Cannot discover the issuer") || !strings.Contains(text, "503 Service Unavailable") {
		t.Errorf("the log is %s", text)
	}
	r.get("/", r.visitor(acme, "viewer"), "away-acme.example.com")
	login.Set(func(s *issuer.Settings) { s.Down = false })
	eventually(func() int {
		r.later(time.Second)
		return b.ask(r, http.MethodGet, startPath, "").StatusCode
	}).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.Equal(http.StatusFound))
	// The issuer may also be away when the visitor comes back.
	back := r.approve(b.begin(r, ""), subject)
	login.Set(func(s *issuer.Settings) { s.Down = true })
	if got := b.ask(r, http.MethodGet, back, ""); got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.body, "does not answer") {
		t.Errorf("answered with %s: %s", got.Status, got.body)
	}
}

// TestWrongSecret: the page and the log say who has to act.
func TestWrongSecret(t *testing.T) {
	r := startWithIssuer(t, func(o *openid.Options) { o.SecretFile = "" })
	acme := partner(t, "secret-acme")
	got := newBrowser().signIn(r, member(t, "viewer", acme, acme), "")
	if got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, "does not accept the portal: invalid_client") || !strings.Contains(r.log.String(), "--oidc-client-secret-file") {
		t.Errorf("answered with %s: %s; the log is %s", got.Status, got.body, r.log)
	}
}

// TestNoTokenIsShown: neither a log, a page, a header, an address nor the cluster has a token, a code or a verifier.
func TestNoTokenIsShown(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "hidden-acme")
	subject := member(t, "editor", acme, acme)
	b := newBrowser()
	var seen strings.Builder
	secrets := map[string]string{"client secret": clientSecret, "session key": keys}
	see := func(got answered) answered {
		headers := got.Header.Clone()
		headers.Del("Set-Cookie")
		_, _ = fmt.Fprintln(&seen, got.body, headers)
		return got
	}
	started := see(b.ask(r, http.MethodGet, startPath, ""))
	var a attempt
	if !r.portal.door.sealer.open(purposeAttempt, "", b.cookies[attemptName], &a) || a.Verifier == "" {
		t.Fatal("the cookie of the sign-in does not open")
	}
	secrets["verifier"] = a.Verifier
	back := r.approve(started.Header.Get("Location"), subject)
	secrets["code"] = query(t, back, "code")
	see(b.ask(r, http.MethodGet, back, ""))
	r.get("/", b.header(), "hidden-acme.example.com")
	remember := func(when string) {
		s := b.session(r)
		secrets["ID token "+when], secrets["refresh token "+when] = s.Token, s.Refresh
	}
	remember("at first")
	for _, page := range append(pagesOf(acme), namespacesPath, donePath, signInPath) {
		see(b.ask(r, http.MethodGet, page, ""))
		r.later(time.Second)
	}
	r.later(time.Hour)
	delete(b.cookies, freshName)
	see(b.ask(r, http.MethodGet, "/", ""))
	see(b.post(r, renewPath, ""))
	remember("after a renewal")
	login.EndSessions()
	r.later(time.Hour)
	see(b.post(r, renewPath, ""))
	see(b.ask(r, http.MethodGet, back, ""))
	see(b.post(r, signOutPath, ""))
	stored := &corev1.ConfigMapList{}
	if err := api.List(t.Context(), stored, client.InNamespace("postback-portal")); err != nil {
		t.Fatal(err)
	}
	text := r.log.String()
	if !strings.Contains(text, "Signed in") || !strings.Contains(text, "Session not renewed") || !strings.Contains(text, "Cannot sign a visitor in") {
		t.Errorf("the log is %s", text)
	}
	text += seen.String() + fmt.Sprint(stored.Items)
	for what, secret := range secrets {
		if secret == "" || strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) {
			t.Errorf("the %s is shown", what)
		}
	}
}

func TestFlagsOfTheIssuer(t *testing.T) {
	origin, err := parseOrigin(ownOrigin)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options openid.Options
		text    string
	}{
		"nothing":                {openid.Options{}, ""},
		"no issuer":              {openid.Options{ClientID: "x"}, "--oidc-issuer-url"},
		"no client":              {openid.Options{Issuer: "https://a.example"}, "--oidc-client-id"},
		"HTTP":                   {openid.Options{Issuer: "http://a.example", ClientID: "x"}, `--oidc-issuer-url is "http://a.example"`},
		"an issuer with a query": {openid.Options{Issuer: "https://a.example?x", ClientID: "x"}, "--oidc-issuer-url"},
		"no CA":                  {openid.Options{Issuer: "https://a.example", ClientID: "x", CAFile: "none"}, "--oidc-ca-file"},
		"a CA that is none":      {openid.Options{Issuer: "https://a.example", ClientID: "x", CAFile: "door.go"}, "holds no certificate"},
		"no secret":              {openid.Options{Issuer: "https://a.example", ClientID: "x", SecretFile: "none"}, "--oidc-client-secret-file"},
		"a public client":        {openid.Options{Issuer: "https://a.example/realms/x", ClientID: "x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newIssuer(Options{OpenID: test.options}, origin)
			if (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
