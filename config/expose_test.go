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
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The examples of docs/expose.md reach the dispatcher, and the API server knows each of their fields.
func TestExposedIngest(t *testing.T) {
	var service, balancer corev1.Service
	decode(t, "dispatcher/service.yaml", &service)
	decode(t, "expose/load-balancer.yaml", &balancer)
	if len(balancer.Spec.Ports) != 1 || balancer.Spec.Ports[0].TargetPort != service.Spec.Ports[0].TargetPort {
		t.Errorf("the load balancer leads to %v, ingest listens at %v", balancer.Spec.Ports, service.Spec.Ports)
	}
	var policy networkingv1.NetworkPolicy
	decode(t, "expose/network-policy.yaml", &policy)
	pod := labels.Set(deployment(t, "postback-dispatcher").Spec.Template.Labels)
	for name, selector := range map[string]map[string]string{
		"load-balancer.yaml": balancer.Spec.Selector, "network-policy.yaml": policy.Spec.PodSelector.MatchLabels,
	} {
		t.Run("pods of "+name, func(t *testing.T) {
			if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(pod) {
				t.Errorf("%v does not select %v", selector, pod)
			}
		})
	}
	var ingress networkingv1.Ingress
	decode(t, "expose/ingress.yaml", &ingress)
	backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != service.Name || backend.Port.Name != service.Spec.Ports[0].Name {
		t.Errorf("the Ingress leads to %v, not to the Service %s", backend, service.Name)
	}
	for _, file := range []string{"load-balancer", "network-policy", "ingress"} {
		kubectl(t, "", "apply", "-f", "expose/"+file+".yaml", "--server-side", "--validate=strict", "--dry-run=server")
	}
}

// The Gateway verifies the dispatcher's certificate by a name in it, and by the CA that the manager publishes.
func TestGatewayTrustsIngest(t *testing.T) {
	content, err := os.ReadFile("expose/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(content), "\n---\n")
	var gateway gatewayv1.Gateway
	var route gatewayv1.HTTPRoute
	var trust gatewayv1.BackendTLSPolicy
	for i, object := range []any{&gateway, &route, &trust} {
		if err := yaml.UnmarshalStrict([]byte(documents[i]), object); err != nil {
			t.Fatal(err)
		}
	}
	var service corev1.Service
	decode(t, "dispatcher/service.yaml", &service)
	backend := route.Spec.Rules[0].BackendRefs[0]
	if string(backend.Name) != service.Name || *backend.Port != service.Spec.Ports[0].Port {
		t.Errorf("the route leads to %s:%d", backend.Name, *backend.Port)
	}
	if string(route.Spec.ParentRefs[0].Name) != gateway.Name || !slices.Contains(route.Spec.Hostnames, *gateway.Spec.Listeners[0].Hostname) {
		t.Errorf("the route is for %v of %v", route.Spec.Hostnames, route.Spec.ParentRefs)
	}
	validation := trust.Spec.Validation
	if string(trust.Spec.TargetRefs[0].Name) != service.Name || string(validation.Hostname) != service.Name+"."+service.Namespace+".svc" ||
		string(validation.CACertificateRefs[0].Name) != v1alpha1.IngestCAName {
		t.Errorf("the Gateway trusts %+v for %v", validation, trust.Spec.TargetRefs)
	}
}
