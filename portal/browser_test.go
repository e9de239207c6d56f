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
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/issuer"
)

const clientSecret = "the-secret-of-the-portal"

// startWithIssuer starts a replica with the issuer that the API server trusts. The clocks of both move together.
func startWithIssuer(t *testing.T, change func(*openid.Options)) *replica {
	t.Helper()
	login.Reset()
	login.Register(issuer.Client{ID: clientID, Secret: clientSecret, Redirects: []string{ownOrigin + callbackPath}, Home: ownOrigin + signInPath})
	o := openid.Options{
		Issuer: login.URL, ClientID: clientID, SecretFile: filepath.Join(t.TempDir(), "secret"), CAFile: filepath.Join(t.TempDir(), "ca.crt"),
		Scopes: "groups,offline_access", NamespaceClaim: "namespaces",
	}
	for file, content := range map[string]string{o.SecretFile: clientSecret + "\n", o.CAFile: login.CA} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&o)
	}
	r := startWith(t, keys, o)
	login.Set(func(s *issuer.Settings) { s.Now = r.clock.Now })
	r.discover()
	return r
}

// discover discovers the issuer, as Serve does in the background.
func (r *replica) discover() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	r.portal.door.openid.Run(ctx)
}

// member adds a user of the issuer, with a role in a namespace, whose claim offers namespaces.
func member(t *testing.T, role, namespace string, offered ...string) string {
	t.Helper()
	subject := "member-" + namespace
	login.Add(issuer.User{Subject: subject, Claims: map[string]any{"namespaces": offered, "groups": []string{"partners"}}})
	if err := api.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: subject},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "postback-portal-" + role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "oidc:" + subject}},
	}); err != nil {
		t.Fatal(err)
	}
	return subject
}

// browser keeps the cookies of one replica or several.
type browser struct {
	cookies map[string]string
}

func newBrowser() *browser { return &browser{cookies: map[string]string{}} }

func (b *browser) header() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(b.cookies)) {
		all = append(all, name+"="+b.cookies[name])
	}
	return strings.Join(all, "; ")
}

// ask sends a request with the cookies, and keeps those of the answer.
func (b *browser) ask(r *replica, method, path, body string, headers ...string) answered {
	r.t.Helper()
	got := r.ask(method, path, body, append([]string{"Cookie", b.header()}, headers...)...)
	for _, c := range got.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return got
}

func (b *browser) post(r *replica, path, body string) answered {
	r.t.Helper()
	return b.ask(r, http.MethodPost, path, body, "Origin", ownOrigin)
}

// begin starts a sign-in, and returns the address at the issuer.
func (b *browser) begin(r *replica, query string) string {
	r.t.Helper()
	got := b.ask(r, http.MethodGet, startPath+query, "")
	to := got.Header.Get("Location")
	if got.StatusCode != http.StatusFound || !strings.HasPrefix(to, login.URL+"/authorize?") {
		r.t.Fatalf("a sign-in starts with %s to %q: %s", got.Status, to, got.body)
	}
	return to
}

// approve signs a user in at the issuer, and returns the path and query that the issuer leads back to.
func (r *replica) approve(address, subject string) string {
	r.t.Helper()
	back, err := login.SignIn(address, subject)
	if err != nil {
		r.t.Fatal(err)
	}
	path, found := strings.CutPrefix(back, ownOrigin)
	if !found || !strings.HasPrefix(path, callbackPath+"?") {
		r.t.Fatalf("the issuer leads back to %q", back)
	}
	return path
}

// crossSite are the headers of a page that another site leads to.
var crossSite = []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}

// signIn signs a user in, from the start to the page.
func (b *browser) signIn(r *replica, subject, query string) answered {
	r.t.Helper()
	return b.ask(r, http.MethodGet, r.approve(b.begin(r, query), subject), "", crossSite...)
}

// enters signs a user in, and waits until the page shows a text.
func (b *browser) enters(r *replica, subject, text string) {
	r.t.Helper()
	if got := b.signIn(r, subject, ""); got.StatusCode != http.StatusOK || !strings.Contains(got.body, `data-go="/"`) {
		r.t.Fatalf("a sign-in is answered with %s: %s", got.Status, got.body)
	}
	r.get("/", b.header(), text)
}

// session returns the session in the cookies.
func (b *browser) session(r *replica) session {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, ownOrigin, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Cookie", b.header())
	s, ok := r.portal.door.kept(request)
	if !ok {
		r.t.Fatal("the browser has no session")
	}
	return s
}

// later moves the clocks of the replica and the issuer.
func (r *replica) later(by time.Duration) { r.clock.SetTime(r.clock.Now().Add(by)) }

// query returns a parameter of an address.
func query(t *testing.T, address, name string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Query().Get(name)
}

// with returns an address with another value of a parameter, or without it if the value is "".
func with(t *testing.T, address, name, value string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	all := parsed.Query()
	if all.Set(name, value); value == "" {
		all.Del(name)
	}
	parsed.RawQuery = all.Encode()
	return parsed.String()
}
