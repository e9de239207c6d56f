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
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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

func TestApplyAgainChangesNothing(t *testing.T) {
	for line := range strings.Lines(kubectl(t, "", "apply", "-k", "default")) {
		if !strings.HasSuffix(strings.TrimSpace(line), " unchanged") {
			t.Error(line)
		}
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

func TestNothingListensForOthersThanOnLoopback(t *testing.T) {
	for _, argument := range deployment(t, "postback-dispatcher").Spec.Template.Spec.Containers[0].Args {
		if strings.HasPrefix(argument, "--ingest-bind-address") {
			t.Errorf("%s: ingest stays on loopback until senders authenticate", argument)
		}
	}
	if services := kubectl(t, "", "get", "services", "-n", installNamespace, "-o", "name"); services != "" {
		t.Errorf("there are Services: %s", services)
	}
}

// can reports whether an impersonated user may do something, as kubectl auth can-i tells it.
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
			[]string{"create postbackdeliveries.postback.dev", "update postbackdeliveries.postback.dev/status"},
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
			[]string{"create postbacks.postback.dev", "patch postbackdeliveries.postback.dev", "get secrets"},
		},
		{
			"edit", "partner-acme",
			[]string{"create postbacks.postback.dev", "delete postbacksecrets.postback.dev", "patch postbackdeliveries.postback.dev"},
			[]string{"create postbackdeliveries.postback.dev", "delete postbackdeliveries.postback.dev", "patch postbackdeliveries.postback.dev/status", "patch postbacks.postback.dev/status"},
		},
		{"admin", "partner-acme", []string{"create postbacks.postback.dev"}, []string{"update postbackdeliveries.postback.dev"}},
	} {
		allowed := sets.New(test.may...)
		for _, action := range append(test.may, test.mayNot...) {
			verb, resource, _ := strings.Cut(action, " ")
			if got := can(t, test.user, test.namespace, verb, resource); got != allowed.Has(action) {
				t.Errorf("%s in %s: %s: %t", test.user, test.namespace, action, got)
			}
		}
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
