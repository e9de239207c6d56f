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

package guard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const address = "127.0.0.1:4711"

// request sends a request through a guard and returns the response. The page behind the guard answers 204.
func request(g *Guard, method, target, host string, header map[string]string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Host = host
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	g.Wrap(page, func(w http.ResponseWriter, status int, why string) { http.Error(w, why, status) }).ServeHTTP(w, r)
	return w.Result()
}

// enter opens the printed URL and returns the cookie.
func enter(t *testing.T, g *Guard) *http.Cookie {
	t.Helper()
	link := strings.TrimPrefix(g.URL(address), "http://"+address)
	response := request(g, http.MethodGet, link, address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"})
	if cookies := response.Cookies(); response.StatusCode == http.StatusOK && len(cookies) == 1 {
		return cookies[0]
	}
	t.Fatalf("the link is answered with %s and %v", response.Status, response.Cookies())
	return nil
}

func TestLinkWorksOnce(t *testing.T) {
	g := New("4711")
	link := strings.TrimPrefix(g.URL(address), "http://"+address)
	for name, header := range map[string]map[string]string{
		"image": {"Sec-Fetch-Dest": "image"}, "prefetch": {"Sec-Purpose": "prefetch"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := request(g, http.MethodGet, link, address, header); got.StatusCode != http.StatusForbidden {
				t.Errorf("the link is answered with %s", got.Status)
			}
		})
	}
	for name, wrong := range map[string]string{"no token": "/enter", "an empty token before": "/enter?token=", "another token": "/enter?token=A", "a longer token": link + "A"} {
		t.Run(name, func(t *testing.T) {
			if got := request(g, http.MethodGet, wrong, address, nil); got.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s is answered with %s", wrong, got.Status)
			}
		})
	}
	c := enter(t, g)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Name != "postback-console-4711" || len(c.Value) < 26 {
		t.Errorf("the cookie is %s", c)
	}
	if strings.Contains(link, c.Value) {
		t.Error("the cookie is what the link held")
	}
	for name, path := range map[string]string{"the link again": link, "an empty token": "/enter?token="} {
		t.Run(name, func(t *testing.T) {
			if got := request(g, http.MethodGet, path, address, nil); got.StatusCode != http.StatusUnauthorized || len(got.Cookies()) != 0 {
				t.Errorf("%s is answered with %s", path, got.Status)
			}
		})
	}
	// A browser with the session cookie may open the URL again.
	if got := request(g, http.MethodGet, link, address, map[string]string{"Cookie": c.Name + "=" + c.Value}); got.StatusCode != http.StatusOK {
		t.Errorf("opened by one who is in, the link is answered with %s", got.Status)
	}
}

func TestWhoMayAsk(t *testing.T) {
	g := New("4711")
	c := enter(t, g)
	cookie := c.Name + "=" + c.Value
	const own = "http://" + address
	for _, test := range []struct {
		name, method, host string
		header             map[string]string
		want               int
	}{
		{"own page", "GET", address, map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}, 204},
		{"typed in", "GET", address, map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "none"}, 204},
		{"localhost", "GET", "localhost:4711", map[string]string{"Cookie": cookie}, 204},
		{"IPv6", "GET", "[::1]:4711", map[string]string{"Cookie": cookie}, 204},
		{"own form", "POST", address, map[string]string{"Cookie": cookie, "Origin": own, "Sec-Fetch-Site": "same-origin"}, 204},
		{"no cookie", "GET", address, nil, 401},
		{"wrong cookie", "GET", address, map[string]string{"Cookie": c.Name + "=" + strings.Repeat("A", len(c.Value))}, 401},
		{"empty cookie", "GET", address, map[string]string{"Cookie": c.Name + "="}, 401},
		{"cookie of another console", "GET", address, map[string]string{"Cookie": "postback-console-4712=" + c.Value}, 401},
		{"DNS rebinding", "GET", "evil.example:4711", map[string]string{"Cookie": cookie}, 421},
		{"no port", "GET", "127.0.0.1", map[string]string{"Cookie": cookie}, 421},
		{"other port", "GET", "127.0.0.1:80", map[string]string{"Cookie": cookie}, 421},
		{"name below localhost", "GET", "a.localhost:4711", map[string]string{"Cookie": cookie}, 421},
		{"link elsewhere", "GET", address, map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}, 403},
		{"page on another port", "GET", address, map[string]string{"Cookie": cookie, "Sec-Fetch-Site": "same-site"}, 403},
		{"script elsewhere", "GET", address, map[string]string{"Cookie": cookie, "Origin": "http://evil.example"}, 403},
		{"form elsewhere", "POST", address, map[string]string{"Cookie": cookie, "Origin": "http://evil.example"}, 403},
		{"form on another port", "POST", address, map[string]string{"Cookie": cookie, "Origin": "http://127.0.0.1:8080"}, 403},
		{"form of a sandbox", "POST", address, map[string]string{"Cookie": cookie, "Origin": "null"}, 403},
		{"change without origin", "POST", address, map[string]string{"Cookie": cookie}, 403},
		{"deletion without origin", "DELETE", address, map[string]string{"Cookie": cookie}, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			response := request(g, test.method, "/", test.host, test.header)
			if response.StatusCode != test.want {
				t.Errorf("answered with %s, want %d", response.Status, test.want)
			}
			checkHeader(t, response.Header)
		})
	}
}

// checkHeader checks the headers that each response must have, including refusals.
func checkHeader(t *testing.T, header http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Frame-Options": "DENY",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// The whole policy is compared, because one more source could let in foreign scripts.
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if csp := header.Get("Content-Security-Policy"); csp != want {
		t.Errorf("the policy is %q, want %q", csp, want)
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:0": true, "[::1]:8080": true,
		"127.0.0.2:1": false, "0.0.0.0:80": false, ":80": false, "[::]:80": false, "localhost:80": false, "192.0.2.1:80": false, "127.0.0.1": false, "": false,
	} {
		t.Run(address, func(t *testing.T) {
			if err := Loopback(address); (err == nil) != want {
				t.Errorf("Loopback(%q) is %v", address, err)
			}
		})
	}
}
