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

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TestNetworkPolicyIsEnforced keeps a sender out and lets another in, and then keeps the dispatcher from an endpoint: what
// it could not deliver arrives when it may again.
func TestNetworkPolicyIsEnforced(t *testing.T) {
	mustKubectl(t, "", "apply", "-f", "testdata/stranger.yaml", "-f", "testdata/ingress-policy.yaml")
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "-n", system, "delete", "networkpolicy", "--ignore-not-found", "test-ingress", "test-egress"); err != nil {
			t.Error(err)
		}
	})
	if !posts(t, "policy-partner", partner) {
		t.Error("the policy keeps out the namespace that it lets in")
	}
	if posts(t, "policy-kept-out", "stranger") {
		t.Error("the policy lets in a namespace that it keeps out")
	}
	mustKubectl(t, "", "-n", system, "delete", "networkpolicy", "test-ingress")
	if !posts(t, "policy-let-in", "stranger") {
		t.Error("the sender is kept out without a policy")
	}

	// Connections that are there already are not asked about, so that the dispatcher begins anew, under the policy.
	mustKubectl(t, "", "apply", "-f", "testdata/egress-policy.yaml")
	mustKubectl(t, "", "-n", system, "rollout", "restart", "deployment/postback-dispatcher")
	rolledOut(t, "postback-dispatcher")
	p := production{name: "policy-egress", events: 1, tries: postTries, rate: 1}
	p.start(t)
	if produced := p.finish(t, patience); produced.Accepted != 1 {
		t.Fatalf("the event was not accepted: %+v", produced)
	}
	await(t, patience, func(ctx context.Context) error {
		var list v1alpha1.PostbackDeliveryList
		if err := api.List(ctx, &list, client.InNamespace(partner)); err != nil {
			return err
		}
		for i := range list.Items {
			d := &list.Items[i]
			if d.Spec.Event.ID == p.name+"-0" && d.Status.Phase == v1alpha1.DeliveryRetrying && len(d.Status.Attempts) > 0 {
				figure("outcome of an attempt that a policy keeps back", d.Status.Attempts[0].Outcome)
				return nil
			}
		}
		return fmt.Errorf("no attempt of the event has failed: %d deliveries", len(list.Items))
	})
	mustKubectl(t, "", "-n", system, "delete", "networkpolicy", "test-egress")
	began := time.Now()
	p.arrived(t, 4*time.Minute) // The next attempt comes after 12s, the one after it after 2m28s.
	figure("and it arrived after the policy had gone in", time.Since(began))
}

// posts reports whether a producer in a namespace gets an event accepted.
func posts(t *testing.T, name, namespace string) bool {
	t.Helper()
	p := production{namespace: namespace, name: name, events: 1, tries: 3, rate: 1}
	p.start(t)
	return p.finish(t, patience).Accepted == 1
}
