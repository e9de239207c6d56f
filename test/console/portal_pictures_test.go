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
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
)

// portalSizes are the widths and heights of the pictures: a desktop and a phone.
var portalSizes = map[string][2]int64{"": {1280, 800}, "-phone": {390, 844}}

// TestPortalPictures visits each page of the portal, in light and dark, on a desktop and a phone. It checks that the
// page fits, and keeps a picture in the folder $POSTBACK_PICTURES ("make pictures").
func TestPortalPictures(t *testing.T) {
	n, empty := newTenant(t), newTenant(t)
	for i := range partners {
		n.partner(&partners[i])
	}
	for _, tenant := range []*tenant{n, empty} {
		if _, stderr, err := cp.Kubectl(t.Context(), "", "apply", "-n", tenant.namespace, "-f", "../../config/samples/portal_partner.yaml"); err != nil {
			t.Fatal(err, stderr)
		}
	}
	s := servePortal(t)
	enter := func(of *tenant, role string) *page {
		p := s.visit(s.link(of.as("postback-portal-link-requester").BearerToken, of.namespace, role))
		p.click("#enter")
		p.see(".scope", of.namespace)
		return p
	}
	editor, viewer, newcomer := enter(n, "editor"), enter(n, "viewer"), enter(empty, "editor")
	for _, scheme := range []string{"light", "dark"} {
		for suffix, size := range portalSizes {
			keep := func(p *page, name string) {
				p.fits(fmt.Sprintf("%s, %s, %d pixels", name, scheme, size[0]))
				what := "portal-" + name + suffix
				if scheme == "dark" {
					what += "-dark"
				}
				p.keep(what)
			}
			for _, p := range []*page{editor, viewer, newcomer} {
				p.scheme(scheme)
				p.size(size[0], size[1])
			}
			editor.tour(n.path("crm"), func(name string) { keep(editor, name) })
			newcomer.open("/")
			newcomer.see("main", "Add a Postback")
			keep(newcomer, "empty")
			newcomer.click("a[href='/new']")
			newcomer.see("#dialog-title", "Add a Postback")
			keep(newcomer, "add")
			newcomer.click("#dialog [data-cancel]")
			viewer.open(n.path("crm"))
			viewer.see(".row", "evt_")
			keep(viewer, "viewer")
		}
	}
	if os.Getenv("POSTBACK_PICTURES") == "" {
		return
	}
	ended := enter(n, "viewer")
	ended.click("form[action='/signout'] button")
	ended.see("main", "You are signed out")
	ended.do(chromedp.Navigate(s.server.URL + "/"))
	ended.see("main", "You are not signed in")
	ended.keep("portal-ended")
	ended.takeProblems()
}
