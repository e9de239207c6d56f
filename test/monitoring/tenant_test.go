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
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// These are the paths of an endpoint that accepts events, and of one that does not.
const (
	takes   = "/takes"
	refuses = "/refuses"
)

// tenant is a namespace with two Postbacks, one of them failing, their endpoint, and a producer.
type tenant struct {
	namespace, token string
	endpoint         *receiver.Receiver
}

func newTenant(t *testing.T, name string) *tenant {
	t.Helper()
	n := &tenant{namespace: name}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := api.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.endpoint, err = receiver.Start(func() []receiver.Secret { return nil }); err != nil {
		t.Fatal(err)
	}
	n.endpoint.Answer(refuses, receiver.Answer{Status: http.StatusServiceUnavailable})
	if n.token, err = op.SenderToken(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			op.DumpLogs(os.Stderr, 60)
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

// postback creates a Postback for an event type, and waits until it is Ready.
func (n *tenant) postback(t *testing.T, name, trigger, path string) {
	t.Helper()
	manifest := fmt.Sprintf(`apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: %s}
spec: {url: %q, triggers: [%s]}
`, name, n.endpoint.URL(path), trigger)
	if _, _, err := cp.Kubectl(t.Context(), manifest, "apply", "-n", n.namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cp.Kubectl(t.Context(), "", "wait", "-n", n.namespace, "--for=condition=Ready", "--timeout=3m", "postback/"+name); err != nil {
		t.Fatal(err)
	}
}

// post posts a body to the shared dispatcher, and returns the status code of the response.
func (n *tenant) post(t *testing.T, token, body string) int {
	t.Helper()
	return n.postTo(t, dispatcher, token, body, http.Header{})
}

func (n *tenant) postTo(t *testing.T, to *operator.Process, token, body string, header http.Header) int {
	t.Helper()
	url := to.IngestURL() + "/v1/namespaces/" + n.namespace + "/events"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header.Clone()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

// work causes events to be delivered, to fail, to be skipped and to be refused.
func (n *tenant) work(t *testing.T) {
	t.Helper()
	n.postback(t, "taking", "lead.created", takes)
	n.postback(t, "refusing", "sale.created", refuses)
	for i, c := range []struct {
		token, body string
		status      int
	}{
		{n.token, `[{"event":"lead.created","data":{}},{"event":"lead.created","data":{}},{"event":"order.created","data":{}}]`, http.StatusAccepted},
		{n.token, `{"event":"sale.created","data":{}}`, http.StatusAccepted},
		{n.token, `{"event":"lead.created"}`, http.StatusBadRequest},
		{"not-a-token", `{"event":"lead.created","data":{}}`, http.StatusUnauthorized},
	} {
		if got := n.post(t, c.token, c.body); got != c.status {
			t.Errorf("request %d: the answer is %d, want %d", i, got, c.status)
		}
	}
	gomega.NewWithT(t).Eventually(func() (map[v1alpha1.DeliveryPhase]int, error) {
		list := &v1alpha1.PostbackDeliveryList{}
		phases := map[v1alpha1.DeliveryPhase]int{}
		err := api.List(t.Context(), list, client.InNamespace(n.namespace))
		for i := range list.Items {
			phases[list.Items[i].Status.Phase]++
		}
		return phases, err
	}).WithTimeout(patience).Should(gomega.Equal(map[v1alpha1.DeliveryPhase]int{v1alpha1.DeliveryDelivered: 2, v1alpha1.DeliveryRetrying: 1}))
}

// remove deletes the namespace and waits until it is gone.
func (n *tenant) remove(t *testing.T) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace}}
	if err := api.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	gomega.NewWithT(t).Eventually(func() bool {
		return apierrors.IsNotFound(api.Get(t.Context(), types.NamespacedName{Name: n.namespace}, namespace))
	}).WithTimeout(2 * patience).Should(gomega.BeTrue())
}
