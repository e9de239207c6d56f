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
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/portallink"
	"github.com/postback-dev/postback-operator/portal/openid"
)

const (
	startPath = signInPath + "/start"
	// callbackPath is the path of the redirect URL.
	callbackPath = signInPath + "/callback"
	renewPath    = signInPath + "/renew"
	// donePath is a page that tells the visitor to go back to another tab.
	donePath = signInPath + "/done"

	// attemptName is the cookie of a sign-in that has started. The issuer leads back from its own site, so the cookie
	// cannot be strict.
	attemptName = "__Host-postback-signin"
	attemptLife = 10 * time.Minute
	// maxSession bounds the renewals of a session.
	maxSession = portallink.MaxTTL
	// renewedFor is how long a replica answers with the same renewal: most issuers accept a refresh token once.
	renewedFor = 30 * time.Second
)

// attempt is the content of the cookie of a sign-in.
type attempt struct {
	openid.Attempt
	Namespace string    `json:"m,omitempty"`
	To        string    `json:"t"`
	Until     time.Time `json:"u"`
}

// issuer answers the requests of a sign-in by OpenID Connect that come from the portal's own pages.
func (d *door) issuer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == startPath && r.Method == http.MethodGet:
		d.start(w, r)
	case r.URL.Path == renewPath && r.Method == http.MethodPost:
		d.renew(w, r)
	case r.URL.Path == donePath && r.Method == http.MethodGet:
		console.SignedIn(w, "")
	default:
		console.Refuse(w, http.StatusNotFound, "There is no such page.")
	}
}

// startAddress returns the address that starts a sign-in and leads to a page of the portal afterwards.
func startAddress(namespace, to string) string {
	query := url.Values{}
	if namespace != "" {
		query.Set("namespace", namespace)
	}
	if to != "/" {
		query.Set("to", to)
	}
	if len(query) == 0 {
		return startPath
	}
	return startPath + "?" + query.Encode()
}

// localPath returns the page of the portal that a text leads to, or "/" if it leads elsewhere, such as //evil.example.
func localPath(text string) string {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "" || parsed.Host != "" || parsed.User != nil || parsed.Fragment != "" || len(text) > maxCode ||
		!strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == '\\' || c > '~' }) {
		return "/"
	}
	if strings.HasPrefix(parsed.Path, signInPath) && parsed.Path != donePath || parsed.Path == signOutPath {
		return "/"
	}
	return text
}

// start sends the browser to the issuer.
func (d *door) start(w http.ResponseWriter, r *http.Request) {
	if !d.paced(w, d.addresses, d.address(r)) {
		return
	}
	begun, address, err := d.openid.Begin()
	if err != nil {
		d.failed(w, r, attempt{}, err)
		return
	}
	query := r.URL.Query()
	a := attempt{Attempt: begun, To: localPath(query.Get("to")), Until: d.clock.Now().Add(attemptLife)}
	if namespace := query.Get("namespace"); isNamespace(namespace) {
		a.Namespace = namespace
	}
	sealed, err := d.sealer.seal(purposeAttempt, "", a)
	if err != nil {
		d.failed(w, r, a, err)
		return
	}
	d.setAttempt(w, sealed, int(attemptLife.Seconds()))
	http.Redirect(w, r, address, http.StatusFound) //nolint:gosec // The address is that of the issuer's discovery document.
}

func (d *door) setAttempt(w http.ResponseWriter, value string, maxAge int) {
	cookie := d.cookie(attemptName, value, maxAge) //nolint:gosec // Only SameSite becomes less strict.
	cookie.SameSite = http.SameSiteLaxMode
	http.SetCookie(w, cookie)
}

// callback finishes a sign-in by the issuer's answer.
func (d *door) callback(w http.ResponseWriter, r *http.Request) {
	// The address has the code, which no other request may tell.
	w.Header().Set("Referrer-Policy", "no-referrer")
	if !d.paced(w, d.addresses, d.address(r)) {
		return
	}
	var a attempt
	cookies := r.CookiesNamed(attemptName)
	if len(cookies) != 1 || !d.sealer.open(purposeAttempt, "", cookies[0].Value, &a) || !d.clock.Now().Before(a.Until) {
		a = attempt{}
	}
	// A sign-in is finished once, whether it succeeds or not.
	d.setAttempt(w, "", -1)
	ctx, cancel := context.WithTimeout(r.Context(), 2*callTimeout)
	defer cancel()
	tokens, err := d.openid.Finish(ctx, a.Attempt, r.URL.Query())
	if err != nil {
		d.failed(w, r, a, err)
		return
	}
	user, err := d.access.User(ctx, tokens.ID)
	if err != nil {
		d.failed(w, r, a, err)
		return
	}
	s := session{
		ID: rand.Text(), Subject: tokens.Subject, Token: tokens.ID, Refresh: tokens.Refresh, Until: tokens.Expiry, Ends: d.clock.Now().Add(maxSession),
		Namespace: d.firstNamespace(ctx, a, tokens.ID),
	}
	if err := d.keep(w, r, s); err != nil {
		d.failed(w, r, a, err)
		return
	}
	countSignIn(signedIn)
	d.log.Info("Signed in", "user", user, "namespace", s.Namespace, "until", s.Until, "renewable", s.Refresh != "")
	to := a.To
	if s.Namespace == "" && to != donePath {
		to = namespacesPath
	}
	console.SignedIn(w, to)
}

