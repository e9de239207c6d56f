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

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/issuer"
)

// TestChooseNamespace: a visitor enters the namespaces in which they may list Postbacks, and no other.
func TestChooseNamespace(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme, beta := partner(t, "choose-acme"), partner(t, "choose-beta")
	subject := member(t, "editor", acme, acme, beta, "kube-system", "Not A Name")
	b := newBrowser()
	if got := b.signIn(r, subject, ""); !strings.Contains(got.body, `data-go="/namespaces"`) {
		t.Fatalf("with several namespaces, a sign-in is answered with %s: %s", got.Status, got.body)
	}
	if got := b.ask(r, http.MethodGet, "/", ""); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != namespacesPath {
		t.Errorf("without a namespace, the list is answered with %s", got.Status)
	}
	if got := b.ask(r, http.MethodGet, "/live", "", "X-Fragment", "main"); got.Header.Get("X-Go") != namespacesPath {
		t.Errorf("without a namespace, a script gets %s", got.Status)
	}
	page := b.ask(r, http.MethodGet, namespacesPath, "")
	if !strings.Contains(page.body, `value="choose-acme"`) || strings.Contains(page.body, beta) || strings.Contains(page.body, "kube-system") {
		t.Errorf("the page offers %s", page.body)
	}
	for name, test := range map[string]struct {
		namespace, text string
		status          int
	}{
		"of another partner": {beta, "oidc:member-choose-acme may not see the Postbacks of choose-beta", http.StatusForbidden},
		"that is not there":  {"choose-none", "oidc:member-choose-acme may not see the Postbacks of choose-none", http.StatusForbidden},
		"no name":            {"../" + acme, "at most 63 lower-case letters", http.StatusUnprocessableEntity},
		"empty":              {"", "at most 63 lower-case letters", http.StatusUnprocessableEntity},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.post(r, namespacesPath, "namespace="+test.namespace)
			if got.StatusCode != test.status || !strings.Contains(got.body, test.text) || b.session(r).Namespace != "" {
				t.Errorf("answered with %s: %s", got.Status, got.body)
			}
		})
	}
	if got := b.post(r, namespacesPath, "namespace="+acme); got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/" {
		t.Fatalf("the own namespace is answered with %s: %s", got.Status, got.body)
	}
	r.get("/", b.header(), "choose-acme.example.com")
	r.get("/", b.header(), `href="/namespaces"`)
	// A page of another namespace, which is still open in another tab, must not change this one.
	stale := b.ask(r, http.MethodPost, "/new", "name=stale&url=https://x.example&triggers=*", "Origin", ownOrigin, "X-Namespace", beta, "X-Fragment", "dialog")
	if stale.StatusCode != http.StatusConflict || stale.Header.Get("X-Session") != "ended" {
		t.Errorf("a form of another namespace is answered with %s: %s", stale.Status, stale.body)
	}
	all := &v1alpha1.PostbackList{}
	if err := api.List(t.Context(), all, client.InNamespace(acme)); err != nil || len(all.Items) != 1 {
		t.Errorf("there are %d Postbacks (%v)", len(all.Items), err)
	}
}

// TestNamespaceOfTheAddress: the address of a sign-in names a namespace, which only a right opens.
func TestNamespaceOfTheAddress(t *testing.T) {
	r := startWithIssuer(t, func(o *openid.Options) { o.NamespaceClaim = "" })
	acme, beta := partner(t, "wish-acme"), partner(t, "wish-beta")
	subject := member(t, "viewer", acme)
	if got := newBrowser().ask(r, http.MethodGet, signInPath+"?namespace="+acme, ""); !strings.Contains(got.body, `href="/signin/start?namespace=wish-acme"`) {
		t.Errorf("the page of sign-ins is %s", got.body)
	}
	for name, test := range map[string]struct{ query, to, namespace string }{
		"the own":                  {"?namespace=" + acme, "/", acme},
		"the own, with a page":     {"?namespace=" + acme + "&to=%2Fp%2Fwish-acme%2Fcrm%3Fq%3Dx", "/p/wish-acme/crm?q=x", acme},
		"another":                  {"?namespace=" + beta, namespacesPath, ""},
		"none":                     {"", namespacesPath, ""},
		"none, for another tab":    {"?to=/signin/done", donePath, ""},
		"another site":             {"?namespace=" + acme + "&to=https%3A%2F%2Fevil.example", "/", acme},
		"another site, in another": {"?namespace=" + acme + "&to=%2F%2Fevil.example", "/", acme},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser()
			got := b.signIn(r, subject, test.query)
			if !strings.Contains(got.body, `data-go="`+test.to+`"`) || b.session(r).Namespace != test.namespace {
				t.Errorf("it leads into %q: %s", b.session(r).Namespace, got.body)
			}
		})
	}
}

func TestLocalPath(t *testing.T) {
	for text, want := range map[string]string{
		"/": "/", "/p/acme/crm?q=a%20b": "/p/acme/crm?q=a%20b", "/signin/done": "/signin/done",
		"": "/", "x": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example": "/", "javascript:alert(1)": "/", "/a#b": "/", "/a\r\nSet-Cookie: x": "/",
		"/\tevil": "/", "/%2f%2fevil.example": "/%2f%2fevil.example", "/signin/start": "/", "/signin": "/", "/signout": "/", "/" + strings.Repeat("a", maxCode): "/", "/ü": "/",
	} {
		t.Run(text, func(t *testing.T) {
			if got := localPath(text); got != want {
				t.Errorf("%q becomes %q", text, got)
			}
		})
	}
}

// TestLongTokens: a session of more than one cookie works, and one of more than two is refused in words.
func TestLongTokens(t *testing.T) {
	r := startWithIssuer(t, nil)
	acme := partner(t, "long-acme")
	subject := member(t, "viewer", acme, acme)
	groups := func(n int) {
		login.Set(func(s *issuer.Settings) {
			s.Change = func(c map[string]any) { c["groups"] = []string{strings.Repeat("g", n)} }
		})
	}
	groups(3000)
	b := newBrowser()
	b.enters(r, subject, "long-acme.example.com")
	if len(b.cookies) != 3 || b.cookies[restName] == "" {
		t.Fatalf("there are %d cookies", len(b.cookies))
	}
	both := b.cookies[restName]
	for name, change := range map[string]func(){
		"without the second": func() { delete(b.cookies, restName) }, "with another second": func() { b.cookies[restName] = "x" + both },
	} {
		t.Run(name, func(t *testing.T) {
			change()
			if got := b.ask(r, http.MethodGet, "/", ""); got.StatusCode != http.StatusUnauthorized {
				t.Errorf("answered with %s", got.Status)
			}
		})
	}
	b.cookies[restName] = both
	groups(1)
	if b.enters(r, subject, "long-acme.example.com"); b.cookies[restName] != "" {
		t.Error("the second cookie stays without need")
	}
	groups(6000)
	other := newBrowser()
	if got := other.signIn(r, subject, ""); got.StatusCode != http.StatusInternalServerError || !strings.Contains(got.body, "too long for the portal") || len(other.cookies) > 0 {
		t.Errorf("a token of 6 KB is answered with %s: %s", got.Status, got.body)
	}
}
