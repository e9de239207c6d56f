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
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// A tenant sees no delivery of other tenants, whatever the query.
func TestTenantsSeeTheirOwn(t *testing.T) {
	one, other := newTenant(t), newTenant(t)
	one.postback("crm")
	other.postback("crm")
	viewer, all := one.person("viewer", "view", false), one.person("all", "view", true)
	one.post("evt_one", "lead.created")
	other.post("evt_other", "lead.created")
	one.see(all, []string{"evt_one", "evt_other"}, "events", "-A", url())
	one.see(viewer, []string{"evt_one"}, "events", url())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, args := range map[string][]string{
		"events of all namespaces":       {"events", "-A"},
		"events of another namespace":    {"events", "-n", other.namespace},
		"one event of another namespace": {"event", "evt_other", "-n", other.namespace},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.CommandContext(ctx, filepath.Join(op.Dir, "kubectl-postback"), append(args, "--kubeconfig", viewer, url())...)
			if output, err := command.CombinedOutput(); err == nil || strings.Contains(string(output), "evt_other ") {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// announce sets the URL of ingest on the intake's Lease until the test ends, as an administrator and the demo do.
func announce(t *testing.T, ingestURL string) {
	t.Helper()
	annotate := func(ctx context.Context, annotation string) {
		if out, errOut, err := cp.Kubectl(ctx, "", "-n", operator.Namespace, "annotate", "lease", v1alpha1.IntakeLeaseName, annotation); err != nil {
			t.Fatal(out, errOut, err)
		}
	}
	annotate(t.Context(), v1alpha1.IngestURLAnnotation+"="+ingestURL)
	t.Cleanup(func() { annotate(context.Background(), v1alpha1.IngestURLAnnotation+"-") })
}

// The Lease announces a delivery log, so users who cannot read it get an error.
func TestWhoCannotReadTheLogIsTold(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	n.post("evt_1", "lead.created")
	viewer := n.person("viewer", "view", false)
	// There is no port-forward, and the viewer may not create one.
	if errOut := n.incomplete(viewer, "events"); !strings.Contains(errOut, "name --ingest-url") || strings.Contains(errOut, "No events") {
		t.Errorf("without a way to a dispatcher: %s", errOut)
	}
	if errOut := n.incomplete(viewer, "event", "evt_1"); !strings.Contains(errOut, "could not be read") {
		t.Errorf("an event that may be in the delivery log: %s", errOut)
	}
	// The administrator announces the URL of ingest.
	announce(t, dispatcher.IngestURL())
	n.see(viewer, []string{"evt_1"}, "events")
	if out, errOut := n.run(viewer, "events"); errOut != "" {
		t.Errorf("who can read it is told %s\n%s", errOut, out)
	}
}

// A user with a client certificate in the kubeconfig, as from kind, k3s or kubeadm, sees every event without a flag.
func TestAClientCertificateReadsTheLog(t *testing.T) {
	other, err := op.StartDispatcher(t.Context(), "postback-dispatcher-tls", operator.WithTLS(), operator.WithArgs("--intake=jetstream", "--nats-url="+servers.URL()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := other.Terminate(context.Background()); err != nil {
			t.Error(err)
		}
	})
	n := newTenant(t)
	n.postback("crm")
	n.post("evt_1", "lead.created")
	// The URL replaces a port-forward, which needs a kubelet. "make demo INTAKE=jetstream KEEP=1" does the same.
	announce(t, other.IngestURL())
	n.see(cp.Kubeconfig, []string{"evt_1"}, "events")
	n.see(cp.Kubeconfig, []string{"evt_1", "Delivered"}, "event", "evt_1")
	n.see(cp.Kubeconfig, []string{"The delivery log can be read"}, "doctor")
	n.console(cp.Kubeconfig).see("/p/"+n.namespace+"/crm", "evt_1")
}
