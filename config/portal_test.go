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

package config

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

const portalNamespace = "postback-portal"

// installPortal applies config/portal, and returns its Deployment.
func installPortal(t *testing.T) *appsv1.Deployment {
	t.Helper()
	kubectl(t, "", "apply", "-k", "portal", "--server-side", "--validate=strict")
	d := &appsv1.Deployment{}
	if err := json.Unmarshal([]byte(kubectl(t, "", "get", "deployment", "postback-portal", "-n", portalNamespace, "-o", "json")), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The namespace enforces the profile "restricted"; the API server checks a Pod against it, not a Deployment.
func TestPortalIsRestricted(t *testing.T) {
	template := installPortal(t).Spec.Template
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name = "portal"
	manifest, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, string(manifest), "create", "-n", portalNamespace, "--dry-run=server", "-f", "-")
}

// Each selector matches the Pods of the portal, and the policy opens the ports that they serve, and no others.
func TestSelectorsSelectThePortal(t *testing.T) {
	template := installPortal(t).Spec.Template
	var budget policyv1.PodDisruptionBudget
	decode(t, "portal/pdb.yaml", &budget)
	var network networkingv1.NetworkPolicy
	decode(t, "portal/network-policy/portal.yaml", &network)
	var service corev1.Service
	decode(t, "portal/service.yaml", &service)
	for what, selector := range map[string]map[string]string{
		"PodDisruptionBudget": budget.Spec.Selector.MatchLabels, "NetworkPolicy": network.Spec.PodSelector.MatchLabels, "Service": service.Spec.Selector,
		"topologySpreadConstraints": template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		t.Run(what, func(t *testing.T) {
			if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(template.Labels)) {
				t.Errorf("%v does not select %v", selector, template.Labels)
			}
		})
	}
	var open, served []int32
	for _, port := range network.Spec.Ingress[0].Ports {
		open = append(open, port.Port.IntVal)
	}
	leads := false
	for _, port := range template.Spec.Containers[0].Ports {
		served = append(served, port.ContainerPort)
		leads = leads || port.Name == service.Spec.Ports[0].TargetPort.StrVal
	}
	if !slices.Equal(open, served) || !leads {
		t.Errorf("the policy opens %v, the container has %v; the Service leads to %v", open, served, service.Spec.Ports)
	}
}

// The Ingress and the Gateway lead to the Service of the portal. The Gateway expects a certificate for the host of browsers.
func TestExposedPortal(t *testing.T) {
	installPortal(t)
	var service corev1.Service
	decode(t, "portal/service.yaml", &service)
	var ingress networkingv1.Ingress
	decode(t, "expose/portal-ingress.yaml", &ingress)
	backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != service.Name || backend.Port.Name != service.Spec.Ports[0].Name {
		t.Errorf("the Ingress leads to %v", backend)
	}
	kubectl(t, "", "apply", "-f", "expose/portal-ingress.yaml", "--server-side", "--validate=strict", "--dry-run=server")
	content, err := os.ReadFile("expose/portal-gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var gateway gatewayv1.Gateway
	var route gatewayv1.HTTPRoute
	var trust gatewayv1.BackendTLSPolicy
	documents := strings.Split(string(content), "\n---\n")
	for i, object := range []any{&gateway, &route, &trust} {
		if err := yaml.UnmarshalStrict([]byte(documents[i]), object); err != nil {
			t.Fatal(err)
		}
	}
	reference := route.Spec.Rules[0].BackendRefs[0]
	if string(reference.Name) != service.Name || *reference.Port != service.Spec.Ports[0].Port || string(route.Spec.ParentRefs[0].Name) != gateway.Name {
		t.Errorf("the route leads from %v to %v", route.Spec.ParentRefs, reference.BackendObjectReference)
	}
	host := *gateway.Spec.Listeners[0].Hostname
	if route.Spec.Hostnames[0] != host || string(trust.Spec.Validation.Hostname) != string(host) || string(trust.Spec.TargetRefs[0].Name) != service.Name {
		t.Errorf("the Gateway trusts %+v for %v", trust.Spec.Validation, trust.Spec.TargetRefs)
	}
}
