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
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const credential = `p&ss/w<rd+"é"` + "-of-the-endpoint"

// answering sends a delivery to an endpoint whose response a function derives from the request.
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

// The record omits a credential, however an honest endpoint encodes it.
func TestCredentialIsLeftOutHoweverItIsWritten(t *testing.T) {
	for name, written := range map[string]string{
		"as it is":                   `p&ss/w<rd+"é"-of-the-endpoint`,
		"JSON":                       `p&ss/w<rd+\"é\"-of-the-endpoint`,
		"JSON for HTML":              `p\u0026ss/w\u003crd+\"é\"-of-the-endpoint`,
		"JSON, ASCII, as PHP has it": `p&ss\/w<rd+\"\u00e9\"-of-the-endpoint`,
		"JSON, ASCII, in upper case": `p&ss/w<rd+\u0022\u00E9\u0022-of-the-endpoint`,
		"query":                      `p%26ss%2Fw%3Crd%2B%22%C3%A9%22-of-the-endpoint`,
		"query, in lower case":       `p%26ss%2fw%3crd%2b%22%c3%a9%22-of-the-endpoint`,
		"path":                       `p&ss%2Fw%3Crd+%22%C3%A9%22-of-the-endpoint`,
		"HTML, numbers":              `p&amp;ss/w&lt;rd+&#34;é&#34;-of-the-endpoint`,
		"HTML, names":                `p&amp;ss/w&lt;rd+&quot;&eacute;&quot;-of-the-endpoint`,
		"HTML, hexadecimal numbers":  `p&#x26;ss&#x2F;w&#x3c;rd&#x2B;&#x22;&#xE9;&#x22;-of-the-endpoint`,
		"HTML, quotes left":          `p&amp;ss/w&lt;rd+"é"-of-the-endpoint`,
		"base64":                     `cCZzcy93PHJkKyLDqSItb2YtdGhlLWVuZHBvaW50`,
		"base64, in a query":         `cCZzcy93PHJkKyLDqSItb2YtdGhlLWVuZHBvaW50`,
		"base64, for URL":            `cCZzcy93PHJkKyLDqSItb2YtdGhlLWVuZHBvaW50`,
		"hexadecimal":                `702673732f773c72642b22c3a9222d6f662d7468652d656e64706f696e74`,
		"hexadecimal, in upper case": `702673732F773C72642B22C3A9222D6F662D7468652D656E64706F696E74`,
	} {
		t.Run(name, func(t *testing.T) { redactsTo(t, credential, "acme sent "+written+"!", "acme sent [redacted]!") })
	}
	redactsTo(t, credential, "acme sent "+credential+" "+credential, "acme sent [redacted] [redacted]")
}

func TestOtherCharactersAreEscapedToo(t *testing.T) {
	for _, test := range []struct{ value, written string }{
		{`it's s3cret`, `it&#39;s s3cret`},
		{`it's s3cret`, `it&#039;s s3cret`},
		{`it's s3cret`, `it&#x27;s s3cret`},
		{`it's s3cret`, `it&apos;s s3cret`},
		{`it's s3cret`, `it's+s3cret`},
		{`it's s3cret`, `it%27s%20s3cret`},
		{`s3cret\of\mine`, `s3cret\\of\\mine`},
		{`s3cret🎉`, `s3cret\ud83c\udf89`},
		{`s3cret🎉`, `s3cret\uD83C\uDF89`},
		{`s3cret🎉`, `s3cret&#127881;`},
		{`s3cret🎉`, `s3cret%f0%9f%8e%89`},
	} {
		t.Run(test.written, func(t *testing.T) { redactsTo(t, test.value, "<td>"+test.written+"</td>", "<td>[redacted]</td>") })
	}
}

// Servers use, and may quote, only part of a header value.
func TestPartsOfASecretHeader(t *testing.T) {
	for _, test := range []struct{ value, written, want string }{
		{"Token s3cret", "token s3cret is unknown", "token [redacted] is unknown"},
		{"session=s3cret; theme=x", "no session s3cret", "no session [redacted]"},
		{`Digest username="x", response="s3cret"`, "response is not s3cret", "response is not [redacted]"},
		{"a=s3cr&et", "a is s3cr&amp;et", "a is [redacted]"},
		{"Token abc", "token abc is unknown", "token abc is unknown"},
	} {
		t.Run(test.value, func(t *testing.T) { redactsTo(t, test.value, test.written, test.want) })
	}
}

