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

// Package guard lets only the user who started the console use it. Every program of the machine and every page in the
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
	// entryPath is the path of the printed URL.
	entryPath = "/enter"
	// StaticPath is the path of files that are the same for everybody.
	StaticPath = "/static/"
	policy     = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors "
)

// Guard authenticates the requests to one console. It is safe for concurrent use.
type Guard struct {
	port, cookie string
	session      string

	mu sync.Mutex
	// token opens the console once. It is "" after its use.
	token string
}

// New returns a guard of a console that listens on a port of loopback.
func New(port string) *Guard {
	return &Guard{
		port: port, session: rand.Text(), token: rand.Text(),
		// Cookies ignore ports: two consoles must not overwrite each other's.
		cookie: "postback-console-" + port,
	}
}

// Loopback returns an error unless the address to listen on is a loopback address.
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

// URL returns the URL that opens the console once, on the address that it listens on.
func (g *Guard) URL(address string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return "http://" + address + entryPath + "?" + url.Values{tokenParameter: {g.token}}.Encode()
}

// Wrap returns a handler that passes authenticated requests to next, and all others to refuse.
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

// ownHost refuses foreign host names that resolve to loopback (DNS rebinding).
func (g *Guard) ownHost(host string) bool {
	name, port, err := net.SplitHostPort(host)
	return err == nil && port == g.port && (name == "127.0.0.1" || name == "::1" || name == "localhost")
}

// SetHeaders sets the headers of every private page: no foreign scripts, no caching, and no frames except in pages of
// the given origins.
func SetHeaders(header http.Header, embedding ...string) {
	if len(embedding) == 0 {
		header.Set("Content-Security-Policy", policy+"'none'")
		header.Set("X-Frame-Options", "DENY")
	} else {
		// X-Frame-Options cannot name origins.
		header.Set("Content-Security-Policy", policy+strings.Join(embedding, " "))
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	header.Set("Cache-Control", "no-store")
}

// OwnPage reports whether a request comes from the page's own origin. A request that changes something must have the
// header Origin, which browsers send.
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

// known reports whether a request has the session cookie.
func (g *Guard) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(g.cookie) {
		if equal(c.Value, g.session) {
			return true
		}
	}
	return false
}

// enter exchanges the token, once, for the session cookie.
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
	// After a link on another site, the browser treats a redirect as that site's request and omits the cookie. A page
	// of the console starts a new request.
	w.Header().Set("Refresh", "0; url=/")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><title>Postback</title><link rel="icon" href="` + StaticPath + `icon.svg"><p><a href="/">Open the console</a></p></html>`))
}

// notVisited reports whether the browser does not show the page to the user, as for an image or a prefetch.
func notVisited(r *http.Request) bool {
	destination := r.Header.Get("Sec-Fetch-Dest")
	return destination != "" && destination != "document" || r.Header.Get("Sec-Purpose") != ""
}

// take reports whether a token is valid, and invalidates it.
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
