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
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestBacklogOfAThrottledEndpoint: with the JetStream intake, each delivery for an endpoint that asked to wait is one
// message. status.backlog and kubectl show their number. Each is delivered once, and not before the requested time.
func TestBacklogOfAThrottledEndpoint(t *testing.T) {
	onlyJetStream(t)
	t.Parallel()
	// The status is written at most every 30 seconds.
	const many, pause = 200, 75 * time.Second
	n := newTenant(t)
	n.postback("crm")
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {fmt.Sprint(int(pause.Seconds()))}}})
	n.post(lead("evt_first"))
	n.wait(1)
	asked := time.Now()
	n.waitHealth("crm", metav1.ConditionFalse, "Throttled")
	for i := range many {
		n.post(lead(fmt.Sprintf("evt_%d", i)))
	}
	eventually(t, func() error { return n.hasBacklog("crm", many) })
	if oldest := n.getPostback("crm").Status.Backlog.OldestTime; oldest == nil || oldest.Time.Before(asked.Add(-time.Minute)) || oldest.After(time.Now().Add(time.Second)) {
		t.Errorf("the oldest was accepted at %s", oldest)
	}
	if wide := n.kubectl("get", "postbacks", "crm", "-o", "wide"); !strings.Contains(wide, fmt.Sprint(many)) {
		t.Errorf("kubectl shows no backlog:\n%s", wide)
	}
	if objects := n.objects(); objects > 50 {
		t.Errorf("%d PostbackDeliveries", objects)
	}
	gomega.NewWithT(t).Eventually(func() int { return len(n.endpoint.Requests(hooks)) }).
		WithTimeout(pause + patience).WithPolling(100 * time.Millisecond).Should(gomega.BeNumerically(">=", many+2))
	requests := n.wait(many + 2)
	seen := map[string]int{}
	for _, r := range requests[1:] {
		if r.Time.Before(asked.Add(pause - 2*time.Second)) {
			t.Fatalf("a request %s after the endpoint asked to wait", r.Time.Sub(asked))
		}
		seen[r.Header.Get("webhook-id")]++
	}
	for i := range many {
		if id := fmt.Sprintf("evt_%d", i); seen[id] != 1 {
			t.Errorf("%s came %d times", id, seen[id])
		}
	}
	eventually(t, func() error { return n.hasBacklog("crm", 0) })
}

// hasBacklog returns an error unless status.backlog of a Postback has this number of deliveries.
func (n *tenant) hasBacklog(name string, deliveries int64) error {
	if got := n.getPostback(name).Status.GetBacklog(); got != deliveries {
		return fmt.Errorf("status.backlog has %d deliveries, want %d", got, deliveries)
	}
	return nil
}
