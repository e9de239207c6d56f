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
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// contrastOf returns a JavaScript expression for the contrast of an element's text and background, as WCAG defines
// it.
func contrastOf(selector string) string {
	return fmt.Sprintf(`(() => {
		const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
		const light = (colour) => {
			canvas.fillStyle = colour;
			canvas.fillRect(0, 0, 1, 1);
			const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
			return .2126 * r + .7152 * g + .0722 * b;
		};
		const style = getComputedStyle(document.querySelector(%q));
		const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
		return (a + .05) / (b + .05);
	})()`, selector)
}

// places is a JavaScript expression for the positions of elements that should not move.
const places = `['#figures', '#log', '.log-head, #rows', '#head .actions'].map((s) => Math.round(document.querySelector(s).getBoundingClientRect().top)).join()`

func TestNothingJumps(t *testing.T) {
	n := newTenant(t)
	p := openConsole(t, cp.Config, n.namespace)
	for _, width := range []int64{1440, 390} {
		name, id := fmt.Sprintf("crm-%d", width), fmt.Sprintf("evt_%d", width)
		n.postback(name, func(s *v1alpha1.PostbackSpec) {
			s.URL, s.Triggers = n.endpoint.URL("/"+name), []v1alpha1.Trigger{v1alpha1.Trigger("order." + name)}
		})
		n.endpoint.Answer("/"+name, receiver.Answer{Status: http.StatusServiceUnavailable})
		p.size(width, 900)
		p.open(n.path(name))
		p.see(".title .badge", "Ready")
		before := p.eval(places)
		n.post(id, "order."+name, `{}`)
		p.see(".row", id)
		p.see(".title .badge.bad", "Server errors (5xx)")
		p.see("#head .note.bad", "503")
		if after := p.eval(places); after != before {
			t.Errorf("at %d, the parts stood at %v, and stand at %v", width, before, after)
		}
	}
	p.size(1440, 900)

	// A row under the pointer does not move.
	n.postback("crm", nil)
	p.open(n.path("crm"))
	n.post("evt_first", "lead.created", `{}`)
	p.see(".row", "evt_first")
	box, _ := p.eval(`(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector('.row').getBoundingClientRect())`).([]any)
	x, _ := box[0].(float64)
	y, _ := box[1].(float64)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	p.wait(`document.querySelector('#rows:hover') !== null`)
	n.post("evt_second", "lead.created", `{}`)
	p.see("#pill", "1 new")
	p.gone(".row", "evt_second")
	p.click("#pill")
	p.see(".row", "evt_second")
}

// TestFirstRowAppearsAtOnce: the first row of an empty log moves no other row, so it appears without a click.
func TestFirstRowAppearsAtOnce(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	p := openConsole(t, cp.Config, n.namespace)
	p.size(390, 300)
	p.open(n.path("crm"))
	p.see("#no-rows", "No events yet")
	p.eval(`(scrollTo(0, document.body.scrollHeight), 0)`)
	p.wait(`document.getElementById('log').getBoundingClientRect().top < 0`)
	n.post("evt_first", "lead.created", `{}`)
	p.see(".row", "evt_first")
	p.gone("#pill", "new")
}

func TestNoDialogOpensTwice(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.eval(`(window.asked = 0, window.answer = [], window.real = window.fetch, window.fetch = (...args) => {
		if (args[1]?.headers?.['X-Fragment'] === 'dialog') window.asked++;
		return new Promise((done) => window.answer.push(() => done(window.real(...args))));
	}, ['edit', 'edit', 'test'].forEach((verb) => document.querySelector(` + "`a[href$='/do/${verb}']`" + `).click()), 0)`)
	p.wait(`window.asked === 1`)
	p.eval(`(window.fetch = window.real, window.answer.forEach((a) => a()), 0)`)
	p.see("#dialog-title", "Edit crm")
	// A late click does not discard typed text.
	p.fill("displayName", "Acme")
	p.eval(`(document.querySelector("a[href$='/do/test']").click(), 0)`)
	p.wait(`document.querySelector('#dialog [name=displayName]')?.value === 'Acme'`)

	// A late response does not reopen a dialog that the reader has closed.
	p.eval(`(window.fetch = (...args) => new Promise((done) => { window.answer = () => done(window.real(...args)); }), document.querySelector('#dialog [name=preview]').click(), 0)`)
	p.wait(`typeof window.answer === 'function'`)
	p.click("#dialog [data-cancel]")
	p.wait(`!document.querySelector('#dialog').open`)
	p.eval(`(window.fetch = window.real, window.answer(), 0)`)
	p.see("#toast", "closed before its answer came")
	p.wait(`!document.querySelector('#dialog').open`)
}

