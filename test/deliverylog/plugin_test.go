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
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

func TestTheLogIsShownWithTheRest(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_1", "lead.created")
	n.post("evt_2", "sale.created")
	n.see(viewer, []string{"evt_1", "evt_2", "Delivered"}, "events", url())
	if objects := n.objects(); len(objects) > 0 {
		t.Fatalf("what succeeded at once is at the API server: %d", len(objects))
	}
	// The event stays undelivered while the test looks at it.
	n.endpoint.Answer(hooks, receiver.Answer{Status: 422})
	n.post("evt_3", "sale.created")
	out := n.see(viewer, []string{"evt_3", "Retrying"}, "events", "crm", url())
	if a, b, c := strings.Index(out, "evt_3"), strings.Index(out, "evt_2"), strings.Index(out, "evt_1"); a < 0 || a > b || b > c {
		t.Errorf("the newest is not first:\n%s", out)
	}
	out, _ = n.run(viewer, "events", "--event", "lead.created", url())
	if !strings.Contains(out, "evt_1") || strings.Contains(out, "evt_2") || strings.Contains(out, "evt_3") {
		t.Errorf("by the event's type:\n%s", out)
	}
	out, _ = n.run(viewer, "events", "--failed", url())
	if strings.Contains(out, "evt_1") || !strings.Contains(out, "evt_3") {
		t.Errorf("what failed:\n%s", out)
	}
	_, errOut := n.run(viewer, "events", "--limit", "1", url())
	if !strings.Contains(errOut, "see more with --limit") {
		t.Errorf("a part of the delivery log: %s", errOut)
	}
	out, _ = n.run(viewer, "event", "evt_1", url())
	for _, want := range []string{"lead.created", `"amount": 1.50`, "200 Succeeded", "1 attempt"} {
		if !strings.Contains(out, want) {
			t.Errorf("the event does not say %q:\n%s", want, out)
		}
	}
	// The beginning of the id suffices, too.
	n.endpoint.Answer(hooks)
	n.post("long_id_of_an_event", "lead.created")
	n.see(viewer, []string{"long_id_of_an_event"}, "events", url())
	if out, _ := n.run(viewer, "event", "long_id", url()); !strings.Contains(out, "long_id_of_an_event") {
		t.Errorf("by the beginning of its id:\n%s", out)
	}
	if out, _ := n.run(viewer, "describe", "crm", url()); !strings.Contains(out, "evt_1") || strings.Contains(out, "Last success:  never") {
		t.Errorf("the description:\n%s", out)
	}
	if out, _ := n.run(viewer, "list", url()); strings.Contains(out, "never") {
		t.Errorf("the list:\n%s", out)
	}
}

func TestFollow(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_before", "lead.created")
	n.see(viewer, []string{"evt_before"}, "events", url())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errOut lockedBuffer
	command := n.command(ctx, viewer, "events", "crm", "--follow", url())
	command.Stdout, command.Stderr = &out, &errOut
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	shows := func(text string) {
		t.Helper()
		if !await(func() bool { return strings.Contains(out.String(), text) }) {
			t.Fatalf("%q is not shown:\n%s%s", text, out.String(), errOut.String())
		}
	}
	shows("evt_before")
	n.post("evt_logged", "lead.created")
	shows("evt_logged")
	n.endpoint.Answer(hooks, receiver.Answer{Status: 503, Times: 1})
	n.post("evt_failing", "lead.created")
	shows("evt_failing")
	n.post("evt_logged_again", "lead.created")
	shows("evt_logged_again")
	cancel()
	if err := command.Wait(); err != nil && ctx.Err() == nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "evt_logged "); n != 1 {
		t.Errorf("evt_logged is shown %d times:\n%s", n, out.String())
	}
}

// lockedBuffer is a buffer that a process writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestRedeliverALoggedDelivery(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer, editor := n.person("viewer", "view", false), n.person("editor", "edit", false)
	n.post("evt_1", "lead.created")
	n.see(editor, []string{"evt_1"}, "events", url())
	// A viewer cannot redeliver.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output, err := n.command(ctx, viewer, "redeliver", "evt_1", url()).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "may not patch postbackdeliveries.postback.dev in namespace "+n.namespace) {
		t.Errorf("a viewer: %v\n%s", err, output)
	}
	if objects := n.objects(); len(objects) > 0 {
		t.Errorf("a viewer has made %d PostbackDeliveries", len(objects))
	}
	out, _ := n.run(editor, "redeliver", "evt_1", "--wait", url())
	if !strings.Contains(out, "1 delivered, 0 not delivered") {
		t.Errorf("redelivered:\n%s", out)
	}
	requests, err := n.endpoint.Wait(ctx, hooks, 2)
	if err != nil || len(requests) != 2 || !bytes.Equal(requests[0].Body, requests[1].Body) || requests[0].Header.Get("Webhook-Id") != requests[1].Header.Get("Webhook-Id") {
		t.Fatalf("got %d requests, %v, of other bytes or another id", len(requests), err)
	}
	objects := n.objects()
	if len(objects) != 1 || objects[0].Status.AttemptCount != 2 || len(objects[0].Status.Attempts) != 2 || objects[0].Status.Phase != v1alpha1.DeliveryDelivered {
		t.Fatalf("there are %+v", objects)
	}
	// The delivery is in the delivery log and at the API server. It is shown once, with both attempts.
	out, _ = n.run(editor, "events", url())
	if strings.Count(out, "evt_1") != 1 {
		t.Errorf("it is shown more than once:\n%s", out)
	}
	if out, _ := n.run(editor, "redeliver", "evt_1", "--wait", url()); !strings.Contains(out, "1 delivered") {
		t.Errorf("once more:\n%s", out)
	}
	if !strings.Contains(dispatcher.Log(), `"audit":"DeliveryRestored"`) || !strings.Contains(dispatcher.Log(), `"user":"system:serviceaccount:`+n.namespace+`:editor"`) {
		t.Error("the log of the dispatcher does not say who had it restored")
	}
}
