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
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Every redirect is a failure that names the host, and the event goes nowhere else (sourcegraph#46346,
// mollie/api-documentation#602, woocommerce#21490, triggerdotdev#543).
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	other := strings.TrimPrefix(elsewhere.URL, "http://")
	tests := map[string]struct{ location, message string }{
		"another host":         {elsewhere.URL + "/moved?" + secretInURL, "has moved to " + other},
		"another host, no URL": {"//" + other + "/moved?" + secretInURL, "has moved to " + other},
		"the same host":        {"/moved?" + secretInURL, "has moved to 127.0.0.1:"},
		"no location":          {"", "redirects are not followed"},
		"no URL":               {elsewhere.URL + "/%zz?" + secretInURL, "redirects are not followed"},
		"a bad port":           {"https://moved.example.com:x/?" + secretInURL, "redirects are not followed"},
		"another scheme":       {"javascript:" + secretInURL, "redirects are not followed"},
	}
	sender := newSender()
	for name, test := range tests {
		for _, code := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
			t.Run(fmt.Sprint(code, " to ", name), func(t *testing.T) {
				endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost || r.URL.Path != "/hooks" {
						t.Errorf("%s %s", r.Method, r.URL.Path)
					}
					if test.location != "" {
						w.Header().Set("Location", test.location)
					}
					w.WriteHeader(code)
				}))
				defer endpoint.Close()
				attempt := sender.Send(t.Context(), routeTo(endpoint.URL+"/hooks"), event("{}"))
				if attempt.Outcome != v1alpha1.OutcomeRedirected || attempt.StatusCode == nil || *attempt.StatusCode != int32(code) {
					t.Errorf("attempt is %+v", attempt)
				}
				if !strings.Contains(attempt.Message, test.message) || strings.Contains(attempt.Message, secretInURL) {
					t.Errorf("message is %q", attempt.Message)
				}
			})
		}
	}
}

// A redirect of the token server is not followed either, and the record shows no token.
func TestRedirectOfTheTokenServerShowsNoToken(t *testing.T) {
	tokens := httptest.NewServer(&tokenServer{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example.com/%zz?"+secretInURL)
		w.WriteHeader(http.StatusFound)
	}})
	defer tokens.Close()
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent") }))
	defer endpoint.Close()
	attempt := newSender().Send(t.Context(), withToken(endpoint.URL, tokens.URL), event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeAuthenticationFailed || !strings.Contains(attempt.Message, "302") || strings.Contains(attempt.Message, secretInURL) {
		t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
	}
}
