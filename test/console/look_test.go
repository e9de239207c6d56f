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
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/postback-dev/postback-operator/portal"
)

// acme is the look of a platform.
var acme = map[string]string{
	"name": "Acme Affiliates", "link": "https://acme.example/partners", "link-text": "Back to your account",
	"light.accent": "#0a6b4f", "light.background": "#f3f7f4", "dark.background": "#0d1512", "dark.surface": "#14201b", "dark.text": "#e8f0ec",
	"logo.svg": `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 28"><style>rect{fill:#0a6b4f}</style>` +
		`<rect width="28" height="28" rx="6"/><path d="M8 20 14 7l6 13" stroke="#fff" stroke-width="3" fill="none"/><circle cx="45" cy="14" r="10" fill="#f2a900"/></svg>`,
}

// zone sets the time zone of the browser.
func (p *page) zone(name string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
		return err
	}))
}

// TestLookOfAPlatform checks the pages in a platform's colours, in every size and scheme.
func TestLookOfAPlatform(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", n.namespace, "-f", "../../config/samples/portal_partner.yaml"); err != nil {
		t.Fatal(err, stderr)
	}
	dir := t.TempDir()
	for name, content := range acme {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := servePortal(t, func(o *portal.Options) { o.LookDir = dir })
	p := s.visit(s.link(n.as("postback-portal-link-requester").BearerToken, n.namespace, "editor"))
	p.see("h1", "Acme Affiliates")
	p.wait(`document.querySelector('img.logo').naturalWidth > 0`)
	p.accessible("the sign-in")
	p.picture("look-signin")
	p.click("#enter")
	p.see(".brand", "Acme Affiliates")
	if to := p.eval(`document.querySelector('.top .platform').href`); to != "https://acme.example/partners" {
		t.Errorf("the link back leads to %v", to)
	}
	n.post("evt_look", "lead.created", `{"customer": {"id": "cus_1"}}`)
	n.wait("evt_look", delivered)
	p.zone("Asia/Kathmandu")
	p.open(n.path("crm"))
	p.click(".row > a")
	p.wait(`document.querySelector('#sheet time[data-when]')?.textContent === new Intl.DateTimeFormat('en-US', {timeZone: 'Asia/Kathmandu', month: 'short', day: 'numeric', ` +
		`hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'}).format(new Date(document.querySelector('#sheet time[data-when]').dateTime))`)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for _, width := range []int64{390, 1440, 1920} {
			p.size(width, 900)
			for name, path := range map[string]string{"list": "/", "log": n.path("crm")} {
				p.open(path)
				p.see("main", "crm")
				what := fmt.Sprintf("look-%s-%s-%d", name, scheme, width)
				p.fits(what)
				p.whole(what, ".top .brand, .top .platform, .top button")
				p.accessible(what)
				p.picture(what)
			}
		}
		p.open(n.path("crm"))
		p.click("a[href$='/do/edit']")
		p.see("#dialog-title", "Edit crm")
		p.accessible("the form in the " + scheme + " look")
		p.do(chromedp.Navigate(s.server.URL + "/none"))
		p.see("main", "There is no such page")
		p.accessible("a refusal in the " + scheme + " look")
		p.picture("look-refused-" + scheme)
		p.takeProblems() // The browser reports the response 404.
	}
}
