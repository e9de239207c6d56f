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

package install

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestChartForMoreAndMoreNamespaces goes from one named namespace to two, and to all, by the value of the chart. A
// Postback in an added namespace is Ready only once every replica serves it.
func TestChartForMoreAndMoreNamespaces(t *testing.T) {
	const added = "partner-globex"
	c := newCluster(t)
	upgrade := func(namespaces ...string) {
		t.Helper()
		watched := fmt.Sprintf(`watchNamespaces=["%s"]`, strings.Join(namespaces, `","`))
		if len(namespaces) == 0 {
			watched = "watchNamespaces=[]"
		}
		_, err := helm(t, c.cp.Kubeconfig, "upgrade", "--install", "postback", chart(), "--namespace", operator.Namespace, "--set-json", watched,
			"--set", "image.tag="+oldVersion+",image.registry="+registry+",ingest.certificate.source=External")
		if err != nil {
			t.Fatal(err)
		}
	}
	roles := func(namespace string) string {
		t.Helper()
		return c.kubectl("-n", namespace, "get", "roles", "-o", "name")
	}
	c.kubectl("create", "namespace", operator.Namespace)
	c.kubectl("create", "namespace", added)
	c.externalCertificate()
	upgrade(tenant)
	c.roll()
	c.postback()
	c.send("evt_one")
	c.waitDelivered("evt_one", oldVersion)
	c.kubectlWith(fmt.Sprintf("apiVersion: postback.dev/v1alpha1\nkind: Postback\nmetadata: {name: crm, namespace: %s}\nspec: {url: %s, triggers: [lead.*]}\n", added, c.url), "apply", "-f", "-")

	upgrade(tenant, added)
	c.managers = c.rollPart("manager", c.managers, c.op.StartManager)
	reason := func() string {
		return c.kubectl("-n", added, "get", "postback", "crm", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`)
	}
	c.eventually(func() error {
		if got := reason(); got != v1alpha1.WaitingForDispatcherReason {
			return fmt.Errorf("the Postback of the added namespace is %q", got)
		}
		return nil
	})
	// A newer route that the replicas do load does not mean that they have loaded this one.
	c.kubectl("-n", tenant, "patch", "postback", "crm", "--type=merge", "-p", `{"spec":{"triggers":["lead.*","sale.*"]}}`)
	c.kubectl("-n", tenant, "wait", "--for=jsonpath={.status.observedGeneration}=2", "postback/crm", "--timeout="+patience.String())
	c.waitReady()
	if got := reason(); got != v1alpha1.WaitingForDispatcherReason {
		t.Errorf("with dispatchers that do not watch its namespace, the Postback is %q", got)
	}
	c.roll()
	c.kubectl("-n", added, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "postback/crm")
	if got := roles(added); got != "role.rbac.authorization.k8s.io/postback-dispatcher-watched\nrole.rbac.authorization.k8s.io/postback-manager-watched\n" {
		t.Errorf("the Roles of the added namespace are %q", got)
	}

	upgrade()
	c.roll()
	for _, namespace := range []string{tenant, added} {
		if got := roles(namespace); got != "" {
			t.Errorf("in namespace %s there are %q", namespace, got)
		}
	}
	c.waitReady()
	c.send("evt_all")
	c.waitDelivered("evt_all", oldVersion)
}
