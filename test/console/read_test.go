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
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

func TestEventsArriveLive(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	p := openConsole(t, cp.Config, n.namespace)
	p.see(".card", "crm")
	p.see(".card .badge", "Ready")
	p.accessible("the list")
	p.press(kb.ArrowDown)
	p.wait(`document.activeElement.closest('.card') !== null`)
	p.click(".card a")
	p.see("#no-rows", "No events yet")
	p.see("#live", "Live")
	p.accessible("an empty log")
	p.eval(`window.untouched = true`)

	n.post("evt_1", "lead.created", `{"n": 1}`)
	p.see(".row", "evt_1")
	p.see(".row .code", "200")
	n.post("evt_2", "sale.created", `{"amount": 1234567890123456789.10}`)
	p.wait(`[...document.querySelectorAll('.row-id')].map((e) => e.innerText).join() === 'evt_2,evt_1'`)
	p.see("#phases", "Delivered 2")
	p.see("#figures", "100%")
	p.accessible("a log")
	if p.eval(`window.untouched`) != true {
		t.Error("the page was loaded anew to show what arrived")
	}

	// Use the log and the sheet by the keyboard.
	p.eval(`document.activeElement.blur()`)
	p.press(kb.ArrowDown)
	p.wait(`document.activeElement.closest('.row') === document.querySelector('.row')`)
	p.press(kb.ArrowDown)
	p.wait(`document.activeElement.closest('.row') === document.querySelectorAll('.row')[1]`)
	p.press(kb.ArrowUp)
	p.press(kb.Enter)
	p.see("#sheet", "evt_2")
	p.see("#sheet .body", "1234567890123456789.10")
	p.see("#sheet h3", "Request as it would be sent now")
	p.accessible("the sheet")
	p.press(kb.ArrowRight)
	p.see("#sheet", "evt_1")
	p.press(kb.ArrowLeft)
	p.see("#sheet", "evt_2")
	p.press(kb.Escape)
	p.wait(`document.querySelector('#sheet').hidden && document.activeElement.closest('.row') !== null`)
	p.eval(`history.back()`)
	p.see("#sheet", "evt_2")
}

func TestFailingEndpoint(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusServiceUnavailable, Body: "down for maintenance"})
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	n.post("evt_1", "lead.created", `{}`)
	p.see(".row .code", "503")
	p.see(".row-next", "s")
	p.see(".title .badge.bad", "Server errors (5xx)")
	p.see("#head .note.bad", "most recent: HTTP 503.")
	p.see(".row-phase", "Retrying")
	p.click(".row a")
	p.see("#sheet .next", "next attempt is scheduled for ")
	p.see("#sheet .timeline", "503 Service Unavailable")
	p.see("#sheet .body", "down for maintenance")
	p.accessible("the sheet of a failure")
	seconds := `parseInt(document.querySelector('#sheet .next time').innerText)`
	first := p.eval(seconds)
	p.wait(fmt.Sprintf(`document.querySelector('#sheet .count').innerText === '1' && %s < %v`, seconds, first))
	// The open sheet shows the second attempt without a reload.
	p.see("#sheet .count", "2")
	// A filter closes the sheet, whose links would lead to the unfiltered log.
	p.click("#phases a[href*='phase=Delivered']")
	p.wait(`document.querySelector('#sheet').hidden && location.search === '?phase=Delivered'`)
}

const hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">" +
	"\x1b[31mred\x1b]0;title\x07 \u202egnirts\u202c \u200bzero \r\n\x00 </pre></aside></body>\u2028"

func TestHostileResponse(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", func(s *v1alpha1.PostbackSpec) { s.Retry = &v1alpha1.RetryPolicy{MaxAttempts: ptr.To[int32](1)} })
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusBadRequest, Body: hostile + strings.Repeat("A", 1<<20)})
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	n.post("evt_1", "lead.created", `{"html": "<script>document.title='owned'</script>", "mark": "`+"\u202e"+`abc", "tag": "</pre><h1>big</h1>"}`)
	p.see(".row .code", "400")
	p.click(".row a")
	p.see("#sheet .timeline .body", "<script>document.title='owned'</script>")
	p.see("#sheet .timeline .body", "U+001B[31mred")
	p.see("#sheet .timeline .body", "U+202E")
	p.see("#sheet > .sheet-in > .sheet-body > .body", "</pre><h1>big</h1>")
	if got := p.eval(`[document.title.includes('owned'), document.querySelectorAll('.body :not(span), .timeline img, #sheet h1, #sheet script').length]`); fmt.Sprint(got) != "[false 0]" {
		t.Errorf("the response became part of the page: %v", got)
	}
	if text, _ := p.eval(`document.querySelector('#sheet').textContent`).(string); strings.ContainsAny(text, "\x1b\x07\x00\u202e\u200b\u2028") {
		t.Error("invisible characters are in the page")
	}
	p.accessible("a hostile response")
	for _, width := range []int64{1440, 360} {
		p.size(width, 800)
		p.fits(fmt.Sprintf("a hostile response at %d", width))
	}

	// The body is one line of a mebibyte.
	n.record(n.postback("off", func(s *v1alpha1.PostbackSpec) { s.State = v1alpha1.PostbackDisabled }), "evt_2", strings.Repeat("x", 1<<20))
	p.open(n.path("off"))
	p.see(".row", "evt_2")
	p.click(".row a")
	p.see("#sheet", "Only the beginning is shown")
	for _, width := range []int64{1440, 360} {
		p.size(width, 800)
		p.fits(fmt.Sprintf("a long line at %d", width))
	}
	if size, _ := p.eval(`document.querySelector('#sheet').textContent.length`).(float64); size > 100_000 {
		t.Errorf("the sheet holds %v characters", size)
	}
}

