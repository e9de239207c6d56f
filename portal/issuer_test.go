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
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/issuer"
)

func TestSignInByIssuer(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "issuer-acme")
	subject := member(t, "editor", acme, acme)
	b := newBrowser()
	if got := b.ask(r, http.MethodGet, "/", ""); got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, `href="/signin/start"`) {
		t.Errorf("a visitor without a session is not offered a sign-in: %s: %s", got.Status, got.body)
	}
	address := b.begin(r, "")
	for name, want := range map[string]string{
		"client_id": clientID, "response_type": "code", "redirect_uri": ownOrigin + callbackPath, "scope": "openid groups offline_access", "code_challenge_method": "S256",
	} {
		if got := query(t, address, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	back := r.approve(address, subject)
	got := b.ask(r, http.MethodGet, back, "", crossSite...)
	if got.StatusCode != http.StatusOK || got.Header.Get("Location") != "" || got.Header.Get("Referrer-Policy") != "no-referrer" || b.cookies[attemptName] != "" {
		t.Errorf("the answer of the issuer is answered with %s, %v", got.Status, got.Header)
	}
	for _, c := range got.Cookies() {
		if !c.Secure || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") || len(c.Value) > maxCookie ||
			c.HttpOnly == (c.Name == freshName) || c.SameSite != http.SameSiteStrictMode && c.Name != attemptName {
			t.Errorf("the cookie is %s", c)
		}
	}
	r.get("/", b.header(), "issuer-acme.example.com")
	if paused := b.post(r, "/p/"+acme+"/crm/do/state", "state=Paused"); paused.StatusCode != http.StatusSeeOther {
		t.Errorf("an editor pauses with %s", paused.Status)
	}
	p := &v1alpha1.Postback{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: acme, Name: "crm"}, p); err != nil || p.Spec.State != v1alpha1.PostbackPaused {
		t.Errorf("the state is %q (%v)", p.Spec.State, err)
	}
	if text := r.log.String(); !strings.Contains(text, `"user"="oidc:member-issuer-acme"`) {
		t.Errorf("the log does not name the user: %s", text)
	}
}

// TestSignInBelongsToTheBrowserThatStartedIt: an answer that somebody else obtained, changed or used signs nobody in.
func TestSignInBelongsToTheBrowserThatStartedIt(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "csrf-acme")
	subject := member(t, "editor", acme, acme)
	attacker := newBrowser()
	foreign := r.approve(attacker.begin(r, ""), subject)
	for name, test := range map[string]struct {
		change func(own string) string
		text   string
	}{
		"the answer of another browser (CSRF)":    {func(string) string { return foreign }, "did not start in this browser"},
		"the code of another browser (injection)": {func(own string) string { return with(t, own, "code", query(t, foreign, "code")) }, "does not accept this sign-in"},
		"another state":                         {func(own string) string { return with(t, own, "state", "x") }, "did not start in this browser"},
		"no state":                              {func(own string) string { return with(t, own, "state", "") }, "did not start in this browser"},
		"two states":                            {func(own string) string { return own + "&state=x" }, "did not start in this browser"},
		"the answer of another issuer (mix-up)": {func(own string) string { return with(t, own, "iss", "https://evil.example") }, "comes from another issuer"},
		"an answer that names no issuer, as this one always": {func(own string) string { return with(t, own, "iss", "") }, "comes from another issuer"},
		"an invented code":     {func(own string) string { return with(t, own, "code", "x") }, "does not accept this sign-in"},
		"no code":              {func(own string) string { return with(t, own, "code", "") }, "did not start in this browser"},
		"an error with markup": {func(own string) string { return with(t, with(t, own, "code", ""), "error", "<b>x</b>") }, "refused the sign-in: unknown error"},
		"a refusal":            {func(own string) string { return with(t, with(t, own, "code", ""), "error", "access_denied") }, "refused the sign-in: access_denied"},
	} {
		t.Run(name, func(t *testing.T) {
			r.later(time.Second)
			b := newBrowser()
			own := r.approve(b.begin(r, ""), subject)
			got := b.ask(r, http.MethodGet, test.change(own), "", crossSite...)
			if got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, test.text) || len(b.cookies) > 0 || strings.Contains(got.body, "<b>") {
				t.Errorf("answered with %s, cookies %v: %s", got.Status, b.cookies, got.body)
			}
			// The attempt is used up, also for the right answer.
			r.later(time.Second)
			if got := b.ask(r, http.MethodGet, own, "", crossSite...); got.StatusCode != http.StatusUnauthorized || len(b.cookies) > 0 {
				t.Errorf("after that, the right answer is answered with %s", got.Status)
			}
		})
	}
	t.Run("too late", func(t *testing.T) {
		b := newBrowser()
		own := r.approve(b.begin(r, ""), subject)
		r.later(attemptLife)
		if got := b.ask(r, http.MethodGet, own, ""); got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, "older than 10 minutes") {
			t.Errorf("answered with %s: %s", got.Status, got.body)
		}
	})
	t.Run("a sign-in that another site starts", func(t *testing.T) {
		if got := newBrowser().ask(r, http.MethodGet, startPath, "", crossSite...); got.StatusCode != http.StatusForbidden {
			t.Errorf("answered with %s", got.Status)
		}
	})
}

