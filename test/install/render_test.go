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
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/postback-dev/postback-operator/test/operator"
)

// render returns the output of "helm template" with further arguments.
func render(t *testing.T, namespace string, args ...string) string {
	t.Helper()
	manifests, err := helm(t, "", append([]string{"template", "postback", chart(), "--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

// objects parses manifests into objects by "Kind namespace/name".
func objects(t *testing.T, manifests string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		var o unstructured.Unstructured
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) == 0 {
			continue
		}
		name := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if found[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		found[name] = o.Object
	}
}

// withoutHelm removes the labels and annotations that only Helm adds, and checks that they exist.
func withoutHelm(t *testing.T, name string, object map[string]any) {
	t.Helper()
	o := unstructured.Unstructured{Object: object}
	labels := o.GetLabels()
	for key, value := range map[string]string{
		"app.kubernetes.io/instance": "postback", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "postback-0.0.0-dev",
	} {
		if labels[key] != value {
			t.Errorf("%s: label %s is %q, want %q", name, key, labels[key], value)
		}
		delete(labels, key)
	}
	o.SetLabels(labels)
	if o.GetKind() != "CustomResourceDefinition" {
		return
	}
	annotations := o.GetAnnotations()
	if annotations["helm.sh/resource-policy"] != "keep" {
		t.Errorf("%s is not kept", name)
	}
	delete(annotations, "helm.sh/resource-policy")
	o.SetAnnotations(annotations)
}

func kustomize(t *testing.T, folder string) string {
	t.Helper()
	manifests, err := command(t.Context(), nil, filepath.Join(root, "bin", "kustomize"), "build", filepath.Join("config", folder))
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

func same(t *testing.T, want, got map[string]map[string]any) {
	t.Helper()
	for name, object := range got {
		withoutHelm(t, name, object)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("the chart has other objects (-kustomize +chart):\n%s", diff)
	}
	for name, object := range want {
		if got[name] == nil {
			continue
		}
		if diff := cmp.Diff(object, got[name]); diff != "" {
			t.Errorf("%s differs (-kustomize +chart):\n%s", name, diff)
		}
	}
}

// The chart installs the same objects as the installer, except the namespace, which Helm creates.
func TestChartIsTheInstaller(t *testing.T) {
	want := objects(t, installer(t, "v1.2.3", registry))
	delete(want, "Namespace /"+operator.Namespace)
	same(t, want, objects(t, render(t, operator.Namespace, "--set", "image.tag=v1.2.3,image.registry="+registry)))
}

func TestChartWithCertManager(t *testing.T) {
	want := objects(t, kustomize(t, "cert-manager"))
	delete(want, "Namespace /"+operator.Namespace)
	got := objects(t, render(t, operator.Namespace, "--set", "ingest.certificate.source=CertManager,ingest.certificate.issuerRef.name=postback-ingest"))
	for name, object := range got {
		withoutVersion(t, name, object)
	}
	same(t, want, got)
}

// jetStream are values that give the objects of config/jetstream.
const jetStream = "intake=jetstream,nats.url=tls://nats.nats.svc:4222,nats.credentialsSecret=postback-nats-credentials,nats.caSecret=postback-nats-ca"

func TestChartWithJetStream(t *testing.T) {
	want := objects(t, kustomize(t, "jetstream"))
	maps.Copy(want, objects(t, kustomize(t, "network-policy")))
	maps.Copy(want, objects(t, kustomize(t, "jetstream/network-policy")))
	delete(want, "Namespace /"+operator.Namespace)
	got := objects(t, render(t, operator.Namespace, "--set", jetStream+",networkPolicy.enabled=true"))
	for name, object := range got {
		withoutVersion(t, name, object)
	}
	same(t, want, got)
}

// embedded are values that give the objects of config/jetstream-embedded.
const embedded = "intake=jetstream,nats.embedded.enabled=true"

func TestChartWithEmbeddedNATS(t *testing.T) {
	for folder, set := range map[string]string{"jetstream-embedded": embedded, "jetstream-embedded/three": embedded + ",nats.embedded.replicas=3"} {
		t.Run(folder, func(t *testing.T) {
			want := objects(t, kustomize(t, folder))
			maps.Copy(want, objects(t, kustomize(t, "network-policy")))
			if folder != "jetstream-embedded" {
				maps.Copy(want, objects(t, kustomize(t, "jetstream-embedded/network-policy")))
			}
			delete(want, "Namespace /"+operator.Namespace)
			got := objects(t, render(t, operator.Namespace, "--set", set+",networkPolicy.enabled=true"))
			for name, object := range got {
				withoutVersion(t, name, object)
			}
			same(t, want, got)
		})
	}
	_, err := helm(t, "", "template", "postback", chart(), "--set", embedded+",dispatcher.autoscaling.enabled=true")
	if err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Errorf("embedded servers with autoscaling: %v", err)
	}
}

// withoutVersion removes the version label, which the installer and the chart have and config/ lacks.
func withoutVersion(t *testing.T, name string, object map[string]any) {
	t.Helper()
	labels := (&unstructured.Unstructured{Object: object}).GetLabels()
	if labels["app.kubernetes.io/version"] != "latest" {
		t.Errorf("%s: version %q", name, labels["app.kubernetes.io/version"])
	}
	unstructured.RemoveNestedField(object, "metadata", "labels", "app.kubernetes.io/version")
}

// For named namespaces the chart has the same Roles as the overlay, and no ClusterRole with rights on tenants'
// objects.
func TestChartForNamedNamespaces(t *testing.T) {
	want := objects(t, kustomize(t, "watch-namespaces"))
	delete(want, "Namespace /"+operator.Namespace)
	got := objects(t, render(t, operator.Namespace, "--set", "watchNamespaces={partner-acme,partner-globex}"))
	for name, object := range got {
		withoutVersion(t, name, object)
		text, err := json.Marshal(object["rules"])
		if err != nil {
			t.Fatal(err)
		}
		if object["kind"] == "ClusterRole" && strings.HasSuffix(name, "/postback-dispatcher") && bytes.Contains(text, []byte("postback.dev")) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if got["ClusterRole /postback-manager"] != nil || got["ClusterRoleBinding /postback-manager"] != nil {
		t.Error("the manager has rights in every namespace")
	}
	same(t, want, got)
	// The installation's namespace may be one of the named namespaces.
	own := objects(t, render(t, operator.Namespace, "--set", "watchNamespaces={"+operator.Namespace+"}"))
	for _, name := range []string{"postback-manager", "postback-manager-watched", "postback-dispatcher", "postback-dispatcher-watched"} {
		if own["Role "+operator.Namespace+"/"+name] == nil || own["RoleBinding "+operator.Namespace+"/"+name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// optional maps the parts of config/ outside config/default to the values that enable them.
var optional = map[string]string{
	"network-policy": "networkPolicy.enabled=true", "priority": "priority.enabled=true",
	"autoscaling": "dispatcher.autoscaling.enabled=true", "prometheus": "serviceMonitor.enabled=true,prometheusRule.enabled=true",
}

func TestChartHasTheOptionalParts(t *testing.T) {
	without := objects(t, render(t, operator.Namespace))
	for folder, set := range optional {
		want := objects(t, kustomize(t, folder))
		got := objects(t, render(t, operator.Namespace, "--set", set))
		for name := range without {
			delete(got, name)
		}
		for name, object := range got {
			withoutVersion(t, name, object)
		}
		same(t, want, got)
	}
}

// everything returns the arguments that enable all parts of the chart.
func everything() []string {
	set := slices.Sorted(maps.Values(optional))
	return []string{"--set", strings.Join(set, ",") + "," + jetStream + ",dashboard.enabled=true,ingest.certificate.source=CertManager,ingest.certificate.issuerRef.name=ca," + withPortal}
}

// A disruption budget for a single Pod would prevent the drain of its node.
func TestSingleReplicasHaveNoBudget(t *testing.T) {
	for name, test := range map[string]struct {
		values string
		want   []string
	}{
		"as shipped":                      {"", []string{"dispatcher", "manager"}},
		"one manager":                     {"manager.replicas=1", []string{"dispatcher"}},
		"one dispatcher":                  {"dispatcher.replicas=1", []string{"manager"}},
		"one dispatcher, autoscaled":      {"dispatcher.replicas=1,dispatcher.autoscaling.enabled=true", []string{"dispatcher", "manager"}},
		"autoscaled down to a dispatcher": {"dispatcher.replicas=3,dispatcher.autoscaling.enabled=true,dispatcher.autoscaling.minReplicas=1", []string{"manager"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for name := range objects(t, render(t, operator.Namespace, "--set", test.values)) {
				if part, ok := strings.CutPrefix(name, "PodDisruptionBudget "+operator.Namespace+"/postback-"); ok {
					got = append(got, part)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("budgets of %v, want %v", got, test.want)
			}
		})
	}
}

// In another namespace, no object refers to the default namespace.
func TestChartInAnotherNamespace(t *testing.T) {
	manifests := render(t, "elsewhere", everything()...)
	for name, object := range objects(t, manifests) {
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(operator.Namespace)) {
			t.Errorf("%s refers to %s: %s", name, operator.Namespace, text)
		}
	}
}

// Each value changes the output: an unused value would mislead.
func TestEveryValueIsUsed(t *testing.T) {
	certManager := `ingest.certificate={"source":"CertManager","issuerRef":{"name":"ca"}}`
	intake := `nats.url="nats://a:4222"`
	portal := `portal={"enabled":true,"url":"https://postbacks.example.com","ingress":{"enabled":true},"httpRoute":{"enabled":true,"parentRefs":[{"name":"public"}]},"certificate":{"source":"CertManager","issuerRef":{"name":"ca"}},` +
		`"oidc":{"issuerURL":"https://issuer.example.com","clientID":"portal"}}`
	// Some values have an effect only together with these.
	base := map[string]string{
		"autoscaling": "dispatcher.autoscaling.enabled=true", "loadBalancerSourceRanges": `ingest.service.type="LoadBalancer"`,
		"dnsNames": certManager, "issuerRef": certManager, "intake": intake, "nats": `intake="jetstream",` + intake,
		"embedded":       `intake="jetstream",nats.embedded.enabled=true`,
		"portal":         portal,
		"serviceMonitor": "serviceMonitor.enabled=true", "prometheusRule": "prometheusRule.enabled=true", "dashboard": "dashboard.enabled=true",
	}
	before := map[string]string{}
	for path, value := range values(t) {
		t.Run(path, func(t *testing.T) {
			var args []string
			for part, set := range base {
				// The embedded server replaces a URL.
				if parts := strings.Split(path, "."); slices.Contains(parts, part) && (part != "nats" || !slices.Contains(parts, "embedded")) {
					args = append(args, "--set-json", set)
				}
			}
			key := strings.Join(args, " ")
			if before[key] == "" {
				before[key] = render(t, operator.Namespace, args...)
			}
			if path == "nats.embedded.enabled" { // Without the embedded server, a URL is required.
				path, value = "nats", map[string]any{"embedded": map[string]any{"enabled": value}, "url": "nats://a:4222"}
			}
			change, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if render(t, operator.Namespace, append(args, "--set-json", path+"="+string(change))...) == before[key] {
				t.Errorf("%s=%s changes nothing", path, change)
			}
		})
	}
}
