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

package deliverylog

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	neturl "net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// page is the console as a browser sees it.
type page struct {
	t      *testing.T
	base   string
	client *http.Client
}

var consoleLink = regexp.MustCompile(`http://127\.0\.0\.1:\d+/\S+`)

// console runs the console with a kubeconfig, and logs in.
func (n *tenant) console(kubeconfig string, args ...string) *page {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out lockedBuffer
	command := n.command(ctx, kubeconfig, append([]string{"console"}, args...)...)
	command.Stdout, command.Stderr = &out, &out
	command.WaitDelay = 10 * time.Second // A child of the command may keep its output open.
	if err := command.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cancel()
		_ = command.Wait()
	})
	link := ""
	if !await(func() bool { link = consoleLink.FindString(out.String()); return link != "" }) {
		n.t.Fatalf("no link is printed:\n%s", out.String())
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		n.t.Fatal(err)
	}
	parsed, err := neturl.Parse(link)
	if err != nil {
		n.t.Fatal(err)
	}
	p := &page{t: n.t, base: "http://" + parsed.Host, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	p.get(strings.TrimPrefix(link, p.base))
	return p
}

func (p *page) do(r *http.Request) (int, string) {
	p.t.Helper()
	response, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (p *page) get(path string) string {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	_, body := p.do(request)
	return body
}

func (p *page) see(path, text string) string {
	p.t.Helper()
	body := ""
	if !await(func() bool { body = p.get(path); return strings.Contains(body, text) }) {
		p.t.Fatalf("%s does not show %q:\n%s", path, text, body)
	}
	return body
}

// live reads the event stream of a page until it contains a text.
func (p *page) live(path, text string, then func()) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	then()
	var all strings.Builder
	buffer := make([]byte, 64<<10)
	for !strings.Contains(all.String(), text) {
		n, err := response.Body.Read(buffer)
		all.Write(buffer[:n])
		if err != nil {
			p.t.Fatalf("the stream does not tell of %q: %v", text, err)
		}
	}
}

func TestConsole(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	n.post("evt_1", "lead.created")
	editor := n.person("editor", "edit", false)
	n.see(editor, []string{"evt_1"}, "events", url())
	p := n.console(editor, url())
	path := "/p/" + n.namespace + "/crm"
	log := p.see(path, "evt_1")
	// New entries of the delivery log appear without a reload.
	p.live(path+"/live", "evt_2", func() { n.post("evt_2", "sale.created") })
	name := regexp.MustCompile(`crm-[a-z2-7]{26}`).FindString(log)
	for _, want := range []string{"1.50", "200 OK"} {
		p.see(path+"/d/"+name, want)
	}
	if body := p.get(path + "/d/" + name + "/body"); !strings.Contains(body, `"data":{"amount":1.50}`) {
		t.Errorf("its body is %s", body)
	}
	p.see(path+"?event=sale.created&text=evt_2", "evt_2")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+path+"/do/redeliver", strings.NewReader("delivery="+name))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", p.base)
	if status, body := p.do(request); status != http.StatusSeeOther {
		t.Fatalf("redeliver: %d %s", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if requests, err := n.endpoint.Wait(ctx, hooks, 3); err != nil || string(requests[2].Body) != string(requests[0].Body) {
		t.Errorf("%d requests, %v", len(requests), err)
	}
	if objects := n.objects(); len(objects) != 1 || objects[0].Name != name {
		t.Errorf("there are %d PostbackDeliveries", len(objects))
	}
}

func TestTheConsoleSaysWhatItCannotShow(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	p := n.console(cp.Kubeconfig)
	// No port-forward is possible, because there is no kubelet.
	p.see("/p/"+n.namespace+"/crm", "The delivery log cannot be read")
}
