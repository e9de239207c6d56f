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
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const hooks = "/hooks"

// tenant is a namespace with an endpoint.
type tenant struct {
	t         *testing.T
	namespace string
	endpoint  *receiver.Receiver
	token     string
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// newTenant creates a namespace and an endpoint, which are deleted at the end of the test.
func newTenant(t *testing.T) *tenant {
	t.Helper()
	n := &tenant{t: t, namespace: strings.Trim(notName.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.endpoint, err = receiver.Start(func() []receiver.Secret { return nil }); err != nil {
		t.Fatal(err)
	}
	if n.token, err = op.SenderToken(t.Context(), n.namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			op.DumpLogs(os.Stderr, logLines)
		}
		if err := client.IgnoreNotFound(api.Delete(context.Background(), namespace)); err != nil {
			t.Error(err)
		}
		if err := n.endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// postback creates a Postback for the endpoint and waits until it is Ready.
func (n *tenant) postback(name string, change func(*v1alpha1.PostbackSpec)) *v1alpha1.Postback {
	n.t.Helper()
	p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}}
	p.Spec.URL, p.Spec.Triggers = n.endpoint.URL(hooks), []v1alpha1.Trigger{"lead.created", "sale.*"}
	if change != nil {
		change(&p.Spec)
	}
	if err := api.Create(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, func() error {
		if err := api.Get(n.t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ReadyCondition) {
			return fmt.Errorf("the conditions are %+v", p.Status.Conditions)
		}
		return nil
	})
	return p
}

func (n *tenant) path(name string) string { return "/p/" + n.namespace + "/" + name }

// post posts an event as a producer does.
func (n *tenant) post(id, eventType, data string) {
	n.t.Helper()
	body := fmt.Sprintf(`{"id": %q, "event": %q, "data": %s}`, id, eventType, data)
	url := op.Processes()[1].IngestURL() + "/v1/namespaces/" + n.namespace + "/events"
	eventually(n.t, func() error {
		request, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+n.token)
		request.Header.Set("Content-Type", "application/json")
		response, err := ingest(n.t).Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if answer, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusAccepted {
			return fmt.Errorf("ingest answers %s: %s (%w)", response.Status, answer, err)
		}
		return nil
	})
}

// delivery returns a delivery for a Postback in the form in which the operator would store it.
func delivery(p *v1alpha1.Postback, id, body string) *v1alpha1.PostbackDelivery {
	d := &v1alpha1.PostbackDelivery{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name + "-" + strings.ReplaceAll(id, "_", "-"),
		Labels:          map[string]string{v1alpha1.PostbackLabel: p.Name},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, v1alpha1.GroupVersion.WithKind("Postback"))},
	}}
	d.Spec.PostbackRef = v1alpha1.PostbackReference{Name: p.Name, UID: p.UID}
	d.Spec.Event = v1alpha1.EventReference{ID: id, Type: "lead.created", CreatedAt: metav1.NowMicro()}
	d.Spec.Body = body
	return d
}

// record stores a delivery without a dispatcher.
func (n *tenant) record(p *v1alpha1.Postback, id, body string) *v1alpha1.PostbackDelivery {
	n.t.Helper()
	d := delivery(p, id, body)
	if err := api.Create(n.t.Context(), d); err != nil {
		n.t.Fatal(err)
	}
	return d
}

// wait returns the delivery of an event once ok accepts it.
func (n *tenant) wait(id string, ok func(*v1alpha1.PostbackDelivery) bool) *v1alpha1.PostbackDelivery {
	n.t.Helper()
	var found *v1alpha1.PostbackDelivery
	eventually(n.t, func() error {
		list := &v1alpha1.PostbackDeliveryList{}
		if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if d := &list.Items[i]; d.Spec.Event.ID == id && ok(d) {
				found = d
				return nil
			}
		}
		return fmt.Errorf("event %s is not as wanted", id)
	})
	return found
}

func delivered(d *v1alpha1.PostbackDelivery) bool {
	return d.Status.Phase == v1alpha1.DeliveryDelivered
}

func retrying(d *v1alpha1.PostbackDelivery) bool { return d.Status.Phase == v1alpha1.DeliveryRetrying }

// as returns a client configuration of a user with one of the shipped roles in the namespace.
func (n *tenant) as(role string) *rest.Config {
	n.t.Helper()
	name := "user-" + role
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: n.namespace, Name: name}},
		},
	} {
		if err := api.Create(n.t.Context(), object); err != nil {
			n.t.Fatal(err)
		}
	}
	config, err := op.ControlPlane.ServiceAccountConfig(n.t.Context(), n.namespace, name)
	if err != nil {
		n.t.Fatal(err)
	}
	return config
}
