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
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// In the steady state neither the manager nor the dispatcher writes anything. The test counts the API server's
// requests, except for Leases, which show that a replica is alive.
func TestSteadyStateMakesNoWrites(t *testing.T) {
	g := gomega.NewWithT(t)
	awaitNamespacesGone(t)
	n := newTenant(t)
	n.postback("crm", "triggers: [lead.created]", "headers: [{name: X-Tenant, value: acme}]")
	n.postback("failing", "triggers: [sale.created]")
	n.kubectl("patch", "postback", "failing", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"url":%q}}`, n.endpoint.URL("/fails")))
	n.waitReady("failing")
	n.endpoint.Answer("/fails", receiver.Answer{Status: http.StatusInternalServerError})
	n.kubectl("annotate", "postback", "crm", v1alpha1.RotateSecretAnnotation+"=1", v1alpha1.SendTestAnnotation+"=lead.created")
	n.post(lead("evt_steady"))
	n.post(event{ID: "evt_failing", Type: "sale.created", Data: []byte("{}")})
	n.waitPhase("evt_steady", v1alpha1.DeliveryDelivered, 1)
	n.waitPhase("evt_failing", v1alpha1.DeliveryRetrying, 2)

	// The count may rise until the work is done. Then it must stay longer than any loop of the programs pauses. The
	// next retry is due after 2m28s.
	last, since := writes(t), time.Now()
	g.Eventually(func() time.Duration {
		if now := writes(t); !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
		return time.Since(since)
	}).WithTimeout(patience).WithPolling(200 * time.Millisecond).Should(gomega.BeNumerically(">", 8*time.Second))
}

// awaitNamespacesGone waits until the namespaces of other tests are deleted, because their deletion causes writes.
func awaitNamespacesGone(t *testing.T) {
	t.Helper()
	gomega.NewWithT(t).Eventually(func() ([]string, error) {
		list := &corev1.NamespaceList{}
		if err := api.List(t.Context(), list); err != nil {
			return nil, err
		}
		var going []string
		for i := range list.Items {
			if list.Items[i].DeletionTimestamp != nil {
				going = append(going, list.Items[i].Name)
			}
		}
		return going, nil
	}).WithTimeout(4 * patience).WithPolling(200 * time.Millisecond).Should(gomega.BeEmpty())
}

// writes returns the number of writes of each kind that the operator may write. It omits Leases, and
// PostbackStatistics, which follow attempts within a minute and are counted by TestStatistics.
func writes(t *testing.T) map[string]float64 {
	t.Helper()
	return writesOf(t, "postbacks", "postbacksecrets", "postbackdeliveries", "secrets", "events")
}

// writesOf returns the number of write requests for objects of some resources.
func writesOf(t *testing.T, resources ...string) map[string]float64 {
	t.Helper()
	clientset, err := kubernetes.NewForConfig(cp.Config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := clientset.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := map[string]float64{}
	for _, metric := range parse(t, bytes.NewReader(text))["apiserver_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, label := range metric.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		switch labels["verb"] {
		case "POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION", "APPLY":
			if resource := labels["resource"]; slices.Contains(resources, resource) {
				sum[labels["verb"]+" "+resource+"/"+labels["subresource"]] += metric.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func parse(t *testing.T, text io.Reader) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// Foreign Secrets enter no cache: 10,000 of them, 40 MiB in total, do not show in the memory of the programs.
func TestForeignSecretsEnterNoCache(t *testing.T) {
	const (
		count   = 10_000
		size    = 4 << 10
		workers = 16
		// bound is well below the size of the data.
		bound = 20 << 20
	)
	g := gomega.NewWithT(t)
	n := newTenant(t)
	n.postback("crm")
	before := map[string]float64{"manager": resident(t, manager), "dispatcher": resident(t, dispatcher)}

	numbers := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range numbers {
				secret := &corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: fmt.Sprintf("foreign-%d", i)},
					Data:       map[string][]byte{"data": bytes.Repeat([]byte("x"), size)},
				}
				if err := api.Create(t.Context(), secret); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range count {
		numbers <- i
	}
	close(numbers)
	group.Wait()

	// Once a change has passed through both programs, they have seen all earlier objects.
	n.kubectl("patch", "postback", "crm", "--type=merge", "-p", `{"spec":{"displayName":"changed"}}`)
	n.waitReady("crm")
	n.post(lead("evt_after"))
	n.waitPhase("evt_after", v1alpha1.DeliveryDelivered, 1)
	for name, process := range map[string]*operator.Process{"manager": manager, "dispatcher": dispatcher} {
		after := resident(t, process)
		t.Logf("%s: %.1f MiB before, %.1f MiB beside %d foreign Secrets", name, before[name]/(1<<20), after/(1<<20), count)
		g.Expect(after-before[name]).To(gomega.BeNumerically("<", bound), name)
	}
}

// resident returns the resident memory of a process in bytes.
func resident(t *testing.T, process *operator.Process) float64 {
	t.Helper()
	content, err := process.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	memory := parse(t, bytes.NewReader(content))["process_resident_memory_bytes"].GetMetric()
	if len(memory) != 1 {
		t.Fatalf("%d values of process_resident_memory_bytes", len(memory))
	}
	return memory[0].GetGauge().GetValue()
}