// TestTokensOfTheIssuerAreVerified: tokens that are not for this sign-in sign nobody in.
func TestTokensOfTheIssuerAreVerified(t *testing.T) {
	acme := partner(t, "verify-acme")
	subject := member(t, "viewer", acme, acme)
	for name, test := range map[string]struct {
		change    func(claims map[string]any)
		text, log string
	}{
		"another nonce":            {func(c map[string]any) { c["nonce"] = "x" }, "did not start in this browser", "another nonce"},
		"no nonce":                 {func(c map[string]any) { delete(c, "nonce") }, "did not start in this browser", "another nonce"},
		"another audience":         {func(c map[string]any) { c["aud"] = "wiki" }, "for another application", "not for --oidc-client-id"},
		"another authorised party": {func(c map[string]any) { c["aud"], c["azp"] = []string{clientID, "wiki"}, "wiki" }, "for another application", "azp"},
		"another issuer":           {func(c map[string]any) { c["iss"] = "https://evil.example" }, "cannot verify", "different provider"},
		"an hour ago":              {func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }, "compare the clocks", "compare the clocks"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startWithIssuer(t, nil)
			login.Set(func(s *issuer.Settings) { s.Change = test.change })
			b := newBrowser()
			got := b.signIn(r, subject, "")
			if got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, test.text) || len(b.cookies) > 0 {
				t.Errorf("answered with %s, cookies %v: %s", got.Status, b.cookies, got.body)
			}
			if !strings.Contains(r.log.String(), test.log) {
				t.Errorf("the log is %s", r.log)
			}
		})
	}
}

// TestIssuerThatTheClusterDoesNotTrust: the API server does not accept the audience of the portal.
func TestIssuerThatTheClusterDoesNotTrust(t *testing.T) {
	login.Register(issuer.Client{ID: "stranger", Redirects: []string{ownOrigin + callbackPath}})
	r := startWithIssuer(t, func(o *openid.Options) { o.ClientID, o.SecretFile = "stranger", "" })
	acme := partner(t, "untrusted-acme")
	b := newBrowser()
	got := b.signIn(r, member(t, "viewer", acme, acme), "")
	if got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, "has to trust this issuer for the client stranger") || len(b.cookies) > 0 {
		t.Errorf("answered with %s: %s", got.Status, got.body)
	}
}

// TestSessionsAreRenewed: a session continues with a new token, which the issuer gives once.
func TestSessionsAreRenewed(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "renew-acme")
	b := newBrowser()
	b.enters(r, member(t, "viewer", acme, acme), "renew-acme.example.com")
	before := b.session(r)
	if got := b.post(r, renewPath, ""); got.StatusCode != http.StatusNoContent || login.Counts().Renewals != 0 {
		t.Errorf("a fresh session is renewed: %s, %+v", got.Status, login.Counts())
	}
	// After an hour the token has expired, and the browser has forgotten that the session is fresh.
	r.later(61 * time.Minute)
	delete(b.cookies, freshName)
	page := b.ask(r, http.MethodGet, "/", "")
	fragment := b.ask(r, http.MethodGet, "/", "", "X-Fragment", "main")
	for _, got := range []answered{page, fragment} {
		if got.StatusCode != http.StatusUnauthorized || got.Header.Get("X-Session") != "renew" || strings.Contains(got.body, "example.com/hooks") {
			t.Errorf("a page of an expired session is answered with %s, %v: %s", got.Status, got.Header, got.body)
		}
	}
	var asking sync.WaitGroup
	old := b.header()
	for range 10 {
		asking.Go(func() {
			if got := r.ask(http.MethodPost, renewPath, "", "Cookie", old, "Origin", ownOrigin); got.StatusCode != http.StatusNoContent {
				t.Errorf("a renewal is answered with %s: %s", got.Status, got.body)
			}
		})
	}
	asking.Wait()
	if got := b.post(r, renewPath, ""); got.StatusCode != http.StatusNoContent || login.Counts().Renewals != 1 || b.cookies[freshName] == "" {
		t.Errorf("eleven requests make %d renewals: %s", login.Counts().Renewals, got.Status)
	}
	r.get("/", b.header(), "renew-acme.example.com")
	after := b.session(r)
	if after.Token == before.Token || after.Refresh == before.Refresh || after.identity() != before.identity() || len(r.portal.door.visits.present()) != 1 {
		t.Errorf("the session is not the same with new tokens: %d visits", len(r.portal.door.visits.present()))
	}
	for _, mine := range r.portal.door.visits.present() {
		if token, err := mine.bearer.Token(); err != nil || token.AccessToken != after.Token {
			t.Error("the visit continues with the old token")
		}
	}
	t.Run("not after 12 hours", func(t *testing.T) {
		r.later(maxSession)
		if got := b.post(r, renewPath, ""); got.StatusCode != http.StatusUnauthorized || got.Header.Get("X-Session") != "ended" {
			t.Errorf("answered with %s", got.Status)
		}
	})
}

