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
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestInstaller installs the output of "make build-installer" by kubectl, upgrades, rolls back and uninstalls.
func TestInstaller(t *testing.T) {
	c := newCluster(t)
	before := c.inventory()
	apply := func(version string) {
		path := filepath.Join(t.TempDir(), "install.yaml")
		if err := os.WriteFile(path, []byte(installer(t, version, registry)), 0o600); err != nil {
			t.Fatal(err)
		}
		c.kubectl("apply", "-f", path)
	}
	apply(oldVersion)
	c.checkNamespace()
	c.roll()
	c.postback()
	c.checkPublishedAuthority()
	c.use(func() { apply(newVersion) }, func() { apply(oldVersion) })

	// As docs/operations.md says, delete the Postbacks first, while the manager runs.
	c.kubectl("delete", "postbacks", "--all", "--all-namespaces", "--timeout=3m")
	c.stop()
	c.kubectlWith(installer(t, oldVersion, registry), "delete", "-f", "-", "--timeout=3m")
	c.kubectl("delete", "namespace", tenant, "--timeout=3m")
	c.nothingLeft(before, tenant)
}

// TestChart does the same by Helm, with a user's own certificate, and installs again with the kept objects.
func TestChart(t *testing.T) {
	c := newCluster(t)
	before := c.inventory()
	helm := func(args ...string) {
		t.Helper()
		if _, err := helm(t, c.cp.Kubeconfig, append(args, "--namespace", operator.Namespace)...); err != nil {
			t.Fatal(err)
		}
	}
	set := func(version string) []string {
		return []string{"postback", chart(), "--set", "image.tag=" + version + ",image.registry=" + registry + ",ingest.certificate.source=External"}
	}
	c.kubectl("create", "namespace", operator.Namespace)
	c.kubectl("label", "namespace", operator.Namespace, "pod-security.kubernetes.io/enforce=restricted")
	c.externalCertificate()
	helm(append([]string{"install"}, set(oldVersion)...)...)
	c.checkNamespace()
	c.roll()
	c.postback()
	c.use(func() { helm(append([]string{"upgrade"}, set(newVersion)...)...) }, func() { helm("rollback", "postback", "1") })

	// Helm keeps the CustomResourceDefinitions, the objects of tenants, and the objects with a finalizer of the
	// operator.
	helm("uninstall", "postback")
	c.stop()
	c.onlyKept(before)

	// A release of the same name adopts the kept objects.
	helm(append([]string{"install"}, set(oldVersion)...)...)
	c.roll()
	c.waitReady()
	c.send("evt_again")
	c.waitDelivered("evt_again", oldVersion)

	// This time the operator is removed first, so nothing removes the finalizers: docs/operations.md says how.
	helm("uninstall", "postback")
	c.stop()
	c.kubectl("delete", "namespace", operator.Namespace, "--timeout=3m")
	c.kubectl("delete", "postbacks", "--all", "--all-namespaces", "--wait=false")
	c.releaseFinalizers()
	c.kubectl("delete", "crd", "postbacks.postback.dev", "postbacksecrets.postback.dev", "postbackdeliveries.postback.dev",
		"postbackstatistics.postback.dev", "--timeout=3m")
	c.kubectl("delete", "namespace", tenant, "--timeout=3m")
	c.nothingLeft(before, tenant)
}

