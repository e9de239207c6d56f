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
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/portal"
)

// served is a portal served over HTTPS.
type served struct {
	t      *testing.T
	server *httptest.Server
}

// servePortal applies config/portal and serves a portal with the rights of its ServiceAccount.
func servePortal(t *testing.T, changes ...func(*portal.Options)) *served {
	t.Helper()
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-k", "../../config/portal"); err != nil {
		t.Fatal(err, stderr)
	}
	config, err := cp.ServiceAccountConfig(t.Context(), "postback-portal", "postback-portal")
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(strings.Repeat("k", 44)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	o := portal.Options{
		URL: "https://" + server.Listener.Addr().String(), Namespace: "postback-portal", Installation: "postback-system", SessionKeyFile: keys, PlainHTTP: true, Log: logr.Discard(),
	}
	for _, change := range changes {
		change(&o)
	}
	p, err := portal.New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p.Handler()
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return &served{t, server}
}

// link requests a link, as a platform's backend does.
func (s *served) link(token, namespace, role string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.server.URL+"/v1/namespaces/"+namespace+"/portal-links",
		strings.NewReader(fmt.Sprintf(`{"role": %q}`, role)))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.server.Client().Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var answer struct{ URL string }
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.URL == "" {
		s.t.Fatalf("a link is answered with %s: %s (%v)", response.Status, body, err)
	}
	return answer.URL
}

// visit opens a link in a separate browser profile.
func (s *served) visit(link string) *page {
	s.t.Helper()
	p := openProfile(s.t, s.server.URL)
	p.do(chromedp.Navigate(link))
	p.see("#enter", "Continue")
	return p
}

// openProfile returns a tab of a separate browser profile.
func openProfile(t *testing.T, base string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	return newPage(ctx, t, base)
}

// TestPortal uses the portal as a partner who has only a link, then as one who may only view.
func TestPortal(t *testing.T) {
	n := newTenant(t)
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", n.namespace, "-f", "../../config/samples/portal_partner.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	// This editor may read keys, too.
	if err := api.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: "editor-reads-keys"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "postback-portal-key-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: n.namespace, Name: portal.ServiceAccount("editor")}},
	}); err != nil {
		t.Fatal(err)
	}
	s := servePortal(t)
	token := n.as("postback-portal-link-requester").BearerToken

	link := s.link(token, n.namespace, "editor")
	p := s.visit(link)
	if here := p.eval(`location.href`); here != s.server.URL+"/signin" {
		t.Errorf("the address keeps the code: %s", here)
	}
	p.accessible("the page of a link")
	p.picture("portal-signin")
	p.click("#enter")
	p.wait(`document.querySelector('#live')?.dataset.state === 'live'`)
	p.see(".scope", n.namespace)
	p.accessible("the first visit")
	p.picture("portal-empty")
	p.size(390, 844)
	p.fits("the first visit on a phone")
	p.picture("portal-empty-phone")
	p.size(1440, 900)

	p.click(".title a[href='/new']")
	p.see("#dialog-title", "Add a Postback")
	p.fill("name", "crm")
	p.fill("url", n.endpoint.URL(hooks))
	p.fill("triggers", "lead.created")
	p.click("#dialog .primary")
	p.see("#dialog", "whsec_")
	p.picture("portal-key")
	p.click("#dialog a.primary")
	p.see(".title .badge", "Ready")
	n.post("evt_portal", "lead.created", `{"customer": {"id": "cus_1"}}`)
	n.wait("evt_portal", delivered)
	p.see("main", "evt_portal")
	p.picture("portal-log")
	p.accessible("the log of a partner")

	again := s.visit(link)
	again.click("#enter")
	again.see("#why", "used already")
	again.takeProblems() // The browser reports the response 401.

	viewer := s.visit(s.link(token, n.namespace, "viewer"))
	viewer.click("#enter")
	viewer.see("main", "crm")
	viewer.wait(`document.querySelector('main button[disabled]')?.title.includes('it requires the right to create postbacks in the namespace ` + n.namespace + `')`)
	viewer.open(n.path("crm"))
	viewer.wait(`[...document.querySelectorAll('main button[disabled]')].some((e) => e.title.includes('it requires the right to patch postbacks'))`)
	viewer.picture("portal-viewer")
	viewer.click("form[action='/signout'] button")
	viewer.see("main", "You are signed out")
	viewer.do(chromedp.Navigate(s.server.URL + "/"))
	viewer.see("main", "You are not signed in")
	viewer.picture("portal-ended")
	viewer.takeProblems()
}

// picture writes a screenshot in the folder $POSTBACK_PORTAL_PICTURES, for visual inspection.
func (p *page) picture(name string) {
	p.t.Helper()
	folder := os.Getenv("POSTBACK_PORTAL_PICTURES")
	if folder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), p.shot(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}