func TestListSortsAndFilters(t *testing.T) {
	n := newTenant(t)
	n.postback("alpha", nil)
	n.postback("beta", func(s *v1alpha1.PostbackSpec) {
		s.URL, s.Triggers = n.endpoint.URL("/down"), []v1alpha1.Trigger{"order.down"}
	})
	n.endpoint.Answer("/down", receiver.Answer{Status: http.StatusServiceUnavailable})
	p := openConsole(t, cp.Config, n.namespace)
	const names = `[...document.querySelectorAll('.card strong')].map((e) => e.innerText).join()`
	p.wait(names + ` === 'alpha,beta'`)
	n.post("evt_1", "order.down", `{}`)
	p.see("#tallies", "Failing 1")
	p.see(".card .badge.bad", "Server errors (5xx)")
	p.choose("sort", "Worst health first")
	p.wait(names + ` === 'beta,alpha'`)
	p.click("#tallies a[href*='health=ok']")
	p.wait(names + ` === 'alpha' && location.search === '?health=ok&sort=health'`)
	p.eval(`document.querySelector('#search').focus()`)
	p.press("zzz")
	p.see("#cards", "Nothing found")
	p.wait(`new URLSearchParams(location.search).get('health') === 'ok' && location.search.includes('q=zzz')`)
	p.click("#cards .empty a")
	p.wait(names + ` === 'alpha,beta'`)
}

func TestPausedDeliveriesSayWhyTheyWait(t *testing.T) {
	n := newTenant(t)
	crm := n.postback("crm", func(s *v1alpha1.PostbackSpec) { s.State = v1alpha1.PostbackPaused })
	n.record(crm, "evt_1", `{}`)
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.see(".row-next", "paused")
	p.see("#head .note", "Postback crm is paused.")
	p.click(".row a")
	p.see("#sheet .next", "Postback crm is paused.")
	p.click(".sheet-close")
	p.menu("state?state=Disabled")
	p.click("#dialog .dialog-end button:not([type=button]):not([name])")
	p.see(".row-next", "disabled")
}

func TestChartsSayTheirNumbers(t *testing.T) {
	n := newTenant(t)
	n.partner(&partner{name: "crm", host: "hooks.acme.example", triggers: []v1alpha1.Trigger{"*"}, events: 12, failing: 3})
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.see("#figures .legend", "succeeded")
	p.see("#figures .legend", "95th percentile")
	p.see("#figures .y-axis", "0")
	p.see("#figures .x-axis", "now")
	p.accessible("charts")
	// Touch the chart, then use the keyboard.
	p.eval(`document.querySelector('[data-chart=outcomes] .part:last-child').dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, pointerType: 'touch'}))`)
	p.see("#tip", "attempts succeeded")
	p.eval(`document.querySelector('h1').dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, pointerType: 'touch'}))`)
	p.wait(`document.querySelector('#tip').hidden`)
	p.eval(`document.querySelector('[data-chart=latency]').focus()`)
	p.press(kb.ArrowLeft)
	p.see("#tip", "From ")
	last := p.text("#tip")
	p.press(kb.ArrowLeft)
	p.wait(fmt.Sprintf(`document.querySelector('#tip').innerText !== %q`, last))
}
