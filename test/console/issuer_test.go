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
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	protocol "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	"github.com/postback-dev/postback-operator/portal"
	"github.com/postback-dev/postback-operator/portal/openid"
	"github.com/postback-dev/postback-operator/test/issuer"
)

// clientID is the client that the API server trusts.
const clientID = "postback"

// provided is a portal that runs like the program, with an issuer of another site.
type provided struct {
	t     *testing.T
	url   string
	clock *aheadClock
}

// aheadClock is the system clock, ahead by some time.
type aheadClock struct{ by atomic.Int64 }

// Now implements clock.PassiveClock.
func (c *aheadClock) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// Since implements clock.PassiveClock.
func (c *aheadClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// later moves the clocks of the portal and the issuer.
func (s *provided) later(by time.Duration) { s.clock.by.Add(int64(by)) }

// runPortal runs a portal whose visitors may sign in at the issuer.
func runPortal(t *testing.T) *provided {
	t.Helper()
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-k", "../../config/portal"); err != nil {
		t.Fatal(err, stderr)
	}
	config, err := cp.ServiceAccountConfig(t.Context(), "postback-portal", "postback-portal")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &provided{t: t, url: "https://" + listener.Addr().String(), clock: &aheadClock{}}
	login.Reset()
	login.Set(func(settings *issuer.Settings) { settings.Now = s.clock.Now })
	login.Register(issuer.Client{ID: clientID, Redirects: []string{s.url + "/signin/callback"}, Home: s.url + "/signin"})
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	for name, content := range map[string]string{"keys": strings.Repeat("k", 44), "tls.crt": string(certificate), "tls.key": string(key), "ca.crt": login.CA} {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := portal.New(config, portal.Options{
		URL: s.url, Namespace: "postback-portal", Installation: "postback-system", SessionKeyFile: file("keys"), CertFile: file("tls.crt"), KeyFile: file("tls.key"),
		OpenID: openid.Options{Issuer: login.URL, ClientID: clientID, CAFile: file("ca.crt"), Scopes: "groups,offline_access", NamespaceClaim: "namespaces"},
		Clock:  s.clock, Log: logr.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

// visit opens an address in a separate browser profile.
func (s *provided) visit(address string) *page {
	s.t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	s.t.Cleanup(cancel)
	p := newPage(ctx, s.t, s.url)
	p.trust()
	p.do(chromedp.Navigate(address))
	return p
}

// trust accepts the certificates of the test.
func (p *page) trust() {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		return err
	}))
}

// history returns the addresses of the tab.
func (p *page) history() string {
	p.t.Helper()
	var all []string
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		got, err := cdp.Call(ctx, t, protocol.GetNavigationHistory, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, entry := range got.Entries {
			all = append(all, entry.URL)
		}
		return nil
	}))
	return strings.Join(all, "\n")
}

// live waits for the live updates of a page.
func (p *page) live() {
	p.t.Helper()
	p.wait(`document.querySelector('#live')?.dataset.state === 'live'`)
}

