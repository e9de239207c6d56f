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
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"600"}}})
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
