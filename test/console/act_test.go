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
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// fill types a value into a field of the dialog.
func (p *page) fill(name, value string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector('#dialog [name="%s"]') !== null`, name))
	p.eval(fmt.Sprintf(`(document.querySelector('#dialog [name="%s"]').value = %q)`, name, value))
}

// menu chooses an action in the menu of a Postback.
func (p *page) menu(action string) {
	p.t.Helper()
	p.click("summary.button")
	p.click(".menu-list a[href*='/do/" + action + "']")
	p.wait(`document.querySelector('#dialog').open`)
}

func TestFromCreationToDeletion(t *testing.T) {
	n := newTenant(t)
	p := openConsole(t, cp.Config, n.namespace)
	p.see("#cards", "No Postbacks yet")
	p.accessible("an empty list")
	p.click(".title a[href='/new']")
	p.see("#dialog-title", "Add a Postback")
	p.accessible("the form that adds")
	p.wait(`document.querySelector('#dialog [name=namespace]').readOnly`)

	// Each mistake is shown at its field: first those that the console finds, then those that the API server finds.
	p.fill("name", "Acme CRM")
	p.fill("url", "ftp://example.com")
	p.fill("triggers", "lead.created sale.*")
	p.click("#dialog .primary")
	p.see("#dialog #e-name", "use lower-case letters, digits and hyphens")
	p.see("#dialog .error", "must be an absolute URL that starts with https://")
	p.fill("name", "crm")
	p.click("#dialog .primary")
	p.gone("#dialog #e-name", "use lower-case letters")
	p.see("#dialog .error", "must be an absolute URL that starts with https://")
	p.wait(`document.activeElement.name === 'url'`)
	p.accessible("a form with mistakes")

	p.fill("url", n.endpoint.URL(hooks))
	p.fill("triggers", "lead.created sale.*")
	p.fill("timeout", "5m")
	p.click("#dialog .primary")
	p.see("#dialog .error", "must be a duration from 1s to 30s")
	p.fill("timeout", "5s")
	p.click("#dialog [name=preview]")
	p.see("#dialog .yaml", "kind: Postback")
	p.see("#dialog .yaml", "timeout: 5s")
	key := types.NamespacedName{Namespace: n.namespace, Name: "crm"}
	if err := api.Get(t.Context(), key, &v1alpha1.Postback{}); !apierrors.IsNotFound(err) {
		t.Errorf("a look at the YAML made the Postback: %v", err)
	}
	p.click("#dialog .primary")
	// The last page shows the key and the next steps.
	p.see("#dialog-title", "crm is added")
	p.see("#secret", "whsec_")
	p.see("#dialog", "Send a test event")
	p.accessible("a Postback that is added")
	p.click("#dialog a.primary")
	p.see("h1", "crm")
	p.see(".title .badge", "Ready")
	p.do(chromedp.Navigate(p.base + "/new"))
	p.eval(`(document.querySelector('.dialog-alone [name=name]').value = 'crm', document.querySelector('.dialog-alone [name=url]').value = 'https://example.com', document.querySelector('.dialog-alone [name=triggers]').value = '*')`)
	p.click(".dialog-alone .primary")
	p.see("#dialog #e-name", "A Postback with this name exists")
	p.open(n.path("crm"))

	// Send a test event of one of the Postback's types.
	p.click("a[href$='/do/test']")
	p.see("#dialog .check", "lead.created")
	p.accessible("the form of test events")
	p.fill("other", "order.shipped")
	p.click("#dialog .primary")
	p.see("#dialog .note", "no trigger of postback")
	p.fill("other", "")
	p.click("#dialog .primary")
	p.see("#sheet .badge", "Delivered")
	p.see("#sheet em", "test")
	p.see(".row em", "test")
	p.size(360, 800)
	p.whole("a test event in small", ".row-event > span, .row em")
	p.size(1440, 900)
	p.wait(`document.querySelector('#sheet [data-copy-from]') !== null`)
	p.eval(`(window.script = '', fetch(document.querySelector('[data-copy-from]').dataset.copyFrom).then((r) => r.text()).then((s) => { window.script = s; }), 0)`)
	p.wait(`window.script.includes("kubectl --context 'demo' -n") && window.script.includes('curl -sS')`)

	p.click(".sheet-close")
	p.menu("delete")
	p.accessible("the question before deletion")
	p.fill("name", "other")
	p.click("#dialog .danger")
	p.see("#dialog .error", "Type crm to delete it.")
	p.fill("name", "crm")
	p.click("#dialog .danger")
	p.see("#cards", "No Postbacks yet")
	eventually(t, func() error {
		if err := api.Get(t.Context(), key, &v1alpha1.Postback{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Postback is there: %w", err)
		}
		return nil
	})
}

func TestEditAndStates(t *testing.T) {
	n := newTenant(t)
	crm := n.postback("crm", nil)
	crm.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "partners:postback.dev/Postback:" + n.namespace + "/crm"}
	if err := api.Update(t.Context(), crm); err != nil {
		t.Fatal(err)
	}
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.see(".note", "Argo CD keeps this Postback (partners)")
	p.click("a[href$='/do/edit']")
	p.see("#dialog .note", "Git will win")
	p.fill("displayName", "Acme <b>CRM</b>")
	p.fill("retry.maxAttempts", "3")
	p.fill("headers", "X-Tenant: acme")
	p.click("#dialog .primary")
	p.see("h1", "Acme <b>CRM</b>")
	get := func() *v1alpha1.Postback {
		if err := api.Get(t.Context(), client.ObjectKeyFromObject(crm), crm); err != nil {
			t.Fatal(err)
		}
		return crm
	}
	if s := get().Spec; s.GetMaxAttempts() != 3 || len(s.Headers) != 1 || s.URL != n.endpoint.URL(hooks) {
		t.Errorf("the spec is %+v", s)
	}
	p.click("a[href$='/do/edit']")
	p.fill("retry.maxAttempts", "")
	p.click("#dialog .primary")
	p.gone("dialog", "Edit")
	if s := get().Spec; s.GetMaxAttempts() != 0 || len(s.Headers) != 1 {
		t.Errorf("the spec is %+v", s)
	}
	// A filter that does not compile is stored. The page after the form says so, and shows the position of the
	// mistake.
	p.click("a[href$='/do/edit']")
	p.fill("filter", "event.x =")
	p.click("#dialog .primary")
	p.see(".title .badge.bad", "Invalid filter")
	p.see("#head .note.bad", "spec.filter is not a valid filter: line 1, column ")
	p.click("a[href$='/do/edit']")
	p.fill("filter", "")
	p.click("#dialog .primary")
	p.see(".title .badge", "Ready")

	for _, state := range []string{"Disabled", "Paused", "Enabled"} {
		p.menu("state?state=" + state)
		p.click("#dialog [name=preview]")
		p.see("#dialog .yaml", "state: "+state)
		p.click("#dialog .dialog-end button:not([type=button]):not([name])")
		p.see(".title .badge", state)
		if get().Spec.GetState() != v1alpha1.PostbackState(state) {
			t.Errorf("the state is %s, want %s", crm.Spec.State, state)
		}
	}
}

func TestRotate(t *testing.T) {
	n := newTenant(t)
	crm := n.postback("crm", nil)
	key := func() string {
		s := &corev1.Secret{}
		if err := api.Get(t.Context(), types.NamespacedName{Namespace: n.namespace, Name: crm.Status.SecretName}, s); err != nil {
			t.Fatal(err)
		}
		return string(s.Data[v1alpha1.SigningKeyName])
	}
	old := key()
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	p.menu("secret")
	whole := func() string { return fmt.Sprint(p.eval(`document.documentElement.outerHTML`)) }
	if strings.Contains(whole(), old) {
		t.Error("the secret is in the page before anybody asked for it")
	}
	p.accessible("the question before the secret is shown")
	p.click("#dialog .primary")
	p.see("#secret", old)
	p.accessible("the secret")
	p.click("#dialog .primary")
	p.wait(`!document.querySelector('#dialog').open`)
	if strings.Contains(whole(), old) {
		t.Error("the secret is in the page after its dialog was closed")
	}

	p.menu("rotate")
	p.fill("overlap", "1h")
	p.click("#dialog [name=preview]")
	p.see("#dialog .yaml", "overlap: 1h")
	p.see("#dialog .yaml", "postback.dev/rotate-secret")
	if key() != old {
		t.Error("a look at the YAML rotated the key")
	}
	p.click("#dialog .primary")
	p.see("#dialog-title", "A new signing key")
	p.see("#secret", "whsec_")
	p.see("#dialog .old-key", "The old key signs beside it until")
	if shown := p.text("#secret"); shown == old || shown != key() {
		t.Error("the secret that is shown is not the new one")
	}
	p.click("#dialog [data-copy]")
	p.click("#dialog .dialog-end .primary")
	p.see("#head .old-key", "The old signing key signs until")
	s := &v1alpha1.PostbackSecret{}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(crm), s); err != nil {
		t.Fatal(err)
	}
	if s.Spec.GetOverlap().String() != "1h0m0s" || s.Status.Version != 2 {
		t.Errorf("the overlap is %s and the version %d", s.Spec.GetOverlap(), s.Status.Version)
	}
}

func TestRedeliver(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	// Rejections of single events do not open the circuit. After the second, the next retry is due in two minutes.
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusUnprocessableEntity, Body: "busy", Times: 6})
	p := openConsole(t, cp.Config, n.namespace)
	p.open(n.path("crm"))
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		n.post(id, "lead.created", `{}`)
	}
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		n.wait(id, func(d *v1alpha1.PostbackDelivery) bool { return retrying(d) && d.Status.AttemptCount == 2 })
	}
	p.see("#phases", "Retrying 3")
	p.click(".row a")
	p.see("#sheet .id", "evt_")
	id := p.text("#sheet .id")
	p.click("#sheet form button")
	p.see("#toast", "Redelivering")
	p.see("#sheet .badge", "Delivered")
	n.wait(id, delivered)
	p.click(".sheet-close")
	p.wait(`[...document.querySelectorAll('.row')].every((r) => (r.querySelector('input').click(), true))`)
	p.see("#chosen", "3 events chosen")
	p.accessible("chosen events")
	p.click("#chosen .primary")
	p.see("#toast", "Redelivering 3 events")
	p.see("#phases", "Delivered 3")
	p.wait(`document.querySelector('#chosen').hidden`)

	p.menu("again")
	p.click("#dialog .primary")
	p.see("#toast", "Redelivering")
	eventually(t, func() error {
		crm := &v1alpha1.Postback{}
		if err := api.Get(t.Context(), types.NamespacedName{Namespace: n.namespace, Name: "crm"}, crm); err != nil {
			return err
		}
		if r := crm.Status.Redelivery; r == nil || r.CompletionTime == nil {
			return fmt.Errorf("the redelivery is %+v", r)
		}
		return nil
	})
}

func TestWithoutRights(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", nil)
	n.post("evt_1", "lead.created", `{}`)
	n.wait("evt_1", delivered)
	p := openConsole(t, n.as("postback-viewer"), n.namespace)
	p.wait(`document.querySelector('.title button').disabled && document.querySelector('.title button').title.includes('create postbacks')`)
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		if contrast, _ := p.eval(contrastOf(".title button:disabled")).(float64); contrast < 4.5 {
			t.Errorf("%s: a disabled button has a contrast of %.1f", scheme, contrast)
		}
	}
	p.open(n.path("crm"))
	p.see(".row", "evt_1")
	p.accessible("a page of somebody who may only look")
	p.click("summary.button")
	p.see(".menu-list .off", "it requires the right to delete postbacks")
	p.see(".menu-list .off", "it requires the right to get secrets")
	if links := p.eval(`[...document.querySelectorAll('a[data-dialog]')].map((a) => a.innerText)`); fmt.Sprint(links) != "[Show YAML]" {
		t.Errorf("offered are %v", links)
	}
	if boxes := p.eval(`document.querySelectorAll('.row input').length`); boxes != 0.0 {
		t.Errorf("%v events can be chosen", boxes)
	}
	// The form refuses, too, and deletes nothing.
	p.eval(`(window.answer = 0, fetch(location.pathname + '/do/delete', {method: 'POST', body: new URLSearchParams({name: 'crm'}), headers: {'X-Fragment': 'dialog'}}).then((r) => r.text()).then((s) => { window.answer = s; }), 0)`)
	p.wait(`window.answer !== 0 && window.answer.includes('You may not delete this Postback')`)
	if err := api.Get(t.Context(), types.NamespacedName{Namespace: n.namespace, Name: "crm"}, &v1alpha1.Postback{}); err != nil {
		t.Error(err)
	}

	// The viewer may not see other namespaces either.
	all := openConsole(t, n.as("view"), "")
	all.see("#problem", "You may not list the postbacks of all namespaces.")
	all.accessible("a list that nobody may see")
	all.size(360, 800)
	all.whole("a list of all namespaces", ".scope-namespace")
}