// redactsTo sends a delivery with a secret header to an endpoint that answers with written, and checks the recorded
// body.
func redactsTo(t *testing.T, secret, written, want string) {
	t.Helper()
	attempt := answering(t, func(r *route.Route) {
		r.Headers = []route.Header{{Name: "X-Api-Key", Value: secret, Secret: true}}
	}, func(*http.Request) string { return written })
	if attempt.ResponseBody != want {
		t.Errorf("body is %q, want %q", attempt.ResponseBody, want)
	}
}

// An endpoint may echo the whole request, as many test endpoints do.
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

// An excerpt that ends within a credential contains no part of it, even if earlier redactions changed its length.
func TestCredentialAtTheEndOfTheExcerpt(t *testing.T) {
	for name, before := range map[string]string{"alone": "", "after another": credential, "after two others": credential + credential} {
		t.Run(name, func(t *testing.T) {
			for cut := 1; cut <= len(credential); cut++ {
				filler := strings.Repeat(".", v1alpha1.MaxResponseBody-cut-len(before))
				attempt := answering(t, withCredential, func(*http.Request) string { return before + filler + credential + strings.Repeat("!", 100) })
				if strings.Contains(attempt.ResponseBody, credential[:1]) || strings.Contains(attempt.ResponseBody, "!") || len(attempt.ResponseBody) > v1alpha1.MaxResponseBody {
					t.Errorf("with %d bytes of a credential within the excerpt, it ends in %q", cut, attempt.ResponseBody[len(attempt.ResponseBody)-40:])
				}
			}
		})
	}
}

// Short values are not redacted, because they occur in many texts.
func TestShortValuesAreNoSecrets(t *testing.T) {
	attempt := answering(t, func(r *route.Route) {
		r.Headers = []route.Header{{Name: "X-Version", Value: "2", Secret: true}, {Name: "X-Empty", Secret: true}}
	}, func(*http.Request) string { return "version 2" })
	if attempt.ResponseBody != "version 2" {
		t.Errorf("body is %q", attempt.ResponseBody)
	}
}

// Errors of net/http quote responses that are not HTTP.
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

// An authorisation server with an invalid response may repeat the client's secret, or contain a token.
func TestTokenErrorsQuoteNoCredential(t *testing.T) {
	r := withToken("http://127.0.0.1:1", "")
	basic := &http.Request{Header: http.Header{}}
	basic.SetBasicAuth("dispatcher", url.QueryEscape(clientSecret))
	pair := strings.TrimPrefix(basic.Header.Get("Authorization"), "Basic ")
	for name, answer := range map[string]string{
		"the pair":        pair,
		"the secret":      url.QueryEscape(clientSecret),
		"a token":         `{"access_token":"granted-t0ken","token_type":"Bearer"}`,
		"token as header": "HTTP/1.1 200 OK\r\nSet-Cookie granted-t0ken",
		"token as length": "HTTP/1.1 200 OK\r\nContent-Length: granted-t0ken",
		"token as coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: granted-t0ken",
	} {
		t.Run(name, func(t *testing.T) {
			r.Auth.OAuth2.TokenURL = "http://" + receiver.Raw(t, receiver.Answering(answer+"\r\n\r\n"))
			attempt := newSender().Send(t.Context(), r, event("{}"))
			const want = "no token from spec.auth.oauth2.tokenURL: its answer is no valid HTTP"
			if attempt.Outcome != v1alpha1.OutcomeAuthenticationFailed || attempt.Message != want {
				t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
			}
		})
	}
}

// A credential in a plain header value, or in the query of the URL, is redacted, too.
func TestPlainCredentialsAreRedacted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-API-Key"), " ", r.Header.Get("X-Tenant"), " ", r.URL.RawQuery)
	}))
	defer server.Close()
	r := routeTo(server.URL + "/?list=visible&access_token=t0ken%2Fof%20mine")
	r.Headers = []route.Header{{Name: "x-api-key", Value: "k3y-of-mine"}, {Name: "X-Tenant", Value: "acme"}}
	attempt := newSender().Send(t.Context(), r, event("{}"))
	if got := attempt.ResponseBody; got != "[redacted] acme list=visible&access_token=[redacted]" {
		t.Errorf("the record holds %q", got)
	}
}

func TestCredentialsInTheTokenURLAreRedacted(t *testing.T) {
	const token = "t0ken-of-the-query"
	answer := "HTTP/1.1 302 Found\r\nLocation: https://" + token + "/\r\nContent-Length: 0\r\n\r\n"
	r := withToken("http://127.0.0.1:1", "")
	r.Auth.OAuth2.TokenURL = "http://" + receiver.Raw(t, receiver.Answering(answer)) + "/?key=" + token
	attempt := newSender().Send(t.Context(), r, event("{}"))
	if strings.Contains(attempt.Message, token) || !strings.Contains(attempt.Message, "[redacted]") {
		t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
	}
}
