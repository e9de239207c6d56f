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
	"regexp"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestFinishedDeliveriesAreDeleted: the cluster keeps no more finished deliveries than the flag allows. Deliveries
// beyond the history of their Postback are deleted first, oldest first. Unfinished deliveries stay.
func TestFinishedDeliveriesAreDeleted(t *testing.T) {
	onlyKubernetes(t, "TestLogKeepsWhatItsBoundsAllow")
	n := newTenant(t)
	without(t, dispatcher)
	const bound = 20
	// Deliveries of other tests count, too, until their namespaces are gone.
	awaitNamespacesGone(t)
	eventually(t, func() error {
		if left := n.finishedInCluster(); len(left) > 0 {
			namespaces := map[string]int{}
			for i := range left {
				namespaces[left[i].Namespace]++
			}
			return fmt.Errorf("there are %d deliveries of other tests: %v", len(left), namespaces)
		}
		return nil
	})
	small := startDispatcher(t, "postback-dispatcher-small", operator.WithArgs(fmt.Sprintf("--max-finished-deliveries=%d", bound)))
	n.postback("quiet", "triggers: [quiet.*]")
	n.postback("busy", "triggers: [busy.*]", "history: {delivered: 2}")
	n.postback("held", "triggers: [held.*]", "state: Paused")
	send := func(kind string, count int) {
		t.Helper()
		for i := range count {
			if err := n.postTo(event{ID: fmt.Sprintf("%s-%d", kind, i), Type: kind + ".created", Data: []byte(`{}`)}, small); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("quiet", 5)
	send("held", 5)
	n.wait(5)
	// Managed fields have times in seconds: later deliveries must finish in a later second.
	n.tick()
	send("busy", 30)
	n.wait(35)
	n.tick()
	for i := range 10 {
		if err := n.postTo(event{ID: fmt.Sprintf("busy-last-%d", i), Type: "busy.created", Data: []byte(`{}`)}, small); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(45)

	eventually(t, func() error {
		if left := n.finishedInCluster(); len(left) != bound {
			return fmt.Errorf("%d finished deliveries are kept, want %d", len(left), bound)
		}
		return nil
	})
	kept := map[string]int{}
	for id, d := range n.deliveries() {
		kept[d.Spec.PostbackRef.Name]++
		if len(id) > 9 {
			kept["last"]++
		}
	}
	if kept["quiet"] != 5 || kept["held"] != 5 || kept["busy"] != bound-5 || kept["last"] != 10 {
		t.Errorf("kept are %v", kept)
	}
	for series, want := range map[string]string{
		`postback_pruned_deliveries_total{reason="ClusterLimit"}`: "25",
		`postback_finished_deliveries{phase="Delivered"}`:         fmt.Sprint(bound),
	} {
		eventually(t, func() error {
			if got := metric(t, small, series); got != want {
				return fmt.Errorf("%s is %s, want %s", series, got, want)
			}
			return nil
		})
	}
	n.kubectl("patch", "postback", "held", "--type=merge", "-p", `{"spec":{"state":"Enabled"}}`)
	n.wait(50)
}

// tick returns in the next second.
func (n *tenant) tick() {
	n.t.Helper()
	now := time.Now().Truncate(time.Second)
	eventually(n.t, func() error {
		if !time.Now().Truncate(time.Second).After(now) {
			return fmt.Errorf("it is still %s", now)
		}
		return nil
	})
}

// finishedInCluster returns the finished deliveries of all namespaces.
func (n *tenant) finishedInCluster() []v1alpha1.PostbackDelivery {
	n.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(n.t.Context(), list); err != nil {
		n.t.Fatal(err)
	}
	var finished []v1alpha1.PostbackDelivery
	for _, d := range list.Items {
		if d.Status.Phase.Finished() {
			finished = append(finished, d)
		}
	}
	return finished
}

// metric returns the value of a series, or "" if it does not exist.
func metric(t *testing.T, process *operator.Process, series string) string {
	t.Helper()
	content, err := process.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindSubmatch(content)
	if match == nil {
		return ""
	}
	return string(match[1])
}
