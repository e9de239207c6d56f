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
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/receiver"
)

// throttle makes the endpoint ask to wait, and puts events with these ids into the waiting stream.
func (n *tenant) throttle(ids ...string) {
	n.t.Helper()
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"590"}}})
	n.post("evt_first", "lead.created")
	if _, err := n.endpoint.Wait(n.t.Context(), hooks, 1); err != nil {
		n.t.Fatal(err)
	}
	if !await(func() bool {
		out, _, err := cp.Kubectl(n.t.Context(), "", "-n", n.namespace, "get", "postback", "crm", "-o", "jsonpath={.status.waiting.reason}")
		return err == nil && out == "RetryAfter"
	}) {
		n.t.Fatal("the endpoint is not throttled")
	}
	for _, id := range ids {
		n.post(id, "sale.created")
	}
}

// fails runs the plugin, which must fail, and returns its output.
func (n *tenant) fails(kubeconfig string, args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	output, err := n.command(ctx, kubeconfig, args...).CombinedOutput()
	if err == nil {
		n.t.Errorf("%v ends well:\n%s", args, output)
	}
	return string(output)
}

func TestWaitingDeliveriesAreShown(t *testing.T) {
	n, other := newTenant(t), newTenant(t)
	n.postback("crm")
	other.postback("crm")
	viewer, stranger := n.person("viewer", "view", false), other.person("viewer", "view", false)
	n.throttle("evt_wait_1", "evt_wait_2", "evt_wait_3")
	out := n.see(viewer, []string{"evt_wait_1", "evt_wait_2", "evt_wait_3"}, "events", "crm", url())
	if a, b := strings.Index(out, "evt_wait_3"), strings.Index(out, "evt_wait_1"); a > b || !strings.Contains(out, "Pending") || !strings.Contains(out, "in 9m") {
		t.Errorf("the newest is not first, or the reason is missing:\n%s", out)
	}
	if out, _ := n.run(viewer, "events", "--waiting", "--limit", "2", url()); !strings.Contains(out, "evt_wait_3") || strings.Contains(out, "evt_wait_1") {
		t.Errorf("the newest two:\n%s", out)
	}
	out, _ = n.run(viewer, "events", "--waiting", "-o", "wide", url())
	if !strings.Contains(out, "The endpoint asked to wait until") || strings.Contains(out, "Delivered") {
		t.Errorf("the reasons:\n%s", out)
	}
	out, _ = n.run(viewer, "event", "evt_wait_2", url())
	for _, want := range []string{"sale.created", `"amount": 1.50`, "Pending", "The endpoint asked to wait until", "No attempt is on record yet"} {
		if !strings.Contains(out, want) {
			t.Errorf("the event does not say %q:\n%s", want, out)
		}
	}
	if objects := n.objects(); len(objects) != 1 {
		t.Errorf("%d PostbackDeliveries", len(objects))
	}
	// A user of another namespace gets the answer for an event that does not exist.
	unknown, foreign := other.fails(stranger, "event", "evt_none", url()), other.fails(stranger, "event", "evt_wait_1", url())
	if strings.ReplaceAll(foreign, "evt_wait_1", "evt_none") != unknown {
		t.Errorf("another tenant is told %s, and of no event %s", foreign, unknown)
	}
	if out, errOut := other.run(stranger, "events", url()); strings.Contains(out+errOut, "evt_wait") {
		t.Errorf("another tenant sees %s", fmt.Sprint(out, errOut))
	}
}

