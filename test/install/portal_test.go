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
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	portalURL = "https://postbacks.example.com"
	// withPortal are values that give the objects of config/portal.
	withPortal = "portal.enabled=true,portal.url=" + portalURL
	inPortal   = " postback-portal/postback-portal"
)

// onlyPortal returns the objects that the portal's values add to the chart.
func onlyPortal(t *testing.T, set string) map[string]map[string]any {
	t.Helper()
	added := objects(t, render(t, operator.Namespace, "--set", set))
	for name := range objects(t, render(t, operator.Namespace)) {
		delete(added, name)
	}
	return added
}

// convert converts an object of a chart to its Go type. Unknown fields fail the test.
func convert[T any](t *testing.T, object map[string]any) *T {
	t.Helper()
	into := new(T)
	if object == nil {
		t.Fatalf("there is no %T", into)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, into, true); err != nil {
		t.Fatal(err)
	}
	return into
}

// The chart has the portal of config/portal, except the namespace, which the user creates. A change of the portal's
// URL leads to new Pods.
func TestChartWithPortal(t *testing.T) {
	want := objects(t, kustomize(t, "portal"))
	delete(want, "Namespace /postback-portal")
	deployment := want["Deployment"+inPortal]
	container := deployment["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	container["env"].([]any)[1] = map[string]any{"name": "PORTAL_URL", "value": portalURL}
	got := onlyPortal(t, withPortal)
	for name, object := range got {
		withoutVersion(t, name, object)
	}
	settings := convert[corev1.ConfigMap](t, got["ConfigMap"+inPortal])
	if settings.Data["url"] != portalURL {
		t.Errorf("the ConfigMap has %v", settings.Data)
	}
	delete(got, "ConfigMap"+inPortal)
	same(t, want, got)
}

// The portal's installer is config/portal with the images of the version.
func TestInstallerOfThePortal(t *testing.T) {
	manifests, err := command(t.Context(), nil, root+"/hack/installer.sh", "v1.2.3", registry, "portal")
	if err != nil {
		t.Fatal(err)
	}
	got, want := objects(t, manifests), objects(t, kustomize(t, "portal"))
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("the installer has %v", slices.Sorted(maps.Keys(got)))
	}
	deployment := convert[appsv1.Deployment](t, got["Deployment"+inPortal])
	if image := deployment.Spec.Template.Spec.Containers[0].Image; image != registry+"/postback-portal:v1.2.3" {
		t.Errorf("the image is %s", image)
	}
}

// Pages of named origins may embed the portal.
func TestChartWithFrames(t *testing.T) {
	got := onlyPortal(t, withPortal+`,portal.embed.origins={https://app.example.com,https://admin.example.com}`)
	args := convert[appsv1.Deployment](t, got["Deployment"+inPortal]).Spec.Template.Spec.Containers[0].Args
	if !slices.Contains(args, "--embed-origins=https://app.example.com,https://admin.example.com") {
		t.Errorf("the portal has %q", args)
	}
}

// Over plain HTTP behind a proxy, the portal needs no certificate, and its Service has the port of HTTP.
func TestChartWithPortalOverPlainHTTP(t *testing.T) {
	got := onlyPortal(t, withPortal+",portal.plainHTTP=true,portal.ingress.enabled=true,portal.httpRoute.enabled=true,portal.httpRoute.parentRefs[0].name=public")
	pod := convert[appsv1.Deployment](t, got["Deployment"+inPortal]).Spec.Template.Spec
	if args := pod.Containers[0].Args; !slices.Contains(args, "--plain-http") || strings.Contains(strings.Join(args, " "), "tls") {
		t.Errorf("the portal has %q", args)
	}
	if len(pod.Volumes) != 2 || pod.Volumes[0].Secret.SecretName != "postback-portal-session" || len(pod.Containers[0].VolumeMounts) != 2 {
		t.Errorf("the portal mounts %v", pod.Volumes)
	}
	if look := pod.Volumes[1].ConfigMap; look.Name != "postback-portal-look" || !*look.Optional {
		t.Errorf("the look is from %v", look)
	}
	port := convert[corev1.Service](t, got["Service"+inPortal]).Spec.Ports[0]
	if port.Port != 80 || port.Name != "http" || port.TargetPort.StrVal != pod.Containers[0].Ports[0].Name {
		t.Errorf("the Service has %+v", port)
	}
	leadsToPortal(t, got, port)
}

// An Ingress or a route leads from the host of the URL to the Service, over HTTPS.
func TestChartLeadsToPortal(t *testing.T) {
	got := onlyPortal(t, withPortal+",portal.ingress.enabled=true,portal.httpRoute.enabled=true,portal.httpRoute.parentRefs[0].name=public")
	leadsToPortal(t, got, convert[corev1.Service](t, got["Service"+inPortal]).Spec.Ports[0])
}