// TestPortalWithAnIssuer uses the portal as a partner with an account: sign-in, a session that expires while they type,
// renewal, the end of the session at the issuer, sign-out.
func TestPortalWithAnIssuer(t *testing.T) {
	n := newTenant(t)
	s := runPortal(t)
	login.Add(issuer.User{Subject: "ada", Claims: map[string]any{"groups": []string{"acme"}, "namespaces": n.namespace}})
	for _, role := range []string{"editor", "key-reader"} {
		if err := api.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: "acme-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "postback-portal-" + role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "oidc:acme"}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	p := s.visit(s.url + "/")
	p.see("main", "You are not signed in")
	p.takeProblems() // The browser reports the response 401.
	p.accessible("the page without a session")
	p.picture("portal-issuer-signin")
	p.click("main a.primary")
	p.see("h1", "Issuer")
	p.click("#ada")
	p.live()
	p.see(".scope", n.namespace)
	if here, past := p.eval(`location.href`), p.history(); here != s.url+"/" || strings.Contains(past, "code=") {
		t.Errorf("the address is %s, and the history is\n%s", here, past)
	}
	if cookies := p.eval(`document.cookie`); cookies != "__Host-postback-fresh=1" {
		t.Errorf("a script reads the cookies %s", cookies)
	}

	// The token expires while the visitor types, and nobody notices.
	p.click(".title a[href='/new']")
	p.fill("name", "crm")
	p.fill("url", n.endpoint.URL(hooks))
	p.fill("triggers", "lead.created")
	s.later(61 * time.Minute)
	p.click("#dialog .primary")
	p.see("#dialog", "whsec_")
	p.click("#dialog a.primary")
	p.see(".title .badge", "Ready")
	p.takeProblems()
	if counts := login.Counts(); counts.Renewals != 1 {
		t.Errorf("there are %+v", counts)
	}
	n.post("evt_issuer", "lead.created", `{"customer": {"id": "cus_1"}}`)
	p.see("main", "evt_issuer")

	// A page that is opened later renews the session before it shows anything.
	s.later(61 * time.Minute)
	p.do(chromedp.Navigate(s.url + n.path("crm")))
	p.live()
	p.see("main", "evt_issuer")
	p.takeProblems()

	// The issuer ends the session. The form stays, and is sent after another sign-in.
	p.menu("delete")
	p.do(chromedp.KeyEvent("x"))
	p.fill("name", "crm")
	login.EndSessions()
	s.later(61 * time.Minute)
	p.click("#dialog .danger")
	p.see("#dialog [data-ended]", "What you typed stays here")
	if typed := p.eval(`document.querySelector('#dialog [name=name]').value`); typed != "crm" {
		t.Errorf("%q is left of what was typed", typed)
	}
	p.takeProblems()
	p.accessible("a form whose session ended")
	p.picture("portal-issuer-ended")
	other := p.tab()
	other.trust()
	link, _ := p.eval(`document.querySelector('#dialog [data-ended] a').href`).(string)
	other.do(chromedp.Navigate(s.url + "/signin"))
	other.do(chromedp.Evaluate[chromedp.Void](`location.assign("` + link + `")`))
	other.see("h1", "Issuer")
	other.click("#ada")
	other.see("main", "Close this tab")
	other.accessible("the page at the end of a sign-in")
	// The server may have to read the objects for the new session first.
	p.wait(`location.pathname === '/' || (document.querySelector('#dialog .danger:enabled')?.click(), false)`)
	p.wait(`location.pathname === '/' && !document.querySelector('main').innerText.includes('evt_issuer')`)
	p.live()
	p.takeProblems()

	// After the sign-out, the way back shows nothing.
	p.click("a.scope-namespace")
	p.see("main", "Choose a namespace")
	p.accessible("the page of namespaces")
	p.picture("portal-namespaces")
	p.size(390, 844)
	p.fits("the page of namespaces on a phone")
	p.size(1440, 900)
	p.click(".offered button")
	p.live()
	p.click("header form[action='/signout'] button")
	p.see("main", "You are signed out")
	p.accessible("the page of a sign-out")
	p.picture("portal-issuer-signout")
	if strings.Contains(p.history(), "id_token") {
		t.Errorf("the history has a token:\n%s", p.history())
	}
	p.eval(`(history.back(), 1)`)
	p.see("main", "You are not signed in")
	p.takeProblems()
	p.do(chromedp.Navigate(s.url + "/signout"))
	p.see("main", "You are not signed in")
	p.takeProblems()
}

// TestPortalKeepsWhatIsTyped: a session by link that ends leaves the form, and another link continues it.
func TestPortalKeepsWhatIsTyped(t *testing.T) {
	n := newTenant(t)
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", n.namespace, "-f", "../../config/samples/portal_partner.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	s := servePortal(t)
	token := n.as("postback-portal-link-requester").BearerToken
	p := s.visit(s.link(token, n.namespace, "editor"))
	p.click("#enter")
	p.live()
	p.click(".title a[href='/new']")
	p.fill("name", "typed")
	p.fill("url", n.endpoint.URL(hooks))
	p.fill("triggers", "*")
	// The browser forgets the session as at its end.
	p.do(chromedp.Evaluate[chromedp.Void](`fetch('/signout', {method: 'POST'}).then(() => {})`, chromedp.EvalAwaitPromise))
	p.click("#dialog .primary")
	p.see("#dialog [data-ended]", "Open a new link from where you got the last one, in another tab")
	p.takeProblems()
	p.accessible("a form whose session by link ended")
	other := p.tab()
	other.trust()
	other.do(chromedp.Navigate(s.link(token, n.namespace, "editor")))
	other.click("#enter")
	other.live()
	p.click("#dialog .primary")
	p.see("#dialog a.primary", "")
	p.takeProblems()
	other.open("/")
	other.see("main", "typed")
}
