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
	"slices"
	"strconv"
	"strings"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/console/guard"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/metric"
	"github.com/postback-dev/postback-operator/internal/portallink"
)

// Results of requests to sign in.
const (
	signedIn       = "SignedIn"
	linkInvalid    = "LinkInvalid"
	otherNamespace = "OtherNamespace"
	signInFailed   = "Failed"
)

// Bounds that refuse a request.
const (
	boundAddressRate = "AddressRate"
	boundSessionRate = "SessionRate"
	boundLinkRate    = "LinkRate"
	boundSessions    = "Sessions"
	boundNamespace   = "NamespaceSessions"
	boundRequests    = "SessionRequests"
	boundLive        = "LivePages"
	boundRead        = "SlowReader"
)

// Routes of requests. Each stands for all paths of its kind, so that no name of an object becomes a label.
const (
	routeStatic   = "static"
	routeSignIn   = "signin"
	routeSignOut  = "signout"
	routeLinks    = "portal-links"
	routeLive     = "live"
	routeList     = "list"
	routeNew      = "new"
	routeAct      = "act"
	routeDelivery = "delivery"
	routePostback = "postback"
	routeOther    = "other"
)

// otherCode stands for all codes of HTTP that the portal does not answer with by itself.
const otherCode = "other"

var codes = []string{"200", "201", "204", "303", "304", "400", "401", "403", "404", "405", "409", "421", "422", "429", "500", "503", otherCode}

var (
	sessionsOpen = metric.Portal.Gauge("postback_portal_sessions",
		"Sessions whose pages this replica keeps current: those with a request in the last minute, or an open page.")
	watchedNamespaces = metric.Portal.Gauge("postback_portal_watched_namespaces",
		"Namespaces that this replica watches. The sessions of a namespace share its watches.")
	liveOpen = metric.Portal.Gauge("postback_portal_live_pages",
		"Live pages that are open at this replica.")
	liveUnwritten = metric.Portal.Gauge("postback_portal_live_unwritten_bytes",
		"Bytes of live pages that this replica has to write, and that visitors have not read.")
	signInsTotal = metric.Portal.Counters("postback_portal_sign_ins_total",
		"Requests to sign in, by result. Failed is an error of the API server or of the portal.",
		metric.Values("result", signedIn, linkInvalid, otherNamespace, signInFailed))
	refusedTotal = metric.Portal.Counters("postback_portal_refused_total",
		"Requests that a bound refused, by the bound. SlowReader counts live pages that were closed, because the visitor did not read.",
		metric.Values("bound", boundAddressRate, boundSessionRate, boundLinkRate, boundSessions, boundNamespace, boundRequests, boundLive, boundRead))
	requestsTotal = metric.Portal.Counters("postback_portal_requests_total",
		"Requests, by the kind of page and the HTTP status of the response.",
		metric.Values("route", routeStatic, routeSignIn, routeSignOut, routeLinks, routeLive, routeList, routeNew, routeAct, routeDelivery, routePostback, routeOther),
		metric.Values("code", codes...))
	reviewsTotal = metric.Portal.Counters("postback_portal_reviews_total",
		"Reviews by the Kubernetes API server of tokens (TokenReview) and rights (SubjectAccessReview), by whether it answered. Cached answers do not count.",
		metric.Values("review", access.ReviewOfTokens, access.ReviewOfRights), metric.Values("answered", "true", "false"))
)

func countReview(kind string, answered bool) {
	reviewsTotal.WithLabelValues(kind, strconv.FormatBool(answered)).Inc()
}

func countSignIn(result string) { signInsTotal.WithLabelValues(result).Inc() }

// codeOf returns the value of the label code.
func codeOf(status int) string {
	if code := strconv.Itoa(status); slices.Contains(codes, code) {
		return code
	}
	return otherCode
}

// routeOf returns the value of the label route for a path.
func routeOf(path string) string {
	switch {
	case strings.HasPrefix(path, portallink.Prefix):
		return routeLinks
	case strings.HasPrefix(path, guard.StaticPath):
		return routeStatic
	case strings.HasSuffix(path, console.LivePath):
		return routeLive
	}
	switch path {
	case "/":
		return routeList
	case "/new":
		return routeNew
	case signInPath:
		return routeSignIn
	case signOutPath:
		return routeSignOut
	}
	return routeOfPostback(strings.Split(path, "/"))
}

// routeOfPostback returns the route of a path below /p/NAMESPACE/NAME, which is split at its slashes.
func routeOfPostback(parts []string) string {
	const own, below, kind = 4, 5, 4
	switch {
	case len(parts) < own || parts[1] != "p":
		return routeOther
	case len(parts) == own:
		return routePostback
	case len(parts) > below && parts[kind] == "d":
		return routeDelivery
	case len(parts) > below && parts[kind] == "do":
		return routeAct
	}
	return routeOther
}

// counted is a response whose status is counted.
type counted struct {
	http.ResponseWriter
	status int
}

func (c *counted) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(content []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(content)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// count calls the handler, and counts the request after its end.
func count(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	c := &counted{ResponseWriter: w}
	defer func() {
		if c.status == 0 { // net/http answers like this, or the connection broke before the answer.
			c.status = http.StatusOK
		}
		requestsTotal.WithLabelValues(routeOf(r.URL.Path), codeOf(c.status)).Inc()
	}()
	handler.ServeHTTP(c, r)
}
