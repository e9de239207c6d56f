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

package config

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	foreignOwner = `{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "3f2a4b4e-0000-4000-8000-000000000001"}]}}`
	onlyOperator = "only the operator"
	// owners begins the answers of the policy, and of an admission plugin that some clusters have.
	owners = "ownerRef"
	// noRight is the answer of RBAC.
	noRight = "cannot "
)

// made creates a Postback, a PostbackSecret and a delivery, as the platform and the operator do.
func (n *tenant) made() (postback, secret, delivery *unstructured.Unstructured) {
	n.t.Helper()
	postback = n.postback(`{}`)
	postback.SetName("made")
	postback.SetFinalizers([]string{v1alpha1.RouteFinalizer})
	secret = n.object("PostbackSecret", "made", map[string]any{"spec": map[string]any{}})
	secret.SetLabels(v1alpha1.OwnLabels())
	// The garbage collector would delete the key of an owner that does not exist.
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: "owner"}}
	n.create(owner)
	secret.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}})
	delivery = n.object("PostbackDelivery", "made", map[string]any{"spec": decoded(n.t, `{
		"postbackRef": {"name": "made", "uid": "3f2a4b4e-0000-4000-8000-000000000003"},
		"event": {"id": "evt_1", "type": "lead.created", "createdAt": "2026-11-01T00:00:00.000000Z"}, "format": "JSON", "body": "{}"}`)})
	delivery.SetLabels(map[string]string{v1alpha1.PostbackLabel: "made"})
	for _, o := range []*unstructured.Unstructured{postback, secret, delivery} {
		n.create(o)
	}
	return postback, secret, delivery
}

// TestPartnersChangeNothingOfTheOperator tries the metadata, subresources and fields that the operator relies on.
func TestPartnersChangeNothingOfTheOperator(t *testing.T) {
	n := newTenant(t, "hostile", nil)
	postback, secret, delivery := n.made()
	for _, test := range []struct {
		name    string
		object  client.Object
		patch   string
		message string
	}{
		{"block the deletion of a Postback", postback, `{"metadata": {"finalizers": ["postback.dev/route", "evil.example/stay"]}}`, "metadata.finalizers: " + onlyOperator},
		{"delete a Postback without its route", postback, `{"metadata": {"finalizers": null}}`, "metadata.finalizers: " + onlyOperator},
		{"block the deletion of a key", secret, `{"metadata": {"finalizers": ["evil.example/stay"]}}`, "metadata.finalizers: " + onlyOperator},
		{"block the deletion of a delivery", delivery, `{"metadata": {"finalizers": ["evil.example/stay"]}}`, "metadata.finalizers: " + onlyOperator},
		{"take a key from its Postback", secret, `{"metadata": {"ownerReferences": null}}`, owners},
		{"have a key collected", secret, foreignOwner, owners},
		{"have a delivery collected", delivery, foreignOwner, owners},
		{"hand a key to no operator", secret, `{"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}`, "metadata.labels: " + onlyOperator + " may change the label app.kubernetes.io/managed-by"},
		{"pose as another Postback's request for a key", secret, `{"metadata": {"annotations": {"postback.dev/rotate-secret-from-postback": "x"}}}`, "metadata.annotations: " + onlyOperator},
		{"hide a delivery from its Postback", delivery, `{"metadata": {"labels": {"postback.dev/postback": "other"}}}`, "metadata.labels: " + onlyOperator + " may change the label postback.dev/postback"},
		{"remove the labels of a delivery", delivery, `{"metadata": {"labels": null}}`, "metadata.labels: " + onlyOperator},
		{"defer a delivery", delivery, `{"metadata": {"annotations": {"postback.dev/deferred": "true"}}}`, "metadata.annotations: " + onlyOperator + " may change the annotation postback.dev/deferred"},
		{"redeliver without a turn", delivery, `{"metadata": {"annotations": {"postback.dev/redeliver-from-postback": "x"}}}`, "metadata.annotations: " + onlyOperator},
		{"fill a delivery with annotations", delivery, `{"metadata": {"annotations": {"evil.example/x": "x"}}}`, "metadata.annotations: " + onlyOperator},
		{"change the body of a delivery", delivery, `{"spec": {"body": "{\"forged\": true}"}}`, "is immutable"},
		{"change the Postback of a delivery", delivery, `{"spec": {"postbackRef": {"name": "other", "uid": "3f2a4b4e-0000-4000-8000-000000000004"}}}`, "is immutable"},
		{"redeliver", delivery, `{"metadata": {"annotations": {"postback.dev/redeliver": "1"}}}`, ""},
		{"rotate by the key", secret, `{"metadata": {"annotations": {"postback.dev/rotate-secret": "1"}}}`, ""},
		{"rotate by the Postback", postback, `{"metadata": {"annotations": {"postback.dev/rotate-secret": "1"}}}`, ""},
		{"send a test event", postback, `{"metadata": {"annotations": {"postback.dev/send-test": "lead.created/1"}}}`, ""},
		{"redeliver since a time", postback, `{"metadata": {"annotations": {"postback.dev/redeliver-since": "24h/1"}}}`, ""},
		{"label a Postback of theirs", postback, `{"metadata": {"labels": {"team": "sales"}}}`, ""},
		{"change the overlap of a key", secret, `{"spec": {"rotation": {"overlap": "1h"}}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, author := range []string{portalEditor, kubectlEditor} {
				t.Run("by the "+author, func(t *testing.T) {
					o, ok := test.object.DeepCopyObject().(client.Object)
					if !ok {
						t.Fatal("it is no object")
					}
					expect(t, n.authors[author].Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(test.patch)), client.DryRunAll), test.message)
				})
			}
			o, ok := test.object.DeepCopyObject().(client.Object)
			if !ok {
				t.Fatal("it is no object")
			}
			for _, author := range []string{portalViewer, portalKeyReader} {
				t.Run("not by the "+author, func(t *testing.T) {
					expect(t, n.authors[author].Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(test.patch)), client.DryRunAll), noRight+"patch")
				})
			}
		})
	}
	t.Run("a Postback with a finalizer from the start", func(t *testing.T) {
		o := n.postback(`{}`)
		o.SetFinalizers([]string{"evil.example/stay"})
		expect(t, n.authors[portalEditor].Create(t.Context(), o), "metadata.finalizers: "+onlyOperator)
	})
	t.Run("status", func(t *testing.T) {
		for _, o := range []*unstructured.Unstructured{postback, secret, delivery} {
			for author, c := range n.authors {
				t.Run("of a "+o.GetKind()+" by the "+author, func(t *testing.T) {
					err := c.Status().Patch(t.Context(), o.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"status": {"conditions": []}}`)))
					if err == nil {
						t.Error("the status is written")
					}
				})
			}
		}
	})
}