// TestServerTakesTheWholeChart lets the API server validate every field of each object in the chart whose kind it
// serves.
func TestServerTakesTheWholeChart(t *testing.T) {
	c := newCluster(t)
	manifests := render(t, operator.Namespace, everything()...)
	c.kubectl("create", "namespace", operator.Namespace)
	c.kubectl("create", "namespace", "postback-portal")
	asked := map[string]bool{}
	for _, document := range strings.Split("\n"+manifests, "\n---\n") {
		kind := kindOf(t, document)
		if kind == "" || slices.Contains([]string{"Certificate", "ServiceMonitor", "PodMonitor", "PrometheusRule"}, kind) {
			continue
		}
		asked[kind] = true
		c.kubectlWith(document, "apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
	}
	for _, kind := range []string{"CustomResourceDefinition", "Deployment", "NetworkPolicy", "FlowSchema", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ConfigMap", "ClusterRole"} {
		if !asked[kind] {
			t.Errorf("there was no %s", kind)
		}
	}
}

func kindOf(t *testing.T, document string) string {
	t.Helper()
	for name := range objects(t, document) {
		kind, _, _ := strings.Cut(name, " ")
		return kind
	}
	return ""
}

// use posts events while the versions change: one version delivers what the other has stored.
func (c *cluster) use(upgrade, rollBack func()) {
	c.t.Helper()
	// The endpoint is unavailable during the change, so the old version cannot deliver the event.
	unavailable := receiver.Answer{Status: 503}
	c.send("evt_old")
	c.waitDelivered("evt_old", oldVersion)

	c.endpoint.Answer(hooks, unavailable)
	c.send("evt_upgraded")
	c.waitPhase("evt_upgraded", v1alpha1.DeliveryRetrying)
	upgrade()
	c.roll()
	c.endpoint.Answer(hooks)
	c.redeliver()
	c.waitDelivered("evt_upgraded", newVersion)
	c.waitReady()
	c.send("evt_new")
	c.waitDelivered("evt_new", newVersion)

	c.endpoint.Answer(hooks, unavailable)
	c.send("evt_rolled_back")
	c.waitPhase("evt_rolled_back", v1alpha1.DeliveryRetrying)
	rollBack()
	c.roll()
	c.endpoint.Answer(hooks)
	c.redeliver()
	c.waitDelivered("evt_rolled_back", oldVersion)
	c.waitReady()
	c.send("evt_last")
	c.waitDelivered("evt_last", oldVersion)
}

// redeliver requests an attempt of the undelivered events.
func (c *cluster) redeliver() {
	c.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := c.api.List(c.t.Context(), list, client.InNamespace(tenant)); err != nil {
		c.t.Fatal(err)
	}
	for i := range list.Items {
		if d := &list.Items[i]; d.Status.Phase != v1alpha1.DeliveryDelivered {
			c.kubectl("-n", tenant, "annotate", "postbackdelivery", d.Name, v1alpha1.RedeliverAnnotation+"=1", "--overwrite")
		}
	}
}

// checkNamespace checks that the namespace enforces the profile restricted. The Deployments' Pods are created one by
// one.
func (c *cluster) checkNamespace() {
	c.t.Helper()
	_, _, err := c.cp.Kubectl(c.t.Context(), "", "run", "root", "-n", operator.Namespace, "--image=root:latest", "--dry-run=server")
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		c.t.Errorf("a Pod that is not restricted: %v", err)
	}
}

// checkPublishedAuthority checks that any ServiceAccount can read the CA to trust.
func (c *cluster) checkPublishedAuthority() {
	c.t.Helper()
	got := c.kubectl("-n", operator.Namespace, "--as=system:serviceaccount:"+tenant+":default", "--as-group=system:authenticated",
		"get", "configmap", "postback-ingest-ca", "-o", `jsonpath={.data.ca\.crt}`)
	if got != string(c.authority()) {
		c.t.Errorf("ConfigMap postback-ingest-ca has\n%s\nthe Secret\n%s", got, c.authority())
	}
}

// releaseFinalizers runs the command of docs/operations.md for the finalizers of a removed operator.
func (c *cluster) releaseFinalizers() {
	c.t.Helper()
	for line := range strings.Lines(c.kubectl("get", "postbacks", "--all-namespaces", "--no-headers", "-o", "custom-columns=:.metadata.namespace,:.metadata.name")) {
		if name := strings.Fields(line); len(name) == 2 {
			c.kubectl("patch", "postback", "--namespace="+name[0], name[1], "--type=merge", "--patch={\"metadata\":{\"finalizers\":null}}")
		}
	}
}