func TestDropWaitingDeliveries(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer, editor := n.person("viewer", "view", false), n.person("editor", "edit", false)
	n.throttle("evt_drop_1", "evt_drop_2", "evt_drop_3", "evt_drop_4")
	n.see(editor, []string{"evt_drop_1", "evt_drop_4"}, "events", "--waiting", url())
	if output := n.fails(viewer, "drop", "evt_drop_1", url()); !strings.Contains(output, "may not drop postbackdeliveries.postback.dev in namespace "+n.namespace) {
		t.Errorf("a viewer: %s", output)
	}
	for name, test := range map[string]struct{ arguments, want string }{
		"nothing named":              {"drop", "name deliveries, or --all and --postback"},
		"all, without a Postback":    {"drop --all", "name it with --postback"},
		"all, and one delivery":      {"drop evt_drop_1 --all --postback crm", "name either deliveries, or --all and --postback"},
		"an unknown delivery":        {"drop evt_none", `there is no delivery and no event "evt_none"`},
		"all of an unknown Postback": {"drop --all --postback other", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			if output := n.fails(editor, append(strings.Fields(test.arguments), url())...); !strings.Contains(output, test.want) {
				t.Errorf("%s: %s", test.arguments, output)
			}
		})
	}
	if out, _ := n.run(editor, "drop", "evt_drop_2", url()); !strings.Contains(out, "dropped") {
		t.Errorf("one: %s", out)
	}
	if output := n.fails(editor, "drop", "evt_drop_2", url()); !strings.Contains(output, "there is no delivery") {
		t.Errorf("again: %s", output)
	}
	out, _ := n.run(editor, "events", "--waiting", url())
	if strings.Contains(out, "evt_drop_2") || !strings.Contains(out, "evt_drop_3") {
		t.Errorf("the rest:\n%s", out)
	}
	out, errOut := n.run(editor, "drop", "--all", "--postback", "crm", url())
	if !strings.Contains(out, "3 waiting events dropped.") || !strings.Contains(errOut, "1 unfinished event of it") {
		t.Errorf("all: %s%s", out, errOut)
	}
	if out, _ := n.run(editor, "events", "--waiting", url()); strings.Contains(out, "evt_drop") {
		t.Errorf("after all:\n%s", out)
	}
	// The first event is a PostbackDelivery. Editors cannot delete these.
	if output := n.fails(editor, "drop", "evt_first", url()); !strings.Contains(output, "delete postbackdeliveries") {
		t.Errorf("an editor, an object: %s", output)
	}
	if out, _ := n.run(cp.Kubeconfig, "drop", "evt_first"); !strings.Contains(out, "dropped") {
		t.Errorf("an administrator, an object: %s", out)
	}
	if objects := n.objects(); len(objects) > 0 {
		t.Errorf("%d PostbackDeliveries", len(objects))
	}
	user := "system:serviceaccount:" + n.namespace + ":editor"
	if log := dispatcher.Log(); !strings.Contains(log, `"audit":"DeliveriesDropped"`) || !strings.Contains(log, `"count":3`) || !strings.Contains(log, `"user":"`+user+`"`) {
		t.Error("the log of the dispatcher does not say who dropped them")
	}
	if !await(func() bool {
		events, _, err := cp.Kubectl(n.t.Context(), "", "-n", n.namespace, "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}")
		return err == nil && strings.Contains(events, user+" dropped 3 waiting deliveries")
	}) {
		t.Error("no Kubernetes Event says who dropped them")
	}
}

func TestRedeliverAWaitingDeliveryFirst(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	editor := n.person("editor", "edit", false)
	// The circuit opens: a user's request passes it.
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusServiceUnavailable})
	for i := range 8 {
		n.post(fmt.Sprintf("evt_fails_%d", i), "lead.created")
	}
	if !await(func() bool {
		out, _, err := cp.Kubectl(n.t.Context(), "", "-n", n.namespace, "get", "postback", "crm", "-o", "jsonpath={.status.waiting.reason}")
		return err == nil && out == "CircuitOpen"
	}) {
		t.Fatal("the circuit does not open")
	}
	for i := range 3 {
		n.post(fmt.Sprintf("evt_wait_%d", i), "sale.created")
	}
	n.see(editor, []string{"evt_wait_2"}, "events", "--waiting", url())
	// Its attempt comes before that of the older ones.
	output := n.fails(editor, "redeliver", "evt_wait_2", "--wait", url())
	if !strings.Contains(output, "0 delivered, 1 not delivered") {
		t.Errorf("redelivered:\n%s", output)
	}
	if requests := n.requests(); requests["evt_wait_2"] != 1 {
		t.Errorf("requests by event: %v", requests)
	}
	n.endpoint.Answer(hooks)
	n.see(editor, []string{"evt_wait_0", "evt_wait_1", "evt_wait_2"}, "events", "--event", "sale.created", url())
	if !await(func() bool {
		out, _ := n.run(editor, "events", "--waiting", "--event", "sale.created", url())
		return !strings.Contains(out, "evt_wait")
	}) {
		t.Fatal("they still wait")
	}
	if requests := n.requests(); requests["evt_wait_2"] != 2 {
		t.Errorf("requests by event: %v", requests)
	}
	for _, d := range n.objects() {
		if d.Spec.Event.ID == "evt_wait_2" && d.Status.AttemptCount != 2 {
			t.Errorf("%d attempts are recorded", d.Status.AttemptCount)
		}
	}
	if !strings.Contains(dispatcher.Log(), "Made a PostbackDelivery of a waiting delivery") {
		t.Error("the log of the dispatcher does not say who had it restored")
	}
}

// requests returns the number of requests by event.
func (n *tenant) requests() map[string]int {
	seen := map[string]int{}
	for _, r := range n.endpoint.Requests(hooks) {
		seen[r.ID()]++
	}
	return seen
}
