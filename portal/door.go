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
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/console/guard"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/pace"
	"github.com/postback-dev/postback-operator/internal/portallink"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/portal/openid"
)

const (
	signInPath  = "/signin"
	signOutPath = "/signout"
	maxCode     = 1 << 10
	// Rates of requests per second, and bursts. A page with its files takes about ten requests.
	addressRate, addressBurst = 2, 20
	sessionRate, sessionBurst = 20, 100
	linkRate, linkBurst       = 5, 50
	// hsts makes browsers use only HTTPS for half a year.
	hsts = "max-age=15768000"
)

// door is the handler of all requests to the portal.
type door struct {
	origin *url.URL
	links  *links
	visits *visits
	sealer *sealer
	access *access.Reviewer
	clock  clock.PassiveClock
	log    logr.Logger
	// forwarded says that a proxy in front appends the visitor's address to X-Forwarded-For.
	forwarded bool
	static    http.Handler
	looks     *looks
	// origins may embed the pages in a frame.
	origins []string
	// openid signs visitors in at an issuer, unless it is nil.
	openid   *openid.Client
	renewals *rbacreview.Cache[renewal]

	addresses, sessions, senders *pace.Limit
}

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guard.SetHeaders(w.Header(), d.origins...)
	shown := d.looks.present.Load()
	w = console.Present(w, shown)
	w.Header().Set("Strict-Transport-Security", hsts)
	// With no-referrer, browsers would hide the origin of the portal's forms.
	w.Header().Set("Referrer-Policy", "same-origin")
	switch {
	case strings.HasPrefix(r.URL.Path, portallink.Prefix):
		// Backends may use the DNS name of the Service. They authenticate by a token, not by a cookie.
		d.link(w, r)
	case r.Host != d.origin.Host:
		console.Refuse(w, http.StatusMisdirectedRequest, "The portal does not answer under this name.")
	case strings.HasPrefix(r.URL.Path, guard.StaticPath) && r.Method == http.MethodGet:
		d.static.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, console.LookPath) && r.Method == http.MethodGet:
		shown.ServeLook(w, r)
	case r.URL.Path == signInPath && r.Method == http.MethodGet:
		// Links from other sites lead here. The page holds nothing private.
		console.SignIn(w, d.entrance(r.URL.Query().Get("namespace"), "/"))
	case d.openid != nil && r.URL.Path == callbackPath && r.Method == http.MethodGet:
		// The issuer leads here. The state of the sign-in proves that this browser started it.
		d.callback(w, r)
	case !guard.OwnPage(r, d.origin.Scheme+"://"+d.origin.Host):
		console.Refuse(w, http.StatusForbidden, "The request does not come from a page of the portal.")
	default:
		d.ownPage(w, r)
	}
}

// ownPage answers a request that comes from a page of the portal.
func (d *door) ownPage(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == signInPath && r.Method == http.MethodPost:
		d.signIn(w, r)
	case d.openid != nil && strings.HasPrefix(r.URL.Path, signInPath+"/"):
		d.issuer(w, r)
	default:
		d.page(w, r)
	}
}

// page answers a request of a visitor with a session.
func (d *door) page(w http.ResponseWriter, r *http.Request) {
	s, known := d.kept(r)
	now := d.clock.Now()
	namespace := r.Header.Get(console.NamespaceHeader)
	switch {
	case known && r.URL.Path == signOutPath && r.Method == http.MethodPost:
		d.signOut(w, r, s)
	case known && !now.Before(s.Until) && s.renewable(now):
		console.Renew(w, r)
	case !known, !now.Before(s.Until):
		d.ended(w, r, s, http.StatusUnauthorized, "You are not signed in, or your session has ended.")
	case namespace != "" && namespace != s.Namespace:
		// The visitor signed in for another namespace in another tab.
		d.ended(w, r, session{Namespace: namespace}, http.StatusConflict, "You are signed in for another namespace now, and this page shows "+namespace+".")
	case !d.paced(w, d.sessions, s.identity()):
	case s.byIssuer() && r.URL.Path == namespacesPath:
		d.namespaces(w, r, s)
	case s.Namespace == "":
		d.choose(w, r)
	default:
		d.visit(w, r, s)
	}
}

// visit answers a request with the pages of a session's namespace.
func (d *door) visit(w http.ResponseWriter, r *http.Request, s session) {
	switch err := d.visits.serve(w, r, s); {
	case err == nil:
	case boundOf(err) != "":
		refusedTotal.WithLabelValues(boundOf(err)).Inc()
		w.Header().Set("Retry-After", "60")
		console.Refuse(w, http.StatusServiceUnavailable, sentence(err))
	case errors.Is(err, access.ErrUnavailable):
		console.Refuse(w, http.StatusServiceUnavailable, "The API server does not answer. Try again in a moment.")
	default:
		d.log.Info("Session refused", "namespace", s.Namespace, "role", s.Role, "reason", err.Error())
		d.drop(w, r)
		d.ended(w, r, s, http.StatusUnauthorized, "This session may not see the Postbacks of "+s.Namespace+" any more.")
	}
}

