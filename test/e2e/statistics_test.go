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
	"time"

	"github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/statistics"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestStatistics: two replicas deliver 200 events, and 10 more fail after two attempts each. The statistics count
// them all, although no delivery is kept and both replicas end. A restarted replica continues them, and writes
// nothing while idle.
func TestStatistics(t *testing.T) {
	const half, failures = 100, 10
	n := newTenant(t)
	other := startDispatcher(t, "postback-dispatcher-counts")
	n.postback("crm", "retry: {maxAttempts: 2}")
	for i, replica := range []*operator.Process{dispatcher, other} {
		var events []event
		for j := range half {
			events = append(events, lead(fmt.Sprintf("evt_%d_%d", i, j)))
		}
		if err := n.postAll(replica, events...); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(2 * half)
	// Rejections of single events do not open the circuit, so both attempts are made in time.
	n.endpoint.Answer(hooks, receiver.Times(2*failures, http.StatusUnprocessableEntity))
	for i := range failures {
		n.post(lead(fmt.Sprintf("evt_bad_%d", i)))
	}
	n.wait(2*half + 2*failures)

	terminate(t, other)
	restart(t, dispatcher)
	n.waitReady("crm")
	n.expectStatistics("crm", 220, 200, 200, 10)
	// Retention would keep all deliveries for some minutes, so the test deletes them instead.
	if err := api.DeleteAllOf(t.Context(), &v1alpha1.PostbackDelivery{}, client.InNamespace(n.namespace)); err != nil {
		t.Fatal(err)
	}
	n.expectStatistics("crm", 220, 200, 200, 10)

	// All counts are written, so nothing is left to write. The deletion of another test's namespace would be a write.
	awaitNamespacesGone(t)
	idle := statisticsWrites(t)
	gomega.NewWithT(t).Consistently(func() float64 { return statisticsWrites(t) }).WithTimeout(5 * time.Second).WithPolling(time.Second).Should(gomega.Equal(idle))

	n.post(lead("evt_after"))
	n.wait(2*half + 2*failures + 1)
	restart(t, dispatcher)
	n.waitReady("crm")
	n.expectStatistics("crm", 221, 201, 201, 10)
}

// restart ends a process in order, and starts it again.
func restart(t *testing.T, p *operator.Process) {
	t.Helper()
	terminate(t, p)
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// postAll posts events to a replica in one request.
func (n *tenant) postAll(to *operator.Process, events ...event) error {
	r, err := n.tryPost(n.t.Context(), to, events...)
	if err == nil && r.Status != http.StatusAccepted {
		err = fmt.Errorf("ingest answers %+v", r)
	}
	return err
}

// expectStatistics fails the test unless the statistics of a Postback have these counts, in total and for the last
// day.
func (n *tenant) expectStatistics(name string, attempts, succeeded, delivered, failed int64) {
	n.t.Helper()
	s := &v1alpha1.PostbackStatistics{}
	if err := api.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: name}, s); err != nil {
		n.t.Fatal(err)
	}
	want := v1alpha1.StatisticsTotal{Attempts: attempts, Succeeded: succeeded, Delivered: delivered, Failed: failed}
	if s.Total != want {
		n.t.Errorf("the total is %+v, want %+v", s.Total, want)
	}
	day := statistics.Over(s, time.Now(), 24*time.Hour)
	if got := (v1alpha1.StatisticsTotal{Attempts: day.Attempts, Succeeded: day.Succeeded, Delivered: day.Delivered, Failed: day.Failed}); got != want {
		n.t.Errorf("the day has %+v, want %+v", got, want)
	}
}

// statisticsWrites returns the number of writes of PostbackStatistics since the API server started.
func statisticsWrites(t *testing.T) float64 {
	t.Helper()
	var sum float64
	for _, n := range writesOf(t, "postbackstatistics") {
		sum += n
	}
	return sum
}
