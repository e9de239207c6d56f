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

package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestAuditLines does each audited action, and checks that it is logged once, with the required fields.
func TestAuditLines(t *testing.T) {
	g := gomega.NewWithT(t)
	n := newTenant(t, "audited")
	kubectl := func(args ...string) {
		t.Helper()
		if _, _, err := cp.Kubectl(t.Context(), "", append([]string{"-n", n.namespace}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(process *operator.Process, action string, fields map[string]any) {
		t.Helper()
		g.Eventually(func() []map[string]any { return n.auditLines(process, action, fields) }).WithTimeout(patience).Should(gomega.HaveLen(1), "%s %v in:\n%v", action, fields, n.auditLines(process, action, nil))
	}
	n.postback(t, "audited", "lead.created", takes)
	expect(manager, audit.KeyMadeAction, map[string]any{"cause": "First", "version": 1.0})
	expect(manager, audit.RoutePublishedAction, map[string]any{"generation": 1.0, "state": "Enabled"})

	kubectl("annotate", "postback", "audited", v1alpha1.RotateSecretAnnotation+"=audit-rotation")
	expect(manager, audit.RotationRequestedAction, map[string]any{"request": "audit-rotation"})
	expect(manager, audit.KeyMadeAction, map[string]any{"cause": "Requested", "version": 2.0, "previousKeys": 1.0})
	kubectl("patch", "postbacksecret", "audited", "--type=merge", "-p", `{"spec":{"rotation":{"overlap":"0s"}}}`)
	expect(manager, audit.KeyEndedAction, map[string]any{"count": 1.0})

	kubectl("patch", "postback", "audited", "--type=merge", "-p", `{"spec":{"state":"Paused"}}`)
	expect(manager, audit.StateChangedAction, map[string]any{"was": "Enabled", "state": "Paused"})
	kubectl("patch", "postback", "audited", "--type=merge", "-p", `{"spec":{"state":"Enabled"}}`)
	expect(manager, audit.StateChangedAction, map[string]any{"was": "Paused", "state": "Enabled"})

	kubectl("annotate", "postback", "audited", v1alpha1.SendTestAnnotation+"=lead.created/audit-test")
	expect(manager, audit.TestEventAction, map[string]any{"request": "lead.created/audit-test", "eventType": "lead.created"})
	if status := n.post(t, n.token, `{"id":"evt_audited","event":"lead.created","data":{}}`); status != http.StatusAccepted {
		t.Fatalf("the answer is %d", status)
	}
	name := n.delivered(t, "evt_audited")
	kubectl("annotate", "postbackdelivery", name, v1alpha1.RedeliverAnnotation+"=audit-again")
	expect(dispatcher, audit.RedeliveredAction, map[string]any{"request": "audit-again", "msg": "Attempted"})
	kubectl("annotate", "postback", "audited", v1alpha1.RedeliverSinceAnnotation+"=1h/audit-all")
	expect(manager, audit.RedeliverySinceAction, map[string]any{"request": "1h/audit-all", "reason": v1alpha1.RedeliveryRequestedReason})

	kubectl("create", "secret", "generic", "kept", "--from-literal=secret=whsec_ZXhhbXBsZSBleGFtcGxlIGV4YW1wbGUgZXhhbXBsZSE=")
	manifest := fmt.Sprintf("apiVersion: postback.dev/v1alpha1\nkind: PostbackSecret\nmetadata:\n  name: kept\n  annotations: {%s: audit-refused}\nspec: {source: External}\n",
		v1alpha1.RotateSecretAnnotation)
	if _, _, err := cp.Kubectl(t.Context(), manifest, "-n", n.namespace, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	expect(manager, audit.RotationRefusedAction, map[string]any{"request": "audit-refused"})

	kubectl("delete", "postback", "audited", "--timeout=3m")
	expect(manager, audit.RouteRemovedAction, nil)
}

// delivered returns the name of an event's delivery once it is Delivered.
func (n *tenant) delivered(t *testing.T, id string) (name string) {
	t.Helper()
	gomega.NewWithT(t).Eventually(func() (v1alpha1.DeliveryPhase, error) {
		list := &v1alpha1.PostbackDeliveryList{}
		if err := api.List(t.Context(), list, client.InNamespace(n.namespace)); err != nil {
			return "", err
		}
		for i := range list.Items {
			if d := &list.Items[i]; d.Spec.Event.ID == id {
				name = d.Name
				return d.Status.Phase, nil
			}
		}
		return "", nil
	}).WithTimeout(patience).Should(gomega.Equal(v1alpha1.DeliveryDelivered))
	return name
}

// auditLines returns the log lines of an action on an object of the namespace with certain fields.
func (n *tenant) auditLines(process *operator.Process, action string, fields map[string]any) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(process.Log()) {
		entry := map[string]any{}
		if json.Unmarshal([]byte(line), &entry) != nil || entry[audit.Key] != action || entry["level"] != "info" || !n.about(entry) {
			continue
		}
		same := true
		for key, want := range fields {
			same = same && entry[key] == want
		}
		if same {
			found = append(found, entry)
		}
	}
	return found
}

// about reports whether a log line names an object of the namespace.
func (n *tenant) about(entry map[string]any) bool {
	if entry["namespace"] == n.namespace {
		return true
	}
	object, _ := entry["postback"].(map[string]any)
	return object["namespace"] == n.namespace
}