// inventory returns every object of the cluster as "resource namespace/name", except Events, which expire.
func (c *cluster) inventory() []string {
	c.t.Helper()
	config := rest.CopyConfig(c.cp.Config)
	config.WarningHandler = rest.NoWarnings{}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		c.t.Fatal(err)
	}
	api, err := metadata.NewForConfig(config)
	if err != nil {
		c.t.Fatal(err)
	}
	lists, err := disco.ServerPreferredResources()
	if err != nil {
		c.t.Fatal(err)
	}
	var found []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range list.APIResources {
			resource := list.APIResources[i].Name
			if resource == "events" || !slices.Contains(list.APIResources[i].Verbs, "list") {
				continue
			}
			items, err := api.Resource(version.WithResource(resource)).List(context.Background(), metav1.ListOptions{})
			if err != nil {
				c.t.Fatal(err)
			}
			for j := range items.Items {
				found = append(found, resource+" "+items.Items[j].Namespace+"/"+items.Items[j].Name)
			}
		}
	}
	slices.Sort(found)
	return found
}

// nothingLeft waits until the cluster has the same objects as before, except those of a deleted namespace.
func (c *cluster) nothingLeft(before []string, namespace string) {
	c.t.Helper()
	var want []string
	for _, object := range before {
		if !strings.Contains(object, " "+namespace+"/") && object != "namespaces /"+namespace {
			want = append(want, object)
		}
	}
	c.eventually(func() error {
		if diff := cmp.Diff(want, c.inventory()); diff != "" {
			return fmt.Errorf("what is left (-before +after):\n%s", diff)
		}
		return nil
	})
	c.t.Logf("nothing is left but the %d objects that were there before", len(want))
}

// onlyKept checks the objects that remain after "helm uninstall": the CustomResourceDefinitions, the tenants'
// objects, and in the installation's namespace those that the operator and the user made.
func (c *cluster) onlyKept(before []string) {
	c.t.Helper()
	var left []string
	for _, object := range c.inventory() {
		if slices.Contains(before, object) || strings.Contains(object, " "+tenant+"/") || strings.HasPrefix(object, "rolebindings") {
			continue
		}
		kind, _, _ := strings.Cut(object, " ")
		switch kind {
		// Routes and replicas' Leases have varying names, and every namespace has some of these.
		case "secrets", "leases":
			object = kind
		case "configmaps", "serviceaccounts":
			if strings.HasSuffix(object, "/kube-root-ca.crt") || strings.HasSuffix(object, "/default") {
				continue
			}
		}
		left = append(left, object)
	}
	slices.Sort(left)
	want := []string{
		"apiservices /v1alpha1.postback.dev", "customresourcedefinitions /postbackdeliveries.postback.dev", "customresourcedefinitions /postbacks.postback.dev",
		"customresourcedefinitions /postbacksecrets.postback.dev", "customresourcedefinitions /postbackstatistics.postback.dev", "leases", "namespaces /" + operator.Namespace, "secrets",
	}
	if diff := cmp.Diff(want, slices.Compact(left)); diff != "" {
		c.t.Errorf("after helm uninstall (-want +got):\n%s", diff)
	}
	postback := &v1alpha1.Postback{}
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Namespace: tenant, Name: "crm"}, postback); err != nil || !postback.DeletionTimestamp.IsZero() {
		c.t.Errorf("the Postback is not kept: %v, %v", postback.DeletionTimestamp, err)
	}
	secrets := &corev1.SecretList{}
	if err := c.api.List(c.t.Context(), secrets, client.InNamespace(operator.Namespace)); err != nil || len(secrets.Items) != 2 {
		c.t.Errorf("%d Secrets are left, want the certificate and one route: %v", len(secrets.Items), err)
	}
}
