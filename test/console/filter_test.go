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
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// laterClock is the machine's clock set forward.
type laterClock time.Duration

func (c laterClock) Now() time.Time                  { return time.Now().Add(time.Duration(c)) }
func (c laterClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// choose selects an option by typing its text, as a person does.
func (p *page) choose(name, text string) {
	p.t.Helper()
	p.see("option, select", text)
	p.eval(fmt.Sprintf(`document.querySelector('select[name=%s]').focus()`, name))
	const tries = 5
	for range tries {
		p.press(text)
		// A browser short of CPU treats slow typing as two words, and selects by the second.
		if p.eval(fmt.Sprintf(`document.querySelector('select[name=%s]').selectedOptions[0].text.startsWith('%s')`, name, text)) == true {
			break
		}
	}
	// A browser short of CPU may never accept the text as one word: then select the option by script.
	p.eval(fmt.Sprintf(`((s) => {
		const option = [...s.options].find((o) => o.text.startsWith('%s'));
		if (option.selected) return;
		s.value = option.value;
		s.dispatchEvent(new Event('input', {bubbles: true}));
	})(document.querySelector('select[name=%s]'))`, text, name))
	p.press(kb.Enter)
}

// rows waits until the log shows exactly these events.
func (p *page) rows(ids ...string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`[...document.querySelectorAll('.row-id')].map((e) => e.innerText).join() === '%s'`, strings.Join(ids, ",")))
}

func TestFilters(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	for _, e := range [][2]string{{"evt_1", "lead.created"}, {"evt_2", "sale.created"}, {"evt_3", "sale.refunded"}} {
		n.post(e[0], e[1], `{}`)
		n.wait(e[0], delivered)
	}
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.see("#phases", "Delivered 3")
	p.eval(`window.untouched = true`)

	p.choose("event", "sale.refunded")
	p.rows("evt_3")
	p.wait(`location.search === '?event=sale.refunded'`)
	p.see("#phases", "Delivered 1")
	// The filter and the counts include new events.
	n.post("evt_4", "lead.created", `{}`)
	n.post("evt_5", "sale.refunded", `{}`)
	p.rows("evt_5", "evt_3")
	p.choose("time", "Last hour")
	p.wait(`location.search === '?event=sale.refunded&time=1h'`)
	p.rows("evt_5", "evt_3")
	p.choose("event", "All events")
	p.wait(`location.search === '?time=1h' && document.querySelectorAll('.row').length === 5`)
	p.eval(`document.querySelector('#search').focus()`)
	p.press("evt_4")
	p.rows("evt_4")
	p.accessible("a filtered log")
	if p.eval(`window.untouched`) != true {
		t.Error("the page was loaded anew to filter")
	}
	// A URL with filters shows the same to another person.
	p.open(n.path("crm") + "?event=sale.created&time=24h")
	p.rows("evt_2")
	p.wait(`document.querySelector('select[name=event]').value === 'sale.created' && document.querySelector('select[name=time]').value === '24h'`)

	// Open the console two hours later.
	p = openConsoleAt(t, cp.Config, n.namespace, laterClock(2*time.Hour))
	p.open(n.path("crm") + "?time=1h")
	p.see("#no-rows", "No event matches the filters")
	p.choose("time", "Last 24 hours")
	p.wait(`document.querySelectorAll('.row').length === 5`)
	p.choose("time", "Last 15 minutes")
	p.see("#no-rows", "Nothing found")
	p.click("#no-rows a")
	p.wait(`document.querySelectorAll('.row').length === 5 && location.search === ''`)
}

// copied clicks a copy button and returns the text that the page writes to the clipboard. The test cannot read the
// clipboard of its browser.
func (p *page) copied(selector string) string {
	p.t.Helper()
	p.eval(`(window.given = undefined, navigator.clipboard.writeText = async (t) => { window.given = t })`)
	p.click(selector)
	p.wait(`window.given !== undefined`)
	p.see("#toast", "Copied")
	text, _ := p.eval(`window.given`).(string)
	return text
}

func TestCopying(t *testing.T) {
	n := newTenant(t)
	crm := n.postback("crm", nil)
	n.post("evt_1", "lead.created", `{"name": "Ana <b>"}`)
	n.wait("evt_1", delivered)
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	if got := p.copied("#head [data-copy]"); got != crm.Spec.URL {
		t.Errorf("copied as URL is %q", got)
	}
	p.click(".row a")
	p.see("#sheet .id", "evt_1")
	if got := p.copied("#sheet [data-copy]"); got != "evt_1" {
		t.Errorf("copied as event id is %q", got)
	}
	if got := p.copied("#sheet [data-copy-from]"); !strings.HasPrefix(got, "#!/bin/") || !strings.Contains(got, `{"name": "Ana <b>"}`) {
		t.Errorf("copied as curl is %q", got)
	}
	p.press(kb.Escape)
	p.menu("secret")
	p.click("#dialog .primary")
	p.see("#secret", "whsec_")
	secret := p.text("#secret")
	if got := p.copied("#dialog [data-copy]"); got != secret || !strings.HasPrefix(got, "whsec_") {
		t.Errorf("copied as secret is %d bytes, shown are %d", len(got), len(secret))
	}
}