// ended answers a request that needs another session: with a page, or with a note for the page that is open, so that
// nothing typed is lost. s is the last session, as far as it is known.
func (d *door) ended(w http.ResponseWriter, r *http.Request, s session, status int, why string) {
	to := "/"
	if r.Method == http.MethodGet {
		to = r.URL.RequestURI()
	}
	console.Ended(w, r, status, why, d.entrance(s.Namespace, to))
}

// entrance returns the ways to sign in that the pages offer.
func (d *door) entrance(namespace, to string) console.Entrance {
	if d.openid == nil {
		return console.Entrance{}
	}
	return console.Entrance{
		Issuer: d.openid.Host(), Path: startAddress(namespace, to), TabPath: startAddress(namespace, donePath),
	}
}

// signOut ends a session, here and at the issuer.
func (d *door) signOut(w http.ResponseWriter, r *http.Request, s session) {
	d.visits.signOut(s)
	d.drop(w, r)
	if !s.byIssuer() || d.openid == nil {
		console.SignedOut(w, "", "")
		return
	}
	if err := d.openid.Revoke(r.Context(), s.Refresh); err != nil {
		// The session is over in this browser all the same.
		d.log.Error(err, "Cannot revoke a refresh token")
	}
	console.SignedOut(w, d.openid.EndSession(d.origin.Scheme+"://"+d.origin.Host+signInPath), d.openid.Host())
}

// paced reports whether a request is within its rate. Otherwise it answers with 429.
func (d *door) paced(w http.ResponseWriter, limit *pace.Limit, caller string) bool {
	wait, ok := limit.Acquire(caller, 1, 0)
	if !ok {
		refusedTotal.WithLabelValues(boundSessionRate).Inc()
		w.Header().Set("Retry-After", retryAfter(wait))
		console.Refuse(w, http.StatusTooManyRequests, "Too many requests. Wait a moment.")
	}
	return ok
}

// retryAfter returns the value of the header Retry-After for a wait, in whole seconds.
func retryAfter(wait time.Duration) string { return strconv.Itoa(int(wait/time.Second) + 1) }

// signIn exchanges a link's code for a session. The page's script reads the text of the answer.
func (d *door) signIn(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if wait, ok := d.addresses.Acquire(d.address(r), 1, 0); !ok {
		refusedTotal.WithLabelValues(boundAddressRate).Inc()
		w.Header().Set("Retry-After", retryAfter(wait))
		answer(w, http.StatusTooManyRequests, "Too many attempts from your address. Wait a moment.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, maxCode)
	if err := r.ParseForm(); err != nil {
		countSignIn(linkInvalid)
		answer(w, http.StatusBadRequest, "The form could not be read.")
		return
	}
	// Another person's link must not silently replace the session of a visitor.
	present, isSignedIn := d.session(r)
	g, err := d.links.redeem(ctx, r.PostForm.Get("code"))
	switch {
	case errors.Is(err, errUsed):
		countSignIn(linkInvalid)
		answer(w, http.StatusUnauthorized, sentence(err)+" Open a new link from where you got this one.")
		return
	case err != nil:
		countSignIn(signInFailed)
		d.log.Error(err, "Cannot sign a visitor in")
		answer(w, http.StatusServiceUnavailable, "The API server does not answer. Try again in a moment.")
		return
	case isSignedIn && present.Namespace != g.Namespace:
		countSignIn(otherNamespace)
		answer(w, http.StatusConflict, fmt.Sprintf("You are signed in for %s, and this link is for %s. Sign out first, and open a new link.", present.Namespace, g.Namespace))
		return
	}
	d.startSession(ctx, w, r, g)
}

// startSession starts the session of a grant.
func (d *door) startSession(ctx context.Context, w http.ResponseWriter, r *http.Request, g grant) {
	s, err := d.links.session(ctx, g)
	if err != nil {
		countSignIn(signInFailed)
		d.log.Error(err, "Cannot sign a visitor in", "namespace", g.Namespace, "role", g.Role)
		answer(w, http.StatusServiceUnavailable, "The cluster gave no access to "+g.Namespace+". Ask your platform, and open a new link.")
		return
	}
	if err := d.keep(w, r, s); err != nil {
		countSignIn(signInFailed)
		d.log.Error(err, "Cannot sign a visitor in", "namespace", g.Namespace, "role", g.Role)
		answer(w, http.StatusInternalServerError, "The session could not be made.")
		return
	}
	countSignIn(signedIn)
	d.log.Info("Signed in", "namespace", g.Namespace, "role", g.Role, "until", s.Until)
	w.WriteHeader(http.StatusNoContent)
}

// address returns the visitor's address, which limits the rate of sign-ins.
func (d *door) address(r *http.Request) string {
	if d.forwarded {
		// The proxy appends the address that it saw. A client can invent the addresses before it.
		all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		return strings.TrimSpace(all[len(all)-1])
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func answer(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) //nolint:gosec // It is plain text, and nosniff is set.
}

// sentence returns an error as a sentence.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
