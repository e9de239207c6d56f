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

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// unavailable answers 503 to the next n requests, or to all following ones if n is 0.
func unavailable(n int) receiver.Answer {
	return receiver.Answer{Status: http.StatusServiceUnavailable, Body: "down for maintenance", Times: n}
}

func TestSendTest(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", "triggers: [lead.created, order.*]")
	condition := func(token, reason string) {
		t.Helper()
		eventually(t, func() error {
			p := n.getPostback("crm")
			c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.TestEventCondition)
			if p.Status.LastHandledSendTest != token || c == nil || c.Reason != reason {
				return fmt.Errorf("lastHandledSendTest is %q and the condition %+v; want %q and reason %s", p.Status.LastHandledSendTest, c, token, reason)
			}
			return nil
		})
	}

	n.kubectl("annotate", "postback", "crm", "postback.dev/send-test=lead.created/1")
	condition("lead.created/1", v1alpha1.TestEventStoredReason)
	first := n.wait(1)[0]
	if !first.Verified() || !strings.Contains(string(first.Body), `"event":"lead.created"`) || !strings.Contains(string(first.Body), `"click"`) {
		t.Errorf("the test event verified by %v and %v: %s", first.StandardWebhooks, first.Dub, first.Body)
	}
	if d := n.waitPhase(first.ID(), v1alpha1.DeliveryDelivered, 1); !d.Spec.Test || d.Spec.Body != string(first.Body) {
		t.Errorf("the test event is recorded as %+v", d.Spec)
	}

	n.kubectl("annotate", "--overwrite", "postback", "crm", "postback.dev/send-test=sale.created/2")
	condition("sale.created/2", v1alpha1.TestEventNotSubscribedReason)
	eventually(t, func() error {
		if events := n.kubectl("events", "--for", "postback/crm", "--types=Warning"); !strings.Contains(events, "sale.created") {
			return fmt.Errorf("kubectl events prints %q", events)
		}
		return nil
	})

	n.kubectl("patch", "postback", "crm", "--type=merge", "-p", `{"spec":{"state":"Paused"}}`)
	n.kubectl("annotate", "--overwrite", "postback", "crm", "postback.dev/send-test=order.shipped/3")
	condition("order.shipped/3", v1alpha1.TestEventStoredReason)
	if requests := n.wait(2); len(requests) != 2 || !requests[1].Verified() {
		t.Errorf("received %d requests, the second verified by %v", len(requests), requests[1].StandardWebhooks)
	}
	// One delivery per accepted test event is expected.
	n.waitDelivered(2)
}

func TestRedeliver(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	n.post(lead("evt_1"))
	d := n.object(n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 1), dispatcher)
	n.kubectl("annotate", "postbackdelivery", d.Name, "postback.dev/redeliver=1")
	n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 2)
	n.kubectl("annotate", "--overwrite", "postbackdelivery", d.Name, "postback.dev/redeliver=2")
	d = n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 3)
	checkSame(t, n.wait(3), d)

	// The redelivery comes at once, in the middle of retries, not in two minutes.
	n.endpoint.Answer(hooks, unavailable(2))
	n.post(lead("evt_2"))
	d = n.waitPhase("evt_2", v1alpha1.DeliveryRetrying, 2)
	due := d.Status.NextAttemptTime.Time
	n.kubectl("annotate", "postbackdelivery", d.Name, "postback.dev/redeliver=now")
	d = n.waitPhase("evt_2", v1alpha1.DeliveryDelivered, 3)
	if at := d.Status.Attempts[2].Time.Time; !at.Before(due) {
		t.Errorf("the redelivery came at %s, not before the retry that was due at %s", at, due)
	}
	checkSame(t, n.wait(6)[3:], d)
}

// checkSame compares the requests of one event with each other and with the record.
func checkSame(t *testing.T, requests []receiver.Request, d *v1alpha1.PostbackDelivery) {
	t.Helper()
	for i := range requests {
		r := &requests[i]
		if r.ID() != d.Spec.Event.ID || !bytes.Equal(r.Body, []byte(d.Spec.Body)) || !r.Verified() {
			t.Errorf("request %d carries %s with body %s, verified by %v and %v", i+1, r.ID(), r.Body, r.StandardWebhooks, r.Dub)
		}
	}
}

