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
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/route"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const credential = `p&ss/w<rd+"é"` + "-of-the-endpoint"

// answering sends to an endpoint that answers with what a function makes of the request.
func answering(t *testing.T, change func(*route.Route), answer func(*http.Request) string) v1alpha1.Attempt {
	t.Helper()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, answer(r))
	}))
	t.Cleanup(endpoint.Close)
	r := routeTo(endpoint.URL)
	change(r)
	return newSender().Send(t.Context(), r, event("{}"))
}

func withCredential(r *route.Route) {
	r.Headers = []route.Header{{Name: "X-Api-Key", Value: credential, Secret: true}, {Name: "X-Tenant", Value: "acme"}}
}

// However an honest endpoint writes a credential that it repeats, the record does not hold it.
func TestCredentialIsLeftOutHoweverItIsWritten(t *testing.T) {
	quoted, err := json.Marshal(credential)
	if err != nil {
		t.Fatal(err)
	}
	for name, written := range map[string]string{
		"as it is":        credential,
		"JSON":            strings.Trim(string(quoted), `"`),
		"JSON by others":  `p&ss\/w<rd+\"é\"` + "-of-the-endpoint",
		"query":           url.QueryEscape(credential),
		"path":            url.PathEscape(credential),
		"HTML":            html.EscapeString(credential),
		"base64":          base64.StdEncoding.EncodeToString([]byte(credential)),
		"base64, for URL": base64.RawURLEncoding.EncodeToString([]byte(credential)),
		"hex":             hex.EncodeToString([]byte(credential)),
		"twice":           credential + " " + credential,
	} {
		t.Run(name, func(t *testing.T) {
			attempt := answering(t, withCredential, func(*http.Request) string { return "acme sent " + written + "!" })
			want := strings.ReplaceAll("acme sent "+written+"!", written, "[redacted]")
			if name == "twice" {
				want = "acme sent [redacted] [redacted]!"
			}
			if got := strings.ReplaceAll(attempt.ResponseBody, "=", ""); got != want {
				t.Errorf("body is %q, want %q", got, want)
			}
		})
	}
}

// An endpoint that shows the whole request, as many do that are made to try things out.
func TestEchoedRequestShowsNoCredential(t *testing.T) {
	for name, auth := range map[string]*route.Auth{
		"bearer": {Bearer: "t0ken-of-the-endpoint"},
		"basic":  {Basic: &route.BasicAuth{Username: "Aladdin", Password: "open sesame"}},
	} {
		t.Run(name, func(t *testing.T) {
			var hidden []string
			attempt := answering(t, func(r *route.Route) {
				withCredential(r)
				r.Auth = auth
				hidden = append(hidden, credential, r.Keys[0], "t0ken-of-the-endpoint", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ")
			}, func(r *http.Request) string {
				for _, name := range []string{"Dub-Signature", "Webhook-Signature"} {
					hidden = append(hidden, strings.TrimPrefix(r.Header.Get(name), "v1,"))
				}
				_, password, _ := r.BasicAuth()
				dump, err := httputil.DumpRequest(r, true)
				if err != nil {
					t.Error(err)
				}
				return string(dump) + password + " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
			})
			for _, text := range hidden {
				if text == "" || strings.Contains(attempt.ResponseBody, text) {
					t.Errorf("body shows %q: %s", text, attempt.ResponseBody)
				}
			}
			if len(hidden) != 7 || !strings.Contains(attempt.ResponseBody, "X-Tenant: acme") || strings.Count(attempt.ResponseBody, "[redacted]") < 5 {
				t.Errorf("body is %q", attempt.ResponseBody)
			}
		})
	}
}

// No part of a credential is in an excerpt that ends within it, or that others have made longer or shorter.
func TestCredentialAtTheEndOfTheExcerpt(t *testing.T) {
	for _, before := range []string{"", credential, credential + credential} {
		for cut := 1; cut <= len(credential); cut++ {
			filler := strings.Repeat(".", v1alpha1.MaxResponseBody-cut-len(before))
			attempt := answering(t, withCredential, func(*http.Request) string { return before + filler + credential + strings.Repeat("!", 100) })
			if strings.Contains(attempt.ResponseBody, credential[:1]) || strings.Contains(attempt.ResponseBody, "!") || len(attempt.ResponseBody) > v1alpha1.MaxResponseBody {
				t.Errorf("with %d bytes of a credential within the excerpt, it ends in %q", cut, attempt.ResponseBody[len(attempt.ResponseBody)-40:])
			}
		}
	}
}

// What is too short to be a secret would be in every text.
func TestShortValuesAreNoSecrets(t *testing.T) {
	attempt := answering(t, func(r *route.Route) {
		r.Headers = []route.Header{{Name: "X-Version", Value: "2", Secret: true}, {Name: "X-Empty", Secret: true}}
	}, func(*http.Request) string { return "version 2" })
	if attempt.ResponseBody != "version 2" {
		t.Errorf("body is %q", attempt.ResponseBody)
	}
}

// Errors of net/http quote what is no HTTP.
func TestErrorsQuoteNoCredential(t *testing.T) {
	const token = "t0ken-of-the-endpoint"
	for name, answer := range map[string]string{
		"status line": "Bearer " + token + "\r\n\r\n",
		"header":      "HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n",
		"length":      "HTTP/1.1 200 OK\r\nContent-Length: " + token + "\r\n\r\n",
		"encoding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + token + "\r\n\r\n",
		"location":    "HTTP/1.1 302 Found\r\nLocation: https://" + token + "/\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := routeTo("http://" + receiver.Raw(t, receiver.Answering(answer)))
			r.Auth = &route.Auth{Bearer: token}
			attempt := newSender().Send(t.Context(), r, event("{}"))
			if attempt.Outcome == v1alpha1.OutcomeSucceeded || strings.Contains(attempt.Message, token) || !strings.Contains(attempt.Message, "[redacted]") {
				t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
			}
		})
	}
}

// An authorisation server that speaks no HTTP may repeat what the client has shown it.
func TestTokenErrorsQuoteNoCredential(t *testing.T) {
	r := withToken("http://127.0.0.1:1", "")
	basic := &http.Request{Header: http.Header{}}
	basic.SetBasicAuth("dispatcher", url.QueryEscape(clientSecret))
	pair := strings.TrimPrefix(basic.Header.Get("Authorization"), "Basic ")
	for _, answer := range []string{pair, url.QueryEscape(clientSecret)} {
		r.Auth.OAuth2.TokenURL = "http://" + receiver.Raw(t, receiver.Answering(answer+"\r\n\r\n"))
		attempt := newSender().Send(t.Context(), r, event("{}"))
		if attempt.Outcome != v1alpha1.OutcomeAuthenticationFailed || !strings.Contains(attempt.Message, `malformed HTTP response "[redacted]"`) {
			t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
		}
	}
}
