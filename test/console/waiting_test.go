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

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// waitingEvents throttles the endpoint of a new Postback named crm, and posts events that then wait in the stream.
func (n *tenant) waitingEvents(ids ...string) {
	n.t.Helper()
	crm := n.postback("crm", nil)
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"590"}}})
	n.post("evt_first", "lead.created", `{}`)
	read := func() error { return api.Get(n.t.Context(), client.ObjectKeyFromObject(crm), crm) }
	eventually(n.t, func() error {
		if err := read(); err != nil || crm.Status.Waiting == nil {
			return fmt.Errorf("the endpoint is not throttled: %w", err)
		}
		return nil
	})
	for _, id := range ids {
		n.post(id, "sale.created", `{"amount": 4900}`)
	}
	eventually(n.t, func() error {
		if err := read(); err != nil || crm.Status.GetBacklog() == 0 {
			return fmt.Errorf("no event waits in the stream: %w", err)
		}
		return nil
	})
}

// object reports whether an event has a PostbackDelivery.
func (n *tenant) object(id string) bool {
	n.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		n.t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Spec.Event.ID == id {
			return true
		}
	}
	return false
}

// row returns the selector of the link in an event's row.
func (p *page) row(id string) string {
	p.t.Helper()
	p.see(".row-id", id)
	name, _ := p.eval(fmt.Sprintf(`[...document.querySelectorAll('.row')].find((e) => e.querySelector('.row-id').innerText === %q)?.id ?? ''`, id)).(string)
	return "#" + name + " > a"
}

// TestWaitingEvents shows, redelivers first and drops events of the waiting stream, in the console.
func TestWaitingEvents(t *testing.T) {
	useStreams(t)
	n := newTenant(t)
	n.waitingEvents("evt_wait_1", "evt_wait_2", "evt_wait_3")

	p := openConsole(t, n.as("edit"), n.namespace)
	p.open(n.path("crm"))
	p.see("#phases", "Waiting 4")
	p.see("#figures", "in the waiting stream, next attempt in ")
	p.click("#phases a[href$='phase=Waiting']")
	p.rows("evt_wait_3", "evt_wait_2", "evt_wait_1", "evt_first")
	p.wait(`/^[789]m/.test(document.querySelector('.row-next').innerText)`)
	p.wait(`document.querySelector('.row-next').title.startsWith('The endpoint asked to wait until')`)
	p.looks("waiting-log")
	p.click(p.row("evt_wait_2"))
	p.see("#sheet .next", "The endpoint asked to wait until")
	p.see("#sheet .actions", "Redeliver first")
	p.see("#sheet .body", "4900")
	p.looks("waiting-sheet")

	p.click("#sheet a[href*='/do/drop']")
	p.see("#dialog-title", "Drop this event?")
	p.looks("waiting-drop")
	p.click("#dialog .danger")
	p.rows("evt_wait_3", "evt_wait_1", "evt_first")

	p.click(p.row("evt_wait_3"))
	p.click("#sheet .actions form button")
	eventually(t, func() error {
		if !n.object("evt_wait_3") {
			return fmt.Errorf("evt_wait_3 has no PostbackDelivery")
		}
		return nil
	})
	p.gone("#sheet .actions", "Redeliver first")
	p.click(".sheet-close")
	n.mayOnlySee(t)

	p.menu("drop")
	p.see("#dialog-title", "Drop all waiting events?")
	p.accessible("the question before all are dropped")
	p.click("#dialog .danger")
	p.gone(".row-id", "evt_wait_1")
	p.see(".row-id", "evt_wait_3")
	if got := len(n.endpoint.Requests(hooks)); got != 1 {
		t.Errorf("the endpoint got %d requests", got)
	}
}

// mayOnlySee opens the console with the role view, which may not drop.
func (n *tenant) mayOnlySee(t *testing.T) {
	t.Helper()
	p := openConsole(t, n.as("view"), n.namespace)
	p.open(n.path("crm"))
	p.click(p.row("evt_wait_1"))
	p.wait(`[...document.querySelectorAll('#sheet .actions button[disabled]')].some((e) => e.title.includes('it requires the right to drop postbackdeliveries in the namespace ` + n.namespace + `'))`)
}

// looks checks the present page in both sizes and colour schemes, and takes pictures.
func (p *page) looks(name string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		for width, height := range map[int64]int64{1280: 800, 390: 844} {
			p.size(width, height)
			what := fmt.Sprintf("%s-%s-%d", name, scheme, width)
			p.fits(what)
			p.whole(what, "#phases a, #sheet .actions a, #sheet .actions button, #dialog button")
			p.accessible(what)
			p.picture(what)
		}
	}
	p.size(1440, 900)
}