func TestPausedAndDisabled(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", "state: Paused")
	if r := n.post(lead("evt_paused")); r.result() != "Stored" {
		t.Errorf("ingest answers %+v", r)
	}
	n.waitPhase("evt_paused", v1alpha1.DeliveryPending, 0)

	n.setState("crm", "Disabled")
	if r := n.post(lead("evt_disabled")); r.result() != "Skipped" || r.Events[0].Deliveries[0].Reason == "" {
		t.Errorf("ingest answers %+v", r)
	}
	n.setState("crm", "Enabled")
	n.waitPhase("evt_paused", v1alpha1.DeliveryDelivered, 1)
	n.post(lead("evt_enabled"))
	n.waitPhase("evt_enabled", v1alpha1.DeliveryDelivered, 1)
	var ids []string
	for _, r := range n.wait(2) {
		ids = append(ids, r.ID())
	}
	if !slices.Equal(ids, []string{"evt_paused", "evt_enabled"}) {
		t.Errorf("received %v", ids)
	}
}

// setState changes spec.state and waits until the change is in force.
func (n *tenant) setState(name, state string) {
	n.t.Helper()
	n.kubectl("patch", "postback", name, "--type=merge", "-p", `{"spec":{"state":"`+state+`"}}`)
	// As kstatus demands, wait until the conditions describe this generation.
	eventually(n.t, func() error {
		p := n.getPostback(name)
		if p.Status.ObservedGeneration != p.Generation || !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ReadyCondition) {
			return fmt.Errorf("generation %d of Postback %s is not ready: %+v", p.Generation, name, p.Status)
		}
		return nil
	})
}

func TestRotate(t *testing.T) {
	n := newTenant(t)
	n.kubectlWith("apiVersion: postback.dev/v1alpha1\nkind: PostbackSecret\nmetadata: {name: shared}\nspec: {rotation: {overlap: 1h}}\n", "apply", "-f", "-")
	p := n.postback("crm", "secretRef: {name: shared}")
	check := func(id string, standard, dub []string) {
		t.Helper()
		n.post(lead(id))
		n.waitPhase(id, v1alpha1.DeliveryDelivered, 1)
		requests := n.endpoint.Requests(hooks)
		if r := requests[len(requests)-1]; !slices.Equal(r.StandardWebhooks, standard) || !slices.Equal(r.Dub, dub) {
			t.Errorf("event %s verified by %v and %v, want %v and %v", r.ID(), r.StandardWebhooks, r.Dub, standard, dub)
		}
	}
	version := func(version string) {
		t.Helper()
		n.kubectl("wait", "--for=jsonpath={.status.version}="+version, "--timeout="+patience.String(), "postbacksecret/shared")
	}
	check("evt_1", []string{"shared/1"}, []string{"shared/1"})

	n.kubectl("annotate", "postbacksecret", "shared", "postback.dev/rotate-secret=first")
	version("2")
	n.waitSignedWith(p, "shared/2", "shared/1")
	check("evt_2", []string{"shared/1", "shared/2"}, []string{"shared/2"})

	n.kubectl("annotate", "postback", "crm", "postback.dev/rotate-secret=second")
	version("3")
	n.waitSignedWith(p, "shared/3", "shared/2", "shared/1")
	check("evt_3", []string{"shared/1", "shared/2", "shared/3"}, []string{"shared/3"})

	// A key has leaked: rotate at once, without overlap.
	n.kubectl("patch", "postbacksecret", "shared", "--type=merge", "-p", `{"spec":{"rotation":{"overlap":"0s"}}}`)
	n.waitSignedWith(p, "shared/3")
	check("evt_4", []string{"shared/3"}, []string{"shared/3"})
	n.kubectl("wait", "--for=condition=Ready", "--timeout="+patience.String(), "postbacksecret/shared", "postback/crm")
}
