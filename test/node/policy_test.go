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

package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TestNetworkPolicyIsEnforced applies the shipped policies. Events can be posted, only some namespaces can read
// metrics, and an endpoint in the cluster is unreachable until another policy permits it.
func TestNetworkPolicyIsEnforced(t *testing.T) {
	const shipped, endpoint = "../../config/network-policy", "testdata/egress-policy.yaml"
	mustKubectl(t, "", "apply", "-k", shipped)
	t.Cleanup(func() {
		_, err := kubectl(context.Background(), "", "delete", "--ignore-not-found", "-k", shipped)
		if err != nil {
			t.Error(err)
		}
		if _, err := kubectl(context.Background(), "", "delete", "--ignore-not-found", "-f", endpoint); err != nil {
			t.Error(err)
		}
	})
	// Policies do not apply to existing connections, so the Pods are restarted.
	mustKubectl(t, "", "-n", system, "rollout", "restart", "deployment/postback-dispatcher", "deployment/postback-manager")
	rolledOut(t, "postback-dispatcher")
	rolledOut(t, "postback-manager")

	metrics := podIP(t, "postback-dispatcher") + ":8082"
	if connects(t, "kept-out", metrics) {
		t.Error("the policy lets a namespace without the label metrics=enabled at the metrics")
	}
	mustKubectl(t, "", "label", "namespace", partner, "metrics=enabled")
	if !connects(t, "let-in", metrics) {
		t.Error("the policy keeps a namespace with the label metrics=enabled from the metrics")
	}

	p := production{name: "policy", events: 1, tries: postTries, rate: 1}
	p.start(t)
	if produced := p.finish(t, patience); produced.Accepted != 1 {
		t.Fatalf("the event was not accepted under the policies: %+v", produced)
	}
	await(t, patience, func(ctx context.Context) error { return keptBack(ctx, p.name+"-0") })
	mustKubectl(t, "", "apply", "-f", endpoint)
	began := time.Now()
	p.arrived(t, 4*time.Minute) // The second attempt comes after 12 s, the third 2m28s later.
	figure("after a policy opened the way, the event came in", time.Since(began))
}

// keptBack returns nil once an attempt of an event has failed because its packets were dropped.
func keptBack(ctx context.Context, event string) error {
	var list v1alpha1.PostbackDeliveryList
	if err := api.List(ctx, &list, client.InNamespace(partner)); err != nil {
		return err
	}
	for i := range list.Items {
		d := &list.Items[i]
		if d.Spec.Event.ID != event || len(d.Status.Attempts) == 0 {
			continue
		}
		if outcome := d.Status.Attempts[0].Outcome; outcome != v1alpha1.OutcomeTimeout {
			return fmt.Errorf("the outcome is %s", outcome)
		}
		return nil
	}
	return fmt.Errorf("no attempt of %s has ended", event)
}

func podIP(t *testing.T, part string) string {
	t.Helper()
	found, err := pods(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	if found = ready(found); len(found) == 0 {
		t.Fatalf("no Pod of %s is ready", part)
	}
	return found[0].Status.PodIP
}

// connects reports whether a Pod of the partner can connect to an address.
func connects(t *testing.T, name, address string) bool {
	t.Helper()
	pod := workload(name, "connect", "--address="+address)
	if err := api.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return ended(t, pod, patience) == corev1.PodSucceeded
}