// TestRenewalsThatFail: a session ends with an explanation that leaves the page as it is.
func TestRenewalsThatFail(t *testing.T) {
	acme := partner(t, "ended-acme")
	subject := member(t, "viewer", acme, acme)
	for name, test := range map[string]struct {
		fault  func()
		status int
	}{
		"the issuer ended it":            {login.EndSessions, http.StatusUnauthorized},
		"the issuer returns no ID token": {func() { login.Set(func(s *issuer.Settings) { s.WithoutIDToken = true }) }, http.StatusUnauthorized},
		"the token is of somebody else": {func() {
			login.Set(func(s *issuer.Settings) { s.Change = func(c map[string]any) { c["sub"] = "mallory" } })
		}, http.StatusUnauthorized},
		"the issuer is away": {func() { login.Set(func(s *issuer.Settings) { s.Down = true }) }, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r := startWithIssuer(t, nil)
			b := newBrowser()
			b.enters(r, subject, "ended-acme.example.com")
			token := b.session(r).Token
			test.fault()
			delete(b.cookies, freshName)
			r.later(59 * time.Minute)
			early := b.post(r, renewPath, "")
			if test.status == http.StatusUnauthorized && early.StatusCode != http.StatusNoContent || b.session(r).Token != token {
				t.Errorf("before the token expires, a renewal is answered with %s", early.Status)
			}
			if got := b.ask(r, http.MethodGet, "/", ""); got.StatusCode != http.StatusOK {
				t.Errorf("the session ended before its token: %s", got.Status)
			}
			r.later(2 * time.Minute)
			late := b.ask(r, http.MethodPost, renewPath, "", "Origin", ownOrigin, "X-Fragment", "note")
			if late.StatusCode != test.status {
				t.Errorf("a renewal is answered with %s: %s", late.Status, late.body)
			}
			if test.status != http.StatusUnauthorized {
				login.Reset()
				login.Set(func(s *issuer.Settings) { s.Now = r.clock.Now })
				if got := b.post(r, renewPath, ""); got.StatusCode != http.StatusNoContent {
					t.Errorf("after the outage, a renewal is answered with %s", got.Status)
				}
				return
			}
			if late.Header.Get("X-Session") != "ended" || !strings.Contains(late.body, "What you typed stays here") || !strings.Contains(late.body, `target="_blank"`) {
				t.Errorf("the note is %v %s", late.Header, late.body)
			}
			if got := b.ask(r, http.MethodGet, "/p/"+acme+"/crm", ""); got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, "/signin/start?namespace=ended-acme&amp;to=%2Fp%2Fended-acme%2Fcrm") {
				t.Errorf("the page is answered with %s: %s", got.Status, got.body)
			}
		})
	}
}

func TestSignOutEndsTheSessionAtTheIssuer(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "out-acme")
	b := newBrowser()
	b.enters(r, member(t, "viewer", acme, acme), "out-acme.example.com")
	s, stolen := b.session(r), b.header()
	got := b.post(r, signOutPath, "")
	if got.StatusCode != http.StatusOK || len(b.cookies) > 0 || len(r.portal.door.visits.present()) > 0 || login.Counts().Revocations != 1 {
		t.Errorf("answered with %s, cookies %v, %+v", got.Status, b.cookies, login.Counts())
	}
	if !strings.Contains(got.body, login.URL+"/logout?client_id=postback&amp;post_logout_redirect_uri=https%3A%2F%2Fportal.example.com%2Fsignin") || strings.Contains(got.body, s.Token) {
		t.Errorf("the page is %s", got.body)
	}
	// A copy of the cookie lasts until its token expires, and cannot be renewed.
	r.later(time.Hour)
	if got := r.ask(http.MethodPost, renewPath, "", "Cookie", stolen, "Origin", ownOrigin); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a copy of the cookie is renewed after the sign-out: %s", got.Status)
	}
}
