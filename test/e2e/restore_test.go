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
	"errors"
	"fmt"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// backedUp returns the objects of a namespace as Velero creates them in another one, in its order: Secrets first,
// then by kind. UIDs, owner references, finalizers and status are gone.
func (n *tenant) backedUp(into string) []client.Object {
	n.t.Helper()
	var objects []client.Object
	secrets, deliveries := &corev1.SecretList{}, &v1alpha1.PostbackDeliveryList{}
	postbacks, postbackSecrets := &v1alpha1.PostbackList{}, &v1alpha1.PostbackSecretList{}
	for _, list := range []client.ObjectList{secrets, deliveries, postbacks, postbackSecrets} {
		if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
			n.t.Fatal(err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, ok := item.(client.Object)
			if !ok {
				return fmt.Errorf("%T is no object", item)
			}
			object.SetNamespace(into)
			object.SetUID("")
			object.SetResourceVersion("")
			object.SetGeneration(0)
			object.SetCreationTimestamp(metav1.Time{})
			object.SetOwnerReferences(nil)
			object.SetFinalizers(nil)
			object.SetManagedFields(nil)
			objects = append(objects, object)
			return nil
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return objects
}

// TestRestoredNamespace: a namespace is restored from a backup without UIDs, owner references and status. Receivers
// keep their keys, and newly accepted events are delivered. Deliveries from the backup are sent only on request.
func TestRestoredNamespace(t *testing.T) {
	n := newTenant(t)
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusBadRequest})
	n.postback("crm", "retry: {maxAttempts: 1}", "triggers: [lead.created]")
	n.postback("gone", "retry: {maxAttempts: 1}", "triggers: [sale.created]")
	n.post(lead("evt_before"))
	n.waitPhase("evt_before", v1alpha1.DeliveryFailed, 1)
	sale := lead("evt_gone")
	sale.Type = "sale.created"
	n.post(sale)
	n.waitPhase("evt_gone", v1alpha1.DeliveryFailed, 1)
	n.kubectl("annotate", "postback", "crm", v1alpha1.RotateSecretAnnotation+"=1")
	n.kubectl("wait", "--for=jsonpath={.status.version}=2", "--timeout="+patience.String(), "postbacksecret/crm")
	n.waitReady("crm")
	key := n.key("crm/2")

	t.Run("restored", func(t *testing.T) {
		m := newTenant(t)
		for _, object := range n.backedUp(m.namespace) {
			if _, ok := object.(*v1alpha1.Postback); ok && object.GetName() == "gone" {
				continue
			}
			if p, ok := object.(*v1alpha1.Postback); ok {
				p.Spec.URL = m.endpoint.URL(hooks)
			}
			// Velero skips existing objects: the manager may have created the PostbackSecret of a restored Postback
			// first.
			if err := api.Create(t.Context(), object); client.IgnoreAlreadyExists(err) != nil {
				t.Fatal(err)
			}
		}
		m.waitReady("crm")
		if m.key("crm/2") != key {
			t.Error("receivers do not know the key")
		}
		// An event accepted now is delivered, even if the backup had a delivery of the same event.
		for _, id := range []string{"evt_after", "evt_before"} {
			if result := m.post(lead(id)).result(); result != "Stored" {
				t.Errorf("event %s is %s", id, result)
			}
		}
		m.wait(2)

		restored := func() *v1alpha1.PostbackDelivery {
			list := &v1alpha1.PostbackDeliveryList{}
			if err := api.List(t.Context(), list, client.InNamespace(m.namespace), client.MatchingLabels{v1alpha1.RestoredLabel: "true"}); err != nil {
				t.Fatal(err)
			}
			for i := range list.Items {
				if d := &list.Items[i]; d.Spec.Event.ID == "evt_before" {
					return d
				}
			}
			return nil
		}
		eventually(t, func() error {
			d := restored()
			if d == nil {
				return errors.New("the delivery is not adopted")
			}
			return checkReason(d, v1alpha1.RestoredReason)
		})
		d := restored()
		if d.Status.AttemptCount != 0 || !metav1.IsControlledBy(d, m.getPostback("crm")) {
			t.Errorf("%d attempts, owners %v", d.Status.AttemptCount, d.OwnerReferences)
		}
		eventually(t, func() error {
			list := &v1alpha1.PostbackDeliveryList{}
			if err := api.List(t.Context(), list, client.InNamespace(m.namespace), client.MatchingFields{"spec.event.id": "evt_gone"}); err != nil {
				return err
			}
			if len(list.Items) != 1 {
				return fmt.Errorf("%d deliveries of the Postback that is gone", len(list.Items))
			}
			return checkReason(&list.Items[0], v1alpha1.PostbackNotFoundReason)
		})
		if requests := m.endpoint.Requests(hooks); len(requests) != 2 {
			t.Errorf("%d requests, want the two events that were accepted", len(requests))
		}
		// A user requests the redelivery.
		m.kubectl("annotate", "pbd", "-l", v1alpha1.RestoredLabel+"=true", v1alpha1.RedeliverAnnotation+"=1")
		m.wait(3)
		eventually(t, func() error {
			if d := restored(); d == nil || d.Status.Phase != v1alpha1.DeliveryDelivered {
				return errors.New("the delivery that somebody asked for is not delivered")
			}
			return nil
		})
	})
}

func checkReason(d *v1alpha1.PostbackDelivery, reason string) error {
	delivered := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.DeliveredCondition)
	if delivered == nil || delivered.Reason != reason {
		return fmt.Errorf("conditions %+v, want the reason %s", d.Status.Conditions, reason)
	}
	return nil
}
