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

package console

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// serve starts a console whose API server is unavailable. It returns the console's address, and a browser with the
// cookie.
func serve(t *testing.T) (base string, browser *http.Client) {
	t.Helper()
	c, err := Listen(t.Context(), ServerOptions{Options: Options{Config: &rest.Config{Host: "http://127.0.0.1:1"}, Namespace: "acme"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := c.server(); s.IdleTimeout <= 0 || s.ReadHeaderTimeout <= 0 || s.ReadTimeout != 0 {
		t.Errorf("connections end after %s, headers after %s, streams after %s", s.IdleTimeout, s.ReadHeaderTimeout, s.ReadTimeout)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve(t.Context()) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser = &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	if status, body, _ := get(t, browser, c.URL()); status != http.StatusOK {
		t.Fatalf("the link is answered with %d: %s", status, body)
	}
	return c.Address(), browser
}

func get(t *testing.T, browser *http.Client, url string) (status int, body string, header http.Header) {
	t.Helper()
	response, err := browser.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content), response.Header
}

func TestEveryPageIsGuarded(t *testing.T) {
	base, browser := serve(t)
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{
		"/", "/live", "/new", "/p/acme/crm", "/p/acme/crm/live", "/p/acme/crm/d/x", "/p/acme/crm/d/x/body", "/p/acme/crm/d/x/curl",
		"/p/acme/crm/do/delete", "/nothing",
	} {
		t.Run(path, func(t *testing.T) {
			status, body, header := get(t, stranger, base+path)
			if status != http.StatusUnauthorized || strings.Contains(body, "crm") {
				t.Errorf("a stranger gets %s with %d: %s", path, status, body)
			}
			if header.Get("Content-Security-Policy") == "" || header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s comes with %v", path, header)
			}
		})
	}
	response, err := browser.Post(base+"/new", "application/x-www-form-urlencoded", strings.NewReader("name=x"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a change without origin is answered with %s", response.Status)
	}
}

func TestWithoutAPIServer(t *testing.T) {
	base, browser := serve(t)
	gomega.NewWithT(t).Eventually(func() string {
		status, body, _ := get(t, browser, base+"/?q=%3Cscript%3E")
		if status != http.StatusOK || strings.Contains(body, "<script>") {
			t.Fatalf("the list comes with %d: %s", status, body)
		}
		return body
	}).WithTimeout(time.Minute).Should(gomega.ContainSubstring("The API server does not answer."))
	if status, body, _ := get(t, browser, base+"/p/acme/crm"); status != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer") {
		t.Errorf("a Postback comes with %d: %s", status, body)
	}
	if _, body, _ := get(t, browser, base+"/?q=a%26b%23c"); !strings.Contains(body, `data-live="/live?q=a%26b%23c"`) {
		t.Errorf("the stream of the list does not search for what the list does: %s", body)
	}
	for _, file := range []string{"console.css", "console.js", "icon.svg"} {
		t.Run(file, func(t *testing.T) {
			if status, body, _ := get(t, http.DefaultClient, base+"/static/"+file); status != http.StatusOK || body == "" {
				t.Errorf("%s comes with %d", file, status)
			}
		})
	}
	for name, path := range map[string]string{"the folder": "/static/", "the folder without a slash": "/static", "a missing file": "/static/none.css"} {
		t.Run(name, func(t *testing.T) {
			if status, body, _ := get(t, browser, base+path); status != http.StatusNotFound || strings.Contains(body, "dialog.js") {
				t.Errorf("%s comes with %d: %s", path, status, body)
			}
		})
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			if _, err := Listen(t.Context(), ServerOptions{Options: Options{Config: &rest.Config{Host: "http://127.0.0.1:1"}}, Address: address}); err == nil {
				t.Errorf("it listens on %s", address)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for reason, want := range map[string]string{
		"Routed": "Routed", "SecretNotFound": "Secret not found", "InvalidURL": "Invalid URL", "PlainHTTPNotAllowed": "Plain HTTP not allowed",
		"Rejected4xx": "Rejected 4xx", "TLSFailed": "TLS failed", "": "",
	} {
		t.Run(reason, func(t *testing.T) {
			if got := words(reason); got != want {
				t.Errorf("words(%q) is %q, want %q", reason, got, want)
			}
		})
	}
}

func TestFormKeepsASpec(t *testing.T) {
	spec := &v1alpha1.PostbackSpec{
		URL: "https://example.com", Triggers: []v1alpha1.Trigger{"lead.created", "sale.*"}, Signatures: []v1alpha1.SignatureScheme{"Dub"},
		Headers: []v1alpha1.Header{{Name: "X-Token", ValueFrom: &v1alpha1.HeaderSource{SecretKeyRef: &v1alpha1.SecretKeySelector{Name: "s", Key: "k"}}}},
	}
	values := valuesOf(spec)
	if values["triggers"] != "lead.created sale.*" || values["headers"] != "X-Token: secret s key k" || values["signatures"] != "Dub" {
		t.Errorf("the form shows %v", values)
	}
	d := &dialog{P: &v1alpha1.Postback{Spec: *spec}, Form: map[string][]string{}}
	d.fields(values)
	if patch, err := d.changes(values); err != nil || len(patch) != 0 {
		t.Errorf("saving what is shown changes %v (%v)", patch, err)
	}
	d = &dialog{P: d.P, Form: map[string][]string{"triggers": {"lead.created,\n*"}, "retry.maxAttempts": {"x"}}}
	d.fields(values)
	if _, err := d.changes(values); err == nil || d.Errors["retry.maxAttempts"] == "" {
		t.Errorf("a number that is none is taken: %v", d.Errors)
	}
}
