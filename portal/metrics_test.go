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
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/postback-dev/postback-operator/internal/portallink"
)

func TestRoutesHoldNoNames(t *testing.T) {
	for path, want := range map[string]string{
		"/": routeList, "/live": routeLive, "/new": routeNew, signInPath: routeSignIn, signOutPath: routeSignOut,
		"/static/console.js": routeStatic, portallink.Path("acme"): routeLinks,
		"/p/acme/crm": routePostback, "/p/acme/crm/live": routeLive, "/p/acme/crm/d/evt": routeDelivery, "/p/acme/crm/d/evt/body": routeDelivery,
		"/p/acme/crm/do/state": routeAct, "/p/acme": routeOther, "/p/acme/crm/x": routeOther, "/p/acme/crm/do": routeOther, "/acme": routeOther, "": routeOther, "//": routeOther,
	} {
		t.Run(path, func(t *testing.T) {
			if got := routeOf(path); got != want {
				t.Errorf("the route is %s, want %s", got, want)
			}
		})
	}
}

func TestUnexpectedCodesAreOneValue(t *testing.T) {
	for status, want := range map[int]string{http.StatusOK: "200", http.StatusMisdirectedRequest: "421", http.StatusTeapot: otherCode, 0: otherCode} {
		if got := codeOf(status); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}

// TestRequestsAreCounted uses the portal and compares the counters.
func TestRequestsAreCounted(t *testing.T) {
	acme, beta := partner(t, "counted-acme"), partner(t, "counted-beta")
	for name, test := range map[string]struct {
		counter prometheus.Counter
		do      func(r *replica)
	}{
		"a sign-in":        {signInsTotal.WithLabelValues(signedIn), func(r *replica) { r.open(r.link(backend(t, acme, "viewer"), acme, "viewer")) }},
		"an invented code": {signInsTotal.WithLabelValues(linkInvalid), func(r *replica) { r.open("invented") }},
		"a link of another namespace": {signInsTotal.WithLabelValues(otherNamespace), func(r *replica) {
			r.open(r.link(backend(t, beta, "editor"), beta, "editor"), "Cookie", r.visitor(acme, "viewer"))
		}},
		"a page": {requestsTotal.WithLabelValues(routeList, "401"), func(r *replica) { r.ask(http.MethodGet, "/", "") }},
		"a file": {requestsTotal.WithLabelValues(routeStatic, "200"), func(r *replica) { r.ask(http.MethodGet, "/static/icon.svg", "") }},
		"a flood": {refusedTotal.WithLabelValues(boundLinkRate), func(r *replica) {
			for range linkBurst + 1 {
				r.ask(http.MethodPost, portallink.Path(acme), "", "Authorization", "Bearer x")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := testutil.ToFloat64(test.counter)
			test.do(start(t, keys))
			if got := testutil.ToFloat64(test.counter) - before; got < 1 {
				t.Errorf("it is not counted")
			}
		})
	}
}

// TestMetricsAreNotForVisitors: the pages do not lead to the metrics, and the metrics name no visitor.
func TestMetricsAreNotForVisitors(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "scraped-acme")
	cookie := r.visitor(acme, "viewer")
	r.get("/", cookie, "scraped-acme.example.com")
	if got := r.ask(http.MethodGet, "/metrics", "", "Cookie", cookie); got.StatusCode != http.StatusNotFound {
		t.Errorf("a visitor's /metrics is answered with %s", got.Status)
	}
	scraped := scrape(t)
	if !strings.Contains(scraped, "postback_portal_sessions") || strings.Contains(scraped, acme) || strings.Contains(scraped, strings.TrimPrefix(cookie, cookieName+"=")) {
		t.Errorf("the metrics are\n%s", scraped)
	}
}