// TestPartnersReachNothingElse tries objects of others, with each role.
func TestPartnersReachNothingElse(t *testing.T) {
	n, other := newTenant(t, "reach-acme", nil), newTenant(t, "reach-beta", nil)
	postback, secret, delivery := other.made()
	own := n.object("PostbackDelivery", "forged", map[string]any{"spec": delivery.Object["spec"]})
	for author, c := range n.authors {
		t.Run(author, func(t *testing.T) {
			for _, o := range []*unstructured.Unstructured{postback, secret, delivery} {
				expect(t, c.Get(t.Context(), client.ObjectKeyFromObject(o), o.DeepCopy()), noRight+"get")
				expect(t, c.Patch(t.Context(), o.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"annotations": {"postback.dev/redeliver": "1"}}}`))), noRight+"patch")
				expect(t, c.Delete(t.Context(), o.DeepCopy()), noRight+"delete")
				list := &unstructured.UnstructuredList{}
				list.SetGroupVersionKind(o.GroupVersionKind())
				expect(t, c.List(t.Context(), list), noRight+"list")
				expect(t, c.List(t.Context(), list, client.InNamespace(other.namespace)), noRight+"list")
			}
			expect(t, c.Create(t.Context(), other.postback(`{}`)), noRight+"create")
			expect(t, c.Create(t.Context(), own.DeepCopy()), noRight+"create")
			expect(t, c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(installNamespace)), noRight+"list")
			expect(t, c.Get(t.Context(), client.ObjectKey{Namespace: installNamespace, Name: "postback-rules"}, &corev1.ConfigMap{}), noRight+"get")
			expect(t, n.try(c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: installNamespace, Name: "postback-rules"}}, `{"data": {"secrets": "*"}}`), noRight+"patch")
			expect(t, n.try(c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace}}, `{"metadata": {"labels": {"x": "y"}}}`), noRight+"patch")
		})
	}
}

// TestPartnersMakeNotTooMuch: the quota of the sample bounds what a partner makes.
func TestPartnersMakeNotTooMuch(t *testing.T) {
	n := newTenant(t, "quota", nil)
	kubectl(t, "", "apply", "-n", n.namespace, "-f", "samples/resourcequota.yaml")
	quota := &corev1.ResourceQuota{}
	if err := n.admin.Get(t.Context(), client.ObjectKey{Namespace: n.namespace, Name: "postbacks"}, quota); err != nil {
		t.Fatal(err)
	}
	// The controller of quotas, which this control plane lacks, begins with these counts.
	quota.Status.Hard, quota.Status.Used = quota.Spec.Hard, corev1.ResourceList{}
	for name := range quota.Spec.Hard {
		quota.Status.Used[name] = resource.MustParse("0")
	}
	if err := n.admin.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	n.acceptedSoon(portalEditor, `{}`)
	for range quota.Spec.Hard.Name("count/postbacks.postback.dev", "").Value() {
		expect(t, n.authors[portalEditor].Create(t.Context(), n.postback(`{}`)), "")
	}
	expect(t, n.authors[portalEditor].Create(t.Context(), n.postback(`{}`)), "exceeded quota: postbacks")
}
