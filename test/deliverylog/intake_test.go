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

package deliverylog

import (
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// While NATS is unavailable, the plugin shows the PostbackDeliveries.
func TestWithoutNATS(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	viewer := n.person("viewer", "view", false)
	n.post("evt_1", "lead.created")
	n.see(viewer, []string{"evt_1"}, "events", url())
	if err := servers.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if errOut := n.incomplete(viewer, "events", url()); !strings.Contains(errOut, "could not be read") {
		t.Errorf("it says %s", errOut)
	}
	if err := servers.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.see(viewer, []string{"evt_1"}, "events", url())
}

// A dispatcher with the intake of the API server withdraws the announcement.
func TestBackToKubernetes(t *testing.T) {
	other, err := op.StartDispatcher(t.Context(), "postback-dispatcher-1")
	if err != nil {
		t.Fatal(err)
	}
	if !await(func() bool {
		return apierrors.IsNotFound(api.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.IntakeLeaseName}, &coordinationv1.Lease{}))
	}) {
		t.Fatal("the Lease is still there")
	}
	if code, err := other.Terminate(t.Context()); code != 0 || err != nil {
		t.Errorf("it ends with %d, %v", code, err)
	}
}
