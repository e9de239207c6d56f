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
	"cmp"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

const (
	// cookieName binds the cookie to this host and to HTTPS: no other host of the same domain can set it.
	cookieName = "__Host-postback"
	// restName is the cookie with the second part of a long session.
	restName = "__Host-postback-rest"
	// freshName is a cookie for the page's script. It holds no secret, and lasts until the session needs a renewal.
	freshName = "__Host-postback-fresh"
	// maxCookie bounds the value of a cookie: browsers keep at most 4 KiB with its name and attributes.
	maxCookie = 3800
	// splitMark begins the first part of a session in two cookies. Sealed texts do not contain it.
	splitMark = "~"
)

// session is the content of a cookie.
type session struct {
	Namespace string    `json:"n"`
	Role      string    `json:"r,omitempty"`
	Token     string    `json:"t"`
	Until     time.Time `json:"u"`
	// ID, Subject, Refresh and Ends are those of a session by OpenID Connect, whose token can be renewed until Ends.
	ID      string    `json:"i,omitempty"`
	Subject string    `json:"s,omitempty"`
	Refresh string    `json:"f,omitempty"`
	Ends    time.Time `json:"e,omitzero"`
}

var errLarge = errors.New("the tokens of the session are too long for a browser's cookies")

// identity is the same for all tokens and namespaces of a session.
func (s *session) identity() string { return cmp.Or(s.ID, s.Token) }

// key identifies the visit of a session to a namespace.
func (s *session) key() [sha256.Size]byte {
	return sha256.Sum256([]byte(s.Namespace + "\x00" + s.identity()))
}

// byIssuer reports whether the session comes from OpenID Connect, and not from a link.
func (s *session) byIssuer() bool { return s.ID != "" }

// renewable reports whether a renewal may continue the session.
func (s *session) renewable(now time.Time) bool { return s.Refresh != "" && now.Before(s.Ends) }

// renewAt returns the time from which the session should be renewed: before the token expires, so that nobody
// notices, also if the clock of the API server is ahead.
func (s *session) renewAt(from time.Time) time.Time {
	return s.Until.Add(-min(s.Until.Sub(from)/3, 2*time.Minute))
}

// end returns the time after which the cookie is useless.
func (s *session) end() time.Time {
	if s.Refresh != "" {
		return s.Ends
	}
	return s.Until
}

// bearer is the token with which a visit's clients authenticate: the latest of its session.
type bearer struct {
	mu    sync.Mutex
	token string
}

// Token implements oauth2.TokenSource.
func (b *bearer) Token() (*oauth2.Token, error) { return &oauth2.Token{AccessToken: b.latest()}, nil }

func (b *bearer) latest() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token
}

func (b *bearer) set(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.token = token
}

// kept returns the session in a request's cookies, which may have expired. The request must have exactly one, sealed
// by the portal.
func (d *door) kept(r *http.Request) (session, bool) {
	var s session
	sealed, ok := sealedSession(r)
	ok = ok && d.sealer.open(purposeSession, "", sealed, &s)
	return s, ok
}

func sealedSession(r *http.Request) (string, bool) {
	cookies := r.CookiesNamed(cookieName)
	if len(cookies) != 1 {
		return "", false
	}
	begin, split := strings.CutPrefix(cookies[0].Value, splitMark)
	if !split {
		return begin, true
	}
	rest := r.CookiesNamed(restName)
	if len(rest) != 1 {
		return "", false
	}
	return begin + rest[0].Value, true
}

// session returns the session of a request, if it has not expired.
func (d *door) session(r *http.Request) (session, bool) {
	s, ok := d.kept(r)
	return s, ok && d.clock.Now().Before(s.Until)
}

// keep sends a session to the browser, in one cookie or two.
func (d *door) keep(w http.ResponseWriter, r *http.Request, s session) error {
	sealed, err := d.sealer.seal(purposeSession, "", s)
	if err != nil {
		return err
	}
	first, rest := sealed, ""
	if len(sealed) > maxCookie {
		first = splitMark + sealed[:maxCookie-len(splitMark)]
		rest = sealed[maxCookie-len(splitMark):]
	}
	if len(rest) > maxCookie {
		return errLarge
	}
	now := d.clock.Now()
	age := int(s.end().Sub(now).Seconds())
	d.setCookie(w, cookieName, first, age)
	if rest != "" {
		d.setCookie(w, restName, rest, age)
	} else {
		d.forget(w, r, restName)
	}
	if s.Refresh != "" {
		d.setFresh(w, s)
	} else {
		d.forget(w, r, freshName)
	}
	return nil
}

// setFresh tells the page's script, by the life of a cookie, when to renew the session.
func (d *door) setFresh(w http.ResponseWriter, s session) {
	now := d.clock.Now()
	fresh := d.cookie(freshName, "1", max(1, int(s.renewAt(now).Sub(now).Seconds()))) //nolint:gosec // The page's script reads it.
	fresh.HttpOnly = false
	http.SetCookie(w, fresh)
}

// drop removes the session from the browser.
func (d *door) drop(w http.ResponseWriter, r *http.Request) {
	d.setCookie(w, cookieName, "", -1)
	d.forget(w, r, restName)
	d.forget(w, r, freshName)
}

// forget removes a cookie that the browser has.
func (d *door) forget(w http.ResponseWriter, r *http.Request, name string) {
	if len(r.CookiesNamed(name)) > 0 {
		d.setCookie(w, name, "", -1)
	}
}

func (d *door) setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, d.cookie(name, value, maxAge))
}

func (d *door) cookie(name, value string, maxAge int) *http.Cookie {
	c := &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if len(d.origins) > 0 {
		// In a frame, the portal is another site than the page around it. Partitioned keeps the cookie from frames of
		// other sites.
		c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
	}
	return c
}