// failed answers a sign-in that failed. The visitor may start another.
func (d *door) failed(w http.ResponseWriter, r *http.Request, a attempt, err error) {
	var refused *openid.RefusedError
	var away *openid.UnavailableError
	var unauthenticated *access.UnauthenticatedError
	status, why := http.StatusInternalServerError, "The sign-in could not be finished. Try again in a moment."
	switch {
	case errors.As(err, &refused):
		status, why = http.StatusUnauthorized, refused.Text
	case errors.As(err, &away):
		status, why = http.StatusServiceUnavailable, away.Text
	case errors.As(err, &unauthenticated):
		status, why = http.StatusUnauthorized, d.openid.Host()+" signed you in, but the cluster does not accept its tokens. The API server has to trust this issuer for the client "+d.openid.ClientID()+": tell your platform."
	case errors.Is(err, access.ErrUnavailable):
		status, why = http.StatusServiceUnavailable, "The API server does not answer. Try again in a moment."
	case errors.Is(err, errLarge):
		why = "The tokens of " + d.openid.Host() + " are too long for the portal. The issuer has to omit claims, such as groups, that the cluster does not need: tell your platform."
	}
	countSignIn(signInFailed)
	d.log.Error(err, "Cannot sign a visitor in", "issuer", d.openid.Issuer(), "clientID", d.openid.ClientID())
	console.Ended(w, r, status, why, d.entrance(a.Namespace, localPath(a.To)))
}

// renewal is a session after an attempt to renew it. over says that the issuer refused.
type renewal struct {
	session
	over bool
}

// renew renews the session of a request if it is due. Concurrent requests get one renewal.
func (d *door) renew(w http.ResponseWriter, r *http.Request) {
	s, known := d.kept(r)
	now := d.clock.Now()
	switch {
	case !known || !s.byIssuer() || !s.renewable(now):
		d.ended(w, r, s, http.StatusUnauthorized, "Your session has ended.")
		return
	case now.Before(s.Until) && len(r.CookiesNamed(freshName)) > 0:
		// Another tab renewed it a moment ago.
		w.WriteHeader(http.StatusNoContent)
		return
	case !d.paced(w, d.sessions, s.identity()):
		return
	}
	digest := sha256.Sum256([]byte(s.Refresh))
	next, err := d.renewals.Get(r.Context(), s.ID+string(digest[:]), func(ctx context.Context) (renewal, time.Duration, error) {
		return d.renewed(ctx, s)
	})
	if err != nil {
		d.log.Error(err, "Cannot renew a session", "namespace", s.Namespace)
		console.Refuse(w, http.StatusServiceUnavailable, "The sign-in service does not answer. Try again in a moment.")
		return
	}
	// The cookie's namespace may have changed since the renewal was made.
	next.Namespace = s.Namespace
	if err := d.keep(w, r, next.session); err != nil {
		d.log.Error(err, "Cannot renew a session", "namespace", s.Namespace)
		console.Refuse(w, http.StatusInternalServerError, sentence(err))
		return
	}
	if next.over && !now.Before(s.Until) {
		d.ended(w, r, s, http.StatusUnauthorized, "Your session has ended.")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// renewed returns a session with new tokens. If the issuer refuses, the session lasts until its token expires.
func (d *door) renewed(ctx context.Context, s session) (renewal, time.Duration, error) {
	tokens, err := d.openid.Renew(ctx, s.Refresh, s.Subject)
	var refused *openid.RefusedError
	switch {
	case errors.As(err, &refused):
		d.log.Info("Session not renewed", "namespace", s.Namespace, "reason", err.Error())
		s.Refresh = ""
		return renewal{session: s, over: true}, renewedFor, nil
	case err != nil:
		return renewal{}, 0, err
	}
	s.Token, s.Refresh, s.Until = tokens.ID, tokens.Refresh, tokens.Expiry
	return renewal{session: s}, renewedFor, nil
}
