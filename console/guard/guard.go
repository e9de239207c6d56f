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

// Package guard lets only the person who started the console use it. Every program of the machine and every page of the
// browser can send requests to loopback. Each request therefore has to prove that it comes from the console's own
// pages.
package guard

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const (
	tokenParameter = "token"
	// entryPath is where the printed URL leads.
	entryPath = "/enter"
	// StaticPath is where files lie that are the same for everyone.
	StaticPath = "/static/"
	policy     = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

// Guard checks requests to one console. It is safe for concurrent use.
type Guard struct {
	port, cookie string
	session      string

	mu sync.Mutex
	// token opens the console once; "" when it was used.
	token string
}

// New returns a guard of a console that listens on a port of loopback.
func New(port string) *Guard {
	return &Guard{
		port: port, session: rand.Text(), token: rand.Text(),
		// Cookies do not know ports: two consoles must not take each other's.
		cookie: "postback-console-" + port,
	}
}

// Loopback returns an error unless an address to listen on is a loopback address.
func Loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if host != "127.0.0.1" && host != "::1" {
		return fmt.Errorf("address %q is not of this machine alone: the console listens on 127.0.0.1 or [::1] only", address)
	}
	return nil
}

// URL returns the address that opens the console once, on the host and port that it listens on.
func (g *Guard) URL(address string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return "http://" + address + entryPath + "?" + url.Values{tokenParameter: {g.token}}.Encode()
}

// Wrap returns a handler that answers permitted requests, and refuses all others with refuse.
func (g *Guard) Wrap(next http.Handler, refuse func(w http.ResponseWriter, status int, why string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SetHeaders(w.Header())
		switch {
		case !g.ownHost(r.Host):
			refuse(w, http.StatusMisdirectedRequest, "The console answers on 127.0.0.1, [::1] and localhost only.")
		case r.URL.Path == entryPath:
			g.enter(w, r, refuse)
		case !OwnPage(r, "http://"+r.Host):
			refuse(w, http.StatusForbidden, "The request does not come from a page of the console.")
		case !g.known(r) && !strings.HasPrefix(r.URL.Path, StaticPath):
			refuse(w, http.StatusUnauthorized, "This browser has not been let in. Open the link that kubectl postback console printed.")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost refuses names that somebody else's DNS points to loopback.
func (g *Guard) ownHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	return err == nil && port == g.port && (name == "127.0.0.1" || name == "::1" || name == "localhost")
}

// SetHeaders sets what every answer of a private page carries: no foreign script, no frame, no copy in a cache.
func SetHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Cache-Control", "no-store")
}

// OwnPage refuses requests that another site makes the browser send. A change has to name the origin, as browsers do.
func OwnPage(r *http.Request, own string) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	return origin == own
}

// known reports whether a request carries the cookie.
func (g *Guard) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(g.cookie) {
		if equal(c.Value, g.session) {
			return true
		}
	}
	return false
}

// enter takes the token, once, and gives the cookie for it.
func (g *Guard) enter(w http.ResponseWriter, r *http.Request, refuse func(http.ResponseWriter, int, string)) {
	if r.Method != http.MethodGet || notVisited(r) {
		refuse(w, http.StatusForbidden, "The link has to be opened as a page.")
		return
	}
	if !g.known(r) {
		if !g.take(r.URL.Query().Get(tokenParameter)) {
			refuse(w, http.StatusUnauthorized, "This link was used already, or is not of this console. Each start prints a link that works once: run kubectl postback console again.")
			return
		}
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // It goes over loopback, where there is no TLS.
			Name: g.cookie, Value: g.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		})
	}
	// The browser treats a redirect after a link on another site as a request of that site, and omits the cookie. A page
	// of the console starts a new request.
	w.Header().Set("Refresh", "0; url=/")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><title>Postback</title><link rel="icon" href="` + StaticPath + `icon.svg"><p><a href="/">Open the console</a></p></html>`))
}

// notVisited reports whether the browser asks for something else than a page to show: an image or a prefetch of some page.
func notVisited(r *http.Request) bool {
	destination := r.Header.Get("Sec-Fetch-Dest")
	return destination != "" && destination != "document" || r.Header.Get("Sec-Purpose") != ""
}

// take reports whether a token is right, and makes it worthless if so.
func (g *Guard) take(token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token == "" || !equal(token, g.token) {
		return false
	}
	g.token = ""
	return true
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
