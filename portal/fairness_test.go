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

package portal

import (
	"io"
	"net/http"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const level = "postback-portal"

// flood is a partner who takes all seats of the level: each request keeps its seat, because its body does not end.
type flood struct {
	t      *testing.T
	client *http.Client
	url    string
	bodies []*io.PipeWriter
}

func newFlood(t *testing.T, namespace string) *flood {
	t.Helper()
	config, err := cp.ServiceAccountConfig(t.Context(), namespace, ServiceAccount("editor"))
	if err != nil {
		t.Fatal(err)
	}
	// One connection for each request, as by many clients.
	config.NextProtos = []string{"http/1.1"}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &flood{t: t, client: client, url: config.Host + "/apis/postback.dev/v1alpha1/namespaces/" + namespace + "/postbacks"}
	t.Cleanup(func() { f.end(len(f.bodies)) })
	return f
}

// add sends n more requests.
func (f *flood) add(n int) {
	for range n {
		read, write := io.Pipe()
		f.bodies = append(f.bodies, write)
		request, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url, read)
		if err != nil {
			f.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		go func() {
			if response, err := f.client.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		}()
	}
}

// end ends the bodies of the first n requests.
func (f *flood) end(n int) {
	for _, body := range f.bodies[:n] {
		_ = body.Close()
	}
	f.bodies = f.bodies[n:]
}

func inLevel(t *testing.T, metric string) float64 {
	t.Helper()
	return apiServerMetric(t, metric, map[string]string{"priority_level": level})
}

// TestOnePartnerDoesNotStarveTheOthers: while one partner has all seats of the visitors' level and a full queue, the
// later request of another partner overtakes that queue.
func TestOnePartnerDoesNotStarveTheOthers(t *testing.T) {
	g := gomega.NewWithT(t)
	greedy, modest := partner(t, "greedy-acme"), partner(t, "modest-acme")
	other := newFlood(t, modest)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, other.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFlood(t, greedy)
	// The number of seats varies between 23 and 92, because levels lend and borrow; the queues hold 200. A request waits for 15
	// seconds at most, so all of them are sent at once.
	const sent, waiting = 240, 100
	f.add(sent)
	g.Eventually(func() float64 { return inLevel(t, "apiserver_flowcontrol_current_inqueue_requests") }).
		WithTimeout(patience).Should(gomega.BeNumerically(">=", waiting))
	answered := make(chan *http.Response, 1)
	go func() {
		defer close(answered)
		if response, err := other.client.Do(request); err == nil {
			answered <- response
		}
	}()
	var response *http.Response
	freed := 0
	g.Eventually(func() *http.Response {
		select {
		case response = <-answered:
		default: // One more seat becomes free.
			f.end(1)
			freed++
		}
		return response
	}).WithTimeout(patience).WithPolling(pollEvery).ShouldNot(gomega.BeNil())
	defer response.Body.Close()
	left := inLevel(t, "apiserver_flowcontrol_current_inqueue_requests")
	if response.StatusCode != http.StatusOK || left == 0 {
		t.Errorf("the other partner is answered with %s, after %d seats became free, when %v requests of the greedy one waited", response.Status, freed, left)
	}
	if got := levelOf(t, response); got != level {
		t.Errorf("the request of a visitor is in the level %s", got)
	}
}

// levelOf returns the priority level of an answered request.
func levelOf(t *testing.T, response *http.Response) string {
	t.Helper()
	levels := &flowcontrolv1.PriorityLevelConfigurationList{}
	if err := api.List(t.Context(), levels); err != nil {
		t.Fatal(err)
	}
	for i := range levels.Items {
		if string(levels.Items[i].UID) == response.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID) {
			return levels.Items[i].Name
		}
	}
	t.Fatalf("the answer %s names no level", response.Status)
	return ""
}

// TestOnlyVisitorsAreInTheLevel: neither the operator nor the reviews of the portal wait for the requests of visitors.
func TestOnlyVisitorsAreInTheLevel(t *testing.T) {
	acme := partner(t, "level-acme")
	const postbacks = "/apis/postback.dev/v1alpha1/namespaces/level-acme/postbacks"
	for name, test := range map[string]struct {
		namespace, account, path, level string
	}{
		"a visitor":              {acme, ServiceAccount("viewer"), postbacks, level},
		"the manager":            {"postback-system", "postback-manager", postbacks, "workload-low"},
		"the dispatcher":         {"postback-system", "postback-dispatcher", postbacks, "workload-low"},
		"a controller":           {acme, ServiceAccount("viewer"), "/apis/postback.dev/v1alpha1/postbacks", "workload-low"},
		"the portal":             {"postback-portal", "postback-portal", "/api/v1/namespaces/postback-portal/configmaps", "workload-low"},
		"other kinds of objects": {acme, ServiceAccount("viewer"), "/api/v1/namespaces/level-acme/secrets", "workload-low"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.namespace == "postback-system" {
				account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: test.namespace, Name: test.account}}
				if err := api.Create(t.Context(), account); err != nil {
					t.Fatal(err)
				}
			}
			config, err := cp.ServiceAccountConfig(t.Context(), test.namespace, test.account)
			if err != nil {
				t.Fatal(err)
			}
			c, err := rest.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := c.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if got := levelOf(t, response); got != test.level {
				t.Errorf("the level is %s, want %s", got, test.level)
			}
		})
	}
}