func leadsToPortal(t *testing.T, got map[string]map[string]any, port corev1.ServicePort) {
	t.Helper()
	const host = "postbacks.example.com"
	ingress := convert[networkingv1.Ingress](t, got["Ingress"+inPortal]).Spec
	backend := ingress.Rules[0].HTTP.Paths[0].Backend.Service
	if ingress.Rules[0].Host != host || !slices.Equal(ingress.TLS[0].Hosts, []string{host}) || backend.Name != "postback-portal" || backend.Port.Name != port.Name {
		t.Errorf("the Ingress is %+v", ingress)
	}
	route := convert[gatewayv1.HTTPRoute](t, got["HTTPRoute"+inPortal]).Spec
	reference := route.Rules[0].BackendRefs[0]
	if string(route.Hostnames[0]) != host || string(reference.Name) != "postback-portal" || *reference.Port != port.Port {
		t.Errorf("the HTTPRoute is %+v", route)
	}
}

func TestPortalHasACertificateOfCertManager(t *testing.T) {
	got := onlyPortal(t, withPortal+",portal.certificate.source=CertManager,portal.certificate.issuerRef.name=letsencrypt")
	certificate := got["Certificate postback-portal/postback-portal-tls"]["spec"].(map[string]any)
	if names := certificate["dnsNames"].([]any); len(names) != 1 || names[0] != "postbacks.example.com" || certificate["secretName"] != "postback-portal-tls" {
		t.Errorf("the certificate is %v", certificate)
	}
}

// A disruption budget for a single Pod would prevent the drain of its node.
func TestSinglePortalHasNoBudget(t *testing.T) {
	for name, test := range map[string]struct {
		values string
		want   bool
	}{
		"as shipped": {"", true}, "one replica": {",portal.replicas=1", false}, "switched off": {",portal.podDisruptionBudget.enabled=false", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := onlyPortal(t, withPortal+test.values)["PodDisruptionBudget"+inPortal] != nil; got != test.want {
				t.Errorf("there is a budget: %t", got)
			}
		})
	}
}

// The chart's sign-in by OpenID Connect is that of config/portal-oidc. Another port of the issuer is open.
func TestChartWithIssuer(t *testing.T) {
	const values = ",portal.oidc.issuerURL=https://login.example.com,portal.oidc.clientID=postback,portal.oidc.clientSecret=postback-portal-oidc"
	want := convert[appsv1.Deployment](t, objects(t, kustomize(t, "portal-oidc"))["Deployment"+inPortal]).Spec.Template.Spec
	got := onlyPortal(t, withPortal+values)
	pod := convert[appsv1.Deployment](t, got["Deployment"+inPortal]).Spec.Template.Spec
	flags := strings.NewReplacer("$(OIDC_ISSUER_URL)", "https://login.example.com", "$(OIDC_CLIENT_ID)", "postback").Replace(strings.Join(want.Containers[0].Args, " "))
	if args := strings.Join(pod.Containers[0].Args, " "); args != flags {
		t.Errorf("the chart has %s\nand config/portal-oidc %s", args, flags)
	}
	if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "oidc" }) || !equality.Semantic.DeepEqual(pod.Volumes, want.Volumes) || !equality.Semantic.DeepEqual(pod.Containers[0].VolumeMounts, want.Containers[0].VolumeMounts) {
		t.Errorf("the chart mounts %v, and config/portal-oidc %v", pod.Volumes, want.Volumes)
	}
	if got["NetworkPolicy postback-portal/postback-portal-issuer"] != nil {
		t.Error("the port 443 gets a policy of its own")
	}
	got = onlyPortal(t, withPortal+",portal.oidc.issuerURL=https://login.example.com:8444/realms/x,portal.oidc.clientID=postback,portal.oidc.caConfigMap=issuer-ca,portal.oidc.namespaceClaim=namespaces")
	policy := convert[networkingv1.NetworkPolicy](t, got["NetworkPolicy postback-portal/postback-portal-issuer"])
	if port := policy.Spec.Egress[0].Ports[0].Port; port.IntVal != 8444 {
		t.Errorf("the policy opens %v", port)
	}
	pod = convert[appsv1.Deployment](t, got["Deployment"+inPortal]).Spec.Template.Spec
	if args := pod.Containers[0].Args; !slices.Contains(args, "--oidc-ca-file=/etc/postback/portal-oidc-ca/ca.crt") || !slices.Contains(args, "--oidc-namespace-claim=namespaces") ||
		!slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil && v.ConfigMap.Name == "issuer-ca" }) {
		t.Errorf("the chart has %q and %v", args, pod.Volumes)
	}
}
