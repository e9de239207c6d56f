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
	"fmt"
	"net/http"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestRedeliverSince redelivers all events that a faulty receiver refused, by one annotation. The manager is killed
// meanwhile.
func TestRedeliverSince(t *testing.T) {
	n := newTenant(t)
	n.postback("crm", "retry: {maxAttempts: 1}")
	n.post(lead("evt_before"))
	n.waitPhase("evt_before", v1alpha1.DeliveryDelivered, 1)

	const lost = 250
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusBadRequest})
	for i := range lost {
		n.post(lead(fmt.Sprintf("evt_%d", i)))
	}
	n.wait(1 + lost)
	phase := func(want v1alpha1.DeliveryPhase, attempts int32) {
		t.Helper()
		eventually(t, func() error {
			for id, d := range n.deliveries() {
				if id != "evt_before" && (d.Status.Phase != want || d.Status.AttemptCount != attempts) {
					return fmt.Errorf("event %s is %s after %d attempts, not %s after %d", id, d.Status.Phase, d.Status.AttemptCount, want, attempts)
				}
			}
			return nil
		})
	}
	phase(v1alpha1.DeliveryFailed, 1)

	n.endpoint.Answer(hooks)
	n.kubectl("annotate", "postback", "crm", "postback.dev/redeliver-since=1h/1")
	eventually(t, func() error {
		if r := n.getPostback("crm").Status.Redelivery; r == nil || r.Request != "1h/1" || r.Requested == 0 {
			return fmt.Errorf("status.redelivery is %+v", r)
		}
		return nil
	})
	if err := manager.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := manager.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.kubectl("wait", "--for=condition=Redelivery", "--timeout="+patience.String(), "postback/crm")
	redelivery := n.getPostback("crm").Status.Redelivery
	// Deliveries that the killed manager marked but did not count may be delivered before the next manager lists
	// them.
	if redelivery.Requested > lost || redelivery.Requested < lost-100 || redelivery.CompletionTime == nil || redelivery.Since == nil {
		t.Errorf("status.redelivery is %+v", redelivery)
	}
	phase(v1alpha1.DeliveryDelivered, 2)
	arrived := map[string]int{}
	for _, r := range n.endpoint.Requests(hooks) {
		arrived[r.ID()]++
	}
	for id, times := range arrived {
		if want := map[bool]int{true: 1, false: 2}[id == "evt_before"]; times != want {
			t.Errorf("event %s arrived %d times, want %d", id, times, want)
		}
	}
	if len(arrived) != lost+1 {
		t.Errorf("%d events arrived", len(arrived))
	}
	for id, d := range n.deliveries() {
		if got := d.Status.LastHandledRedeliverFromPostback; id != "evt_before" && got != "1h/1" {
			t.Errorf("event %s has handled %q", id, got)
		}
	}

	n.kubectl("annotate", "--overwrite", "postback", "crm", "postback.dev/redeliver-since=yesterday")
	n.kubectl("wait", "--for=jsonpath={.status.conditions[?(@.type=='Redelivery')].reason}=Invalid", "--timeout="+patience.String(), "postback/crm")
}
