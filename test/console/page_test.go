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
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/curl"
)

// serve runs a console and returns its base URL and the link that opens it.
func serve(t *testing.T, config *rest.Config, namespace string, c clock.PassiveClock) (base, link string) {
	t.Helper()
	served, err := console.Listen(t.Context(), console.ServerOptions{Options: console.Options{
		Config: config, Namespace: namespace, Kubectl: curl.Kubectl{Context: "demo"}, Clock: c, DeliveryLog: streamsFor(t, config),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- served.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return served.Address(), served.URL()
}

// page is a browser tab without cookies of other tests.
type page struct {
	t   *testing.T
	ctx context.Context
	// base is the URL of the console.
	base string
	// framed says that expressions run in the frame of base.
	framed bool

	mu       sync.Mutex
	problems []string
}

// openConsole serves the console of a namespace and opens it in a new browser profile.
func openConsole(t *testing.T, config *rest.Config, namespace string) *page {
	t.Helper()
	return openConsoleAt(t, config, namespace, clock.RealClock{})
}

// openConsoleAt is openConsole with another clock.
func openConsoleAt(t *testing.T, config *rest.Config, namespace string, c clock.PassiveClock) *page {
	t.Helper()
	base, link := serve(t, config, namespace, c)
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := newPage(ctx, t, base)
	p.do(chromedp.Navigate(link))
	p.wait(`['live', 'lost'].includes(document.querySelector('#live')?.dataset.state)`)
	return p
}

// newPage returns a tab whose browser errors fail the test at its end.
func newPage(ctx context.Context, t *testing.T, base string) *page {
	p := &page{t: t, ctx: ctx, base: base}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning {
				p.mu.Lock()
				p.problems = append(p.problems, m.String())
				p.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		for _, problem := range p.takeProblems() {
			t.Errorf("the browser's console says: %s", problem)
		}
		if t.Failed() {
			p.dump()
		}
	})
	p.size(1440, 900)
	return p
}

// tab opens another tab of the same profile.
func (p *page) tab() *page {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.t.Cleanup(cancel)
	return newPage(ctx, p.t, p.base)
}

// takeProblems returns and clears the browser errors so far.
func (p *page) takeProblems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.problems
	p.problems = nil
	return taken
}

func (p *page) dump() {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText.slice(0, 1500)`))
	p.t.Logf("the page at the end (%v):\n%s", err, text)
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// open navigates to a path of the console and waits for its live updates.
func (p *page) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.base + path))
	p.wait(`document.querySelector('#live')?.dataset.state === 'live'`)
}

// size sets the size of the window.
func (p *page) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

// scheme sets the preferred colour scheme of the browser: dark or light.
func (p *page) scheme(name string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// eval returns the value of a JavaScript expression.
func (p *page) eval(expression string) any {
	p.t.Helper()
	value, err := p.tryEval(expression)
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (p *page) tryEval(expression string) (any, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	expression = `JSON.stringify(` + expression + `) ?? "null"`
	var text string
	var err error
	if p.framed {
		text, err = evaluateInFrame(ctx, p.base, expression)
	} else {
		text, err = chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	}
	if err != nil {
		return nil, err
	}
	var value any
	return value, json.Unmarshal([]byte(text), &value)
}

// text returns the visible text of the first element of a selector.
func (p *page) text(selector string) string {
	p.t.Helper()
	text, _ := p.eval(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ''`, selector)).(string)
	return text
}

// wait returns once a JavaScript expression is true.
func (p *page) wait(expression string) {
	p.t.Helper()
	eventually(p.t, func() error {
		switch value, err := p.tryEval(expression); {
		case err != nil:
			return err
		case value != true:
			return fmt.Errorf("%s is %v", expression, value)
		}
		return nil
	})
}

// see returns once an element of a selector shows a text.
func (p *page) see(selector, text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`[...document.querySelectorAll(%q)].some((e) => e.checkVisibility() && e.innerText.includes(%q))`, selector, text))
}

// gone returns once no visible element of a selector contains a text.
func (p *page) gone(selector, text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`![...document.querySelectorAll(%q)].some((e) => e.checkVisibility() && e.innerText.includes(%q))`, selector, text))
}

// click clicks on the first element of a selector with the mouse.
func (p *page) click(selector string) {
	p.t.Helper()
	eventually(p.t, func() error {
		p.wait(fmt.Sprintf(`document.querySelector(%q)?.checkVisibility() === true`, selector))
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		defer cancel()
		err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector)))
		// A live update may replace the element after it was found: then the click had no effect.
		if err != nil && !strings.Contains(err.Error(), nodeGone) {
			p.t.Fatalf("click %s: %v", selector, err)
		}
		return err
	})
}

// nodeGone is the browser's message about an element that has left the page.
const nodeGone = "Could not find node with given id"

// press presses a key.
func (p *page) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// shot returns a screenshot of the window.
func (p *page) shot() []byte {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	return picture
}

// accessible fails the test if axe-core finds a violation on the present page.
func (p *page) accessible(what string) {
	p.t.Helper()
	source := axeSource(p.t)
	if source == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void](source)); err != nil {
		p.t.Fatal(err)
	}
	// Elements that fade in lack contrast until their animation ends. Endless animations, such as the "live" dot, are
	// not awaited.
	const run = `Promise.all(document.getAnimations().filter((a) => a.effect.getTiming().iterations !== Infinity).map((a) => a.finished.catch(() => {})))
		.then(() => axe.run(document, {resultTypes: ['violations']})).then((r) => JSON.stringify(r.violations.map((v) =>
		v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.html.slice(0, 200) + ' ' + n.failureSummary).slice(0, 3).join('; '))))`
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	var violations []string
	if err := json.Unmarshal([]byte(text), &violations); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range violations {
		p.t.Errorf("%s: axe-core finds: %s", what, v)
	}
}

// fits fails the test if the page is wider than the window.
func (p *page) fits(what string) {
	p.t.Helper()
	if wide, _ := p.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`).(float64); wide > 0 {
		p.t.Errorf("%s is %v pixels wider than the window", what, wide)
	}
}

// whole fails the test if an element of a selector is clipped, by itself or by a parent.
func (p *page) whole(what, selector string) {
	p.t.Helper()
	const cut = `[...document.querySelectorAll(%q)].filter((e) => e.checkVisibility()).filter((e) => {
		if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline') return true;
		const box = e.getBoundingClientRect();
		for (let around = e.parentElement; around; around = around.parentElement) {
			const frame = around.getBoundingClientRect();
			if (getComputedStyle(around).overflowX !== 'visible' && (box.right > frame.right + 1 || box.bottom > frame.bottom + 1)) return true;
		}
		return box.right > innerWidth;
	}).map((e) => e.innerText)`
	if found, _ := p.eval(fmt.Sprintf(cut, selector)).([]any); len(found) > 0 {
		p.t.Errorf("%s: cut are %q", what, found)
	}
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	gomega.NewWithT(t).Eventually(check).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.Succeed())
}