func TestTenThousandRows(t *testing.T) {
	n := newTenant(t)
	// Deliveries of a disabled Postback wait.
	off := n.postback("off", func(s *v1alpha1.PostbackSpec) { s.State = v1alpha1.PostbackDisabled })
	const rows = 10_000
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(32)
	for i := range rows {
		group.Go(func() error { return api.Create(ctx, delivery(off, fmt.Sprintf("evt_%05d", i), `{"n": 1}`)) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("off"))
	p.see("#paging", "1–50 of 10,000")
	p.see("#phases", "Pending 10,000")
	// The counts may appear a moment before the rows.
	p.wait(`document.querySelectorAll('.row').length === 50`)
	seen := map[string]bool{}
	for range 5 {
		ids, _ := p.eval(`[...document.querySelectorAll('.row')].map((r) => r.id)`).([]any)
		for _, id := range ids {
			seen[fmt.Sprint(id)] = true
		}
		first := p.text("#paging")
		p.click("#paging a[rel=next]")
		p.wait(fmt.Sprintf(`document.querySelector('#paging').innerText !== %q`, first))
	}
	if len(seen) != 250 {
		t.Errorf("five pages of 50 show %d events", len(seen))
	}
	p.see("#paging", "251–300 of 10,000")

	// New rows do not move the rows on screen: a button offers them.
	p.eval(`window.firstRow = document.querySelector('.row').id`)
	n.record(off, "evt_new", `{}`)
	p.see("#pill", "1 new")
	p.see("#paging", "of 10,001")
	p.wait(`document.querySelector('.row').id === window.firstRow`)
	p.click("#pill")
	p.see(".row", "evt_new")
	// The same holds for the first page, scrolled.
	p.eval(`window.scrollTo(0, 1200)`)
	n.record(off, "evt_newer", `{}`)
	p.see("#pill", "1 new")
	p.gone(".row", "evt_newer")

	p.eval(`document.querySelector('#search').focus()`)
	p.press("evt_04242")
	p.see("#paging", "1–1 of 1")
	p.see(".row", "evt_04242")
	p.wait(`document.activeElement.id === 'search' && document.querySelector('#search').value === 'evt_04242'`)
}

func TestTwoTabs(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	first := openConsole(t, cp.Config, n.namespace)
	first.open(n.path("crm"))
	second := first.tab()
	second.open(n.path("crm"))
	n.post("evt_1", "lead.created", `{}`)
	first.see(".row", "evt_1")
	second.see(".row", "evt_1")

	// Each window shows the changes of the other. A form that was opened before a change reports a conflict instead
	// of undoing the change.
	first.click("a[href$='/do/edit']")
	first.see("#dialog-title", "Edit crm")
	second.click("summary.button")
	second.click(".menu-list a[href*='state=Paused']")
	second.click("#dialog .primary")
	first.see(".title .badge", "Paused")
	second.see(".title .badge", "Paused")
	first.eval(`document.querySelector('[name=displayName]').value = 'Renamed'`)
	first.click("#dialog .primary")
	first.see("#dialog", "somebody changed this Postback since you opened the form")
}

func TestAPIServerGoneAndBack(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	n.post("evt_1", "lead.created", `{}`)
	p.see(".row", "evt_1")
	if err := cp.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := op.Processes()[0].RestartIfEnded(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p.see("#problem", "The API server does not answer.")
	p.see("#live", "API server away")
	p.see(".row", "evt_1")
	p.accessible("without an API server")
	// A page opened during the outage shows the known data, too.
	p.do(chromedp.Navigate(p.base + n.path("crm")))
	p.see("#problem", "The API server does not answer.")
	p.see(".row", "evt_1")
	if err := cp.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	p.gone("#problem", "The API server does not answer.")
	p.see("#live", "Live")
	n.post("evt_2", "lead.created", `{}`)
	p.see(".row", "evt_2")
}
