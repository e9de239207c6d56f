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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	logo  = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><script>alert(1)</script><path d="M0 0h10v10z"/></svg>`
	shop  = "https://shop.example.com"
	admin = "https://admin.example.com:8443"
)

// startShown starts a replica whose look is in a folder, and which pages of the origins may embed.
func startShown(t *testing.T, dir string, origins ...string) *replica {
	t.Helper()
	r := start(t, keys)
	clients, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := newLooks(Options{LookDir: dir, Namespace: "postback-portal", Log: r.portal.options.Log}, origins, clients)
	if err != nil {
		t.Fatal(err)
	}
	r.portal.door.looks, r.portal.door.origins = shown, origins
	return r
}

// mount puts files into a folder, as the kubelet does with a ConfigMap: all at once, by a link.
func mount(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	content := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(content, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := filepath.Join(dir, "..data")
	if err := os.Symlink(content, link+"_tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+"_tmp", link); err != nil {
		t.Fatal(err)
	}
}

// TestLookOfAPlatform changes the look of a portal that runs. A look that cannot be used leaves the last one.
func TestLookOfAPlatform(t *testing.T) {
	dir := t.TempDir()
	r := startShown(t, dir)
	shown := r.portal.door.looks
	signIn := func() string { t.Helper(); return r.ask(http.MethodGet, signInPath, "").body }
	shown.read(t.Context())
	if page := signIn(); !strings.Contains(page, "Sign in · Postback") || strings.Contains(page, "/look/") {
		t.Errorf("without files the page is\n%s", page)
	}

	mount(t, dir, map[string]string{"name": "Acme <Partners>", "link": "https://acme.example/?a=1&b=2", "logo.svg": logo, "light.accent": "#0b5cad"})
	shown.read(t.Context())
	page := signIn()
	for _, want := range []string{"Sign in · Acme &lt;Partners&gt;", `href="https://acme.example/?a=1&amp;b=2"`, "Back to Acme &lt;Partners&gt;", `src="/look/logo?v=`, `href="/look/style.css?v=`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if found := inline.FindString(page); found != "" {
		t.Errorf("the page holds %q", found)
	}

	mount(t, dir, map[string]string{"name": "Acme", "light.accent": "#ffd400", "link": "javascript:alert(1)"})
	shown.read(t.Context())
	shown.read(t.Context())
	if got := signIn(); got != page {
		t.Errorf("a look that cannot be used changes the page:\n%s", got)
	}
	log := r.log.String()
	for _, want := range []string{"light.accent is #ffd400", "choose a darker colour", "link:"} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log has %q %d times:\n%s", want, strings.Count(log, want), log)
		}
	}
	var events eventsv1.EventList
	if err := api.List(t.Context(), &events, client.InNamespace("postback-portal")); err != nil {
		t.Fatal(err)
	}
	refused := slices.IndexFunc(events.Items, func(e eventsv1.Event) bool {
		return e.Reason == "LookRefused" && e.Regarding.Kind == "ConfigMap" && e.Regarding.Name == LookName && strings.Contains(e.Note, "light.accent is #ffd400")
	})
	if refused < 0 || len(events.Items) != 1 {
		t.Errorf("the Events are %v", events.Items)
	}

	mount(t, dir, map[string]string{"name": "Acme"})
	shown.read(t.Context())
	if page := signIn(); !strings.Contains(page, "Sign in · Acme<") || strings.Contains(page, "/look/style.css") {
		t.Errorf("after the repair the page is\n%s", page)
	}
}

// TestFilesOfTheLook: everybody may read them, and a logo runs no script.
func TestFilesOfTheLook(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, map[string]string{"logo.svg": logo, "light.accent": "#0b5cad"})
	r := startShown(t, dir)
	r.portal.door.looks.read(t.Context())
	version := "?v=" + r.portal.door.looks.version
	for _, test := range []struct {
		name, path, kind, cached string
		status                   int
	}{
		{"the colours", "/look/style.css" + version, "text/css; charset=utf-8", "public, max-age=86400", 200},
		{"the logo", "/look/logo" + version, "image/svg+xml", "public, max-age=86400", 200},
		{"the logo of another version", "/look/logo?v=old", "image/svg+xml", "no-store", 200},
		{"a logo that is not there", "/look/logo-dark" + version, "text/html; charset=utf-8", "no-store", 404},
		{"another file", "/look/../..data/name", "text/html; charset=utf-8", "no-store", 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.ask(http.MethodGet, test.path, "")
			if got.StatusCode != test.status || got.Header.Get("Content-Type") != test.kind || got.Header.Get("Cache-Control") != test.cached || got.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("answered with %s %v", got.Status, got.Header)
			}
			if policy := got.Header.Get("Content-Security-Policy"); test.kind == "image/svg+xml" && policy != "default-src 'none'; sandbox; frame-ancestors 'none'" {
				t.Errorf("the policy of the logo is %q", policy)
			}
		})
	}
}

// TestFramesOfNamedOrigins: only pages of the named origins embed the portal, and only then the cookie works in frames.
func TestFramesOfNamedOrigins(t *testing.T) {
	acme := partner(t, "frames-acme")
	token := backend(t, acme)
	for name, test := range map[string]struct {
		origins           []string
		ancestors, option string
		sameSite          http.SameSite
		partitioned       bool
		meta              bool
	}{
		"without origins": {nil, "frame-ancestors 'none'", "DENY", http.SameSiteStrictMode, false, false},
		"with origins":    {[]string{shop, admin}, "frame-ancestors " + shop + " " + admin, "", http.SameSiteNoneMode, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := startShown(t, "", test.origins...)
			got := r.open(r.link(token, acme, "viewer"))
			c := got.Cookies()[0]
			if c.SameSite != test.sameSite || c.Partitioned != test.partitioned || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" {
				t.Errorf("the cookie is %v", c)
			}
			page := r.ask(http.MethodGet, "/", "", "Cookie", c.Name+"="+c.Value)
			policy := page.Header.Get("Content-Security-Policy")
			if page.StatusCode != http.StatusOK || !strings.HasSuffix(policy, "; "+test.ancestors) || page.Header.Get("X-Frame-Options") != test.option {
				t.Errorf("answered with %s %v", page.Status, page.Header)
			}
			if strings.Contains(page.body, "embed.js") != test.meta || strings.Contains(page.body, `content="`+shop+" "+admin+`"`) != test.meta {
				t.Errorf("the page is\n%s", page.body)
			}
			// A cookie that other sites may send opens nothing for them.
			for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "iframe"}, {"Origin", shop}} {
				if got := r.ask(http.MethodGet, "/", "", append(headers, "Cookie", c.Name+"="+c.Value)...); got.StatusCode != http.StatusForbidden {
					t.Errorf("a request with %v is answered with %s", headers, got.Status)
				}
			}
			if got := r.ask(http.MethodPost, "/new", "name=x", "Cookie", c.Name+"="+c.Value, "Origin", shop); got.StatusCode != http.StatusForbidden {
				t.Errorf("a form of the page around the frame is answered with %s", got.Status)
			}
		})
	}
}

func TestOriginsOfFrames(t *testing.T) {
	if got, err := parseOrigins(" " + shop + ", " + admin + ","); err != nil || !slices.Equal(got, []string{shop, admin}) {
		t.Errorf("parsed are %q, %v", got, err)
	}
	for _, bad := range []string{"*", "http://shop.example.com", shop + "/", shop + "/path", "https://*.example.com", "shop.example.com", "https://a;script-src *", "https://a'", "https://user@shop.example.com", strings.Repeat(shop+",", 21)} {
		t.Run(bad, func(t *testing.T) {
			if got, err := parseOrigins(bad); err == nil || !strings.Contains(err.Error(), "--embed-origins") {
				t.Errorf("parsed are %q, %v", got, err)
			}
		})
	}
}
