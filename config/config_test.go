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

// Package config tests the manifests in this folder against a real API server.
package config

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const installNamespace = "postback-system"

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTestsWith(m, controlplane.Options{WithoutCRDs: true}, func(c *controlplane.ControlPlane) {
		cp = c
		// As a user installs it; every test below looks at the result.
		if _, _, err := cp.Kubectl(context.Background(), "", "apply", "-k", "default"); err != nil {
			errInstall = err
		}
	}))
}

var errInstall error

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	if errInstall != nil {
		t.Fatalf("kubectl apply -k config/default: %v", errInstall)
	}
	stdout, _, err := cp.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout
}

func deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	output := kubectl(t, "", "get", "deployment", name, "-n", installNamespace, "-o", "json")
	if err := json.Unmarshal([]byte(output), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// kubectl reports "configured" for a PodDisruptionBudget each time, because it replaces the selector. The
// resourceVersion shows that nothing changed.
func TestApplyAgainChangesNothing(t *testing.T) {
	versions := func() string {
		return kubectl(t, "", "get", "-k", "default", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
	}
	before := versions()
	kubectl(t, "", "apply", "-k", "default")
	if after := versions(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestServerTakesEveryFieldStrictly(t *testing.T) {
	kubectl(t, "", "apply", "-k", "default", "--server-side", "--validate=strict", "--dry-run=server", "--force-conflicts")
}

// The namespace enforces the profile "restricted"; the API server checks a Pod against it, not a Deployment.
func TestPodsAreRestricted(t *testing.T) {
	for _, name := range []string{"postback-manager", "postback-dispatcher"} {
		t.Run(name, func(t *testing.T) {
			template := deployment(t, name).Spec.Template
			pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
			pod.APIVersion, pod.Kind, pod.Name = "v1", "Pod", name
			manifest, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			kubectl(t, string(manifest), "create", "-n", installNamespace, "--dry-run=server", "-f", "-")
		})
	}
	_, _, err := cp.Kubectl(t.Context(), "", "run", "root", "-n", installNamespace, "--image=root:latest", "--dry-run=server")
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("a Pod that is not restricted: %v", err)
	}
}

// Tokens of producers never travel in clear text, and ingest requires one.
func TestIngestIsServedOverTLSOnly(t *testing.T) {
	args := deployment(t, "postback-dispatcher").Spec.Template.Spec.Containers[0].Args
	for _, flag := range []string{"--ingest-tls-cert-file=", "--ingest-tls-private-key-file="} {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, flag) && a != flag }) {
			t.Errorf("the dispatcher has no %s", flag)
		}
	}
	for _, argument := range args {
		if strings.HasPrefix(argument, "--ingest-plain-http") || strings.HasPrefix(argument, "--ingest-auth") {
			t.Errorf("the dispatcher has %s", argument)
		}
	}
}

func TestServiceLeadsToIngest(t *testing.T) {
	service := &corev1.Service{}
	if err := json.Unmarshal([]byte(kubectl(t, "", "get", "service", "postback-ingest", "-n", installNamespace, "-o", "json")), service); err != nil {
		t.Fatal(err)
	}
	template := deployment(t, "postback-dispatcher").Spec.Template
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(template.Labels)) {
		t.Errorf("%v does not select %v", service.Spec.Selector, template.Labels)
	}
	container := template.Spec.Containers[0]
	for _, port := range container.Ports {
		if port.Name == service.Spec.Ports[0].TargetPort.StrVal {
			if want := fmt.Sprintf("--ingest-bind-address=:%d", port.ContainerPort); !slices.Contains(container.Args, want) {
				t.Errorf("the Service leads to port %d, the dispatcher has %q", port.ContainerPort, container.Args)
			}
			return
		}
	}
	t.Errorf("no port of the dispatcher is named %s", service.Spec.Ports[0].TargetPort.StrVal)
}

