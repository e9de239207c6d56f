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

package httpapi

import (
	"context"
	"net/http"
	"testing"

	"github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

// denying makes the API server deny the deliveries of one Postback by a policy, and returns once the policy is in
// force.
func denying(t *testing.T, c client.Client, namespace string, r *route.Route, message string, reason *metav1.StatusReason) {
	t.Helper()
	name := "deny-" + namespace
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{"postback.dev"}, APIVersions: []string{"*"}, Resources: []string{"postbackdeliveries"}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: "object.spec.postbackRef.name != '" + r.Name + "'", Message: message, Reason: reason}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        name,
			ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace},
			}},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Delete(context.Background(), object); err != nil {
				t.Error(err)
			}
		})
	}
	probe, err := delivery.New(namespace, v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, v1alpha1.FormatJSON,
		&event.Event{ID: "probe", Type: "lead.created", Data: []byte(`{}`), CreatedAt: testNow})
	if err != nil {
		t.Fatal(err)
	}
	gomega.NewWithT(t).Eventually(func() string {
		if err := c.Create(t.Context(), probe.DeepCopy(), client.DryRunAll); err != nil {
			return err.Error()
		}
		return ""
	}, "60s", "50ms").Should(gomega.ContainSubstring(message), "the policy is not in force")
}

func TestPolicyDenies(t *testing.T) {
	forbidden, tooLarge := metav1.StatusReasonForbidden, metav1.StatusReasonRequestEntityTooLarge
	for name, reason := range map[string]*metav1.StatusReason{"by default": nil, "as Forbidden": &forbidden, "as too large": &tooLarge} {
		t.Run(name, func(t *testing.T) {
			c := doors.Client(t, cp.Config)
			namespace := doors.Namespace(t, c, "ingest-")
			crm, other := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.PostbackRoute(t, c, namespace, "other", "both")
			denying(t, c, namespace, crm, "crm takes no events this week", reason)
			options, _ := testOptions(limitedClient(t, c), crm, other)
			recorder := events.NewFakeRecorder(10)
			options.acceptance.Events = recorder
			server := testServer(t, options)

			refused := accept.DeliveryResult{
				Postback: "crm", Result: intake.Refused, Reason: intake.PolicyDenied,
				Message: "ValidatingAdmissionPolicy 'deny-" + namespace + "' with binding 'deny-" + namespace + "' denied request: crm takes no events this week",
			}
			got := post(t, server.URL, namespace, `{"id":"evt_for_crm","event":"lead.created","data":{}}`)
			expect(t, got, http.StatusUnprocessableEntity, []accept.DeliveryResult{refused})
			if got.Type != "urn:postback:problem:delivery-refused" || got.header.Get("Retry-After") != "" {
				t.Errorf("Retry-After %q, %s", got.header.Get("Retry-After"), got.raw)
			}
			gomega.NewWithT(t).Eventually(recorder.Events, "1m").Should(gomega.Receive(gomega.And(
				gomega.ContainSubstring("Warning DeliveryRefused"), gomega.ContainSubstring("crm takes no events this week"))))
			expect(t, post(t, server.URL, namespace, `{"id":"evt_for_both","event":"both","data":{}}`), http.StatusAccepted,
				[]accept.DeliveryResult{refused, {Postback: "other", Delivery: nameOf(other, "evt_for_both"), Result: intake.Stored}})
		})
	}
}