// can reports the answer of kubectl auth can-i for an impersonated user.
func can(t *testing.T, user, namespace, verb, resource string) bool {
	t.Helper()
	resource, subresource, _ := strings.Cut(resource, "/")
	stdout, stderr, err := cp.Kubectl(t.Context(), "", "auth", "can-i", verb, resource, "--subresource", subresource,
		"-n", namespace, "--as", user)
	switch strings.TrimSpace(stdout) {
	case "yes":
		return true
	case "no": // kubectl exits with 1
		return false
	}
	t.Fatalf("kubectl auth can-i: %s%s%v", stdout, stderr, err)
	return false
}

func TestRights(t *testing.T) {
	kubectl(t, "", "create", "namespace", "partner-acme")
	for _, role := range []string{"view", "edit", "admin"} {
		kubectl(t, "", "create", "rolebinding", role, "-n", "partner-acme", "--clusterrole="+role, "--user="+role)
	}
	const dispatcher = "system:serviceaccount:postback-system:postback-dispatcher"
	for _, test := range []struct {
		user, namespace string
		may, mayNot     []string
	}{
		{
			dispatcher, "partner-acme",
			[]string{"create postbackdeliveries.postback.dev", "update postbackdeliveries.postback.dev/status", "update postbackstatistics.postback.dev"},
			[]string{"get secrets", "list secrets", "delete postbacks.postback.dev", "update postbacksecrets.postback.dev", "create pods"},
		},
		{
			dispatcher, installNamespace,
			[]string{"list secrets", "create leases.coordination.k8s.io"},
			[]string{"create secrets", "delete secrets", "get configmaps"},
		},
		{
			"view", "partner-acme",
			[]string{"get postbacks.postback.dev", "list postbackdeliveries.postback.dev", "watch postbacksecrets.postback.dev"},
			[]string{"create postbacks.postback.dev", "patch postbackdeliveries.postback.dev", "drop postbackdeliveries.postback.dev", "get secrets"},
		},
		{
			"edit", "partner-acme",
			[]string{"create postbacks.postback.dev", "delete postbacksecrets.postback.dev", "patch postbackdeliveries.postback.dev", "drop postbackdeliveries.postback.dev"},
			[]string{"create postbackdeliveries.postback.dev", "delete postbackdeliveries.postback.dev", "patch postbackdeliveries.postback.dev/status", "patch postbacks.postback.dev/status"},
		},
		{"admin", "partner-acme", []string{"create postbacks.postback.dev"}, []string{"update postbackdeliveries.postback.dev"}},
	} {
		t.Run(test.user+" in "+test.namespace, func(t *testing.T) {
			allowed := sets.New(test.may...)
			for _, action := range append(test.may, test.mayNot...) {
				t.Run(action, func(t *testing.T) {
					verb, resource, _ := strings.Cut(action, " ")
					if got := can(t, test.user, test.namespace, verb, resource); got != allowed.Has(action) {
						t.Errorf("the answer is %t", got)
					}
				})
			}
		})
	}
}

// Every account may read the CAs of ingest and the Lease of the intake, and nothing else there.
func TestEverybodyReadsTheAuthorityOfIngest(t *testing.T) {
	for object, want := range map[string]string{
		"configmap/postback-ingest-ca": "yes", "lease.coordination.k8s.io/postback-intake": "yes", "lease.coordination.k8s.io/other": "no", "configmap/other": "no", "secret/postback-ingest-ca": "no", "secret/postback-ingest-tls": "no",
	} {
		t.Run(object, func(t *testing.T) {
			got, _, err := cp.Kubectl(t.Context(), "", "auth", "can-i", "get", object, "-n", installNamespace, "--as", "system:serviceaccount:shop:orders")
			if strings.TrimSpace(got) != want {
				t.Errorf("may get %s: %s, want %s (%v)", object, got, want, err)
			}
		})
	}
}

func TestSamplesAreValid(t *testing.T) {
	kubectl(t, "", "create", "namespace", "samples")
	kubectl(t, "", "apply", "-n", "samples", "--validate=strict", "-k", "samples")
	got := kubectl(t, "", "get", "postback,postbacksecret", "-n", "samples", "-o", "name")
	want := "postback.postback.dev/crm\npostbacksecret.postback.dev/external-signing\npostbacksecret.postback.dev/shared-signing\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
