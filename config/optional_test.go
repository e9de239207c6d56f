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
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
)

// optional has the parts that config/default omits, because some clusters lack their requirements.
var optional = []string{
	"network-policy", "priority", "autoscaling", "host-policy", "jetstream", "jetstream/network-policy",
	"jetstream-embedded", "jetstream-embedded/three", "jetstream-embedded/network-policy",
}

func TestServerTakesEveryFieldOfTheOptionalPartsStrictly(t *testing.T) {
	for _, part := range optional {
		kubectl(t, "", "apply", "-k", part, "--server-side", "--validate=strict", "--dry-run=server", "--force-conflicts")
	}
}

// decode reads an object of a file, as a dry run of the API server returns it.
func decode(t *testing.T, path string, object any) {
	t.Helper()
	if err := json.Unmarshal([]byte(kubectl(t, "", "apply", "-f", path, "--dry-run=server", "-o", "json")), object); err != nil {
		t.Fatal(err)
	}
}

// Each selector matches the Pods of the Deployment of its name. A selector that matches nothing protects nothing, and no server
// complains about it.
func TestSelectorsSelectThePods(t *testing.T) {
	for _, part := range []string{"manager", "dispatcher"} {
		t.Run(part, func(t *testing.T) {
			template := deployment(t, "postback-"+part).Spec.Template
			var budget policyv1.PodDisruptionBudget
			decode(t, part+"/pdb.yaml", &budget)
			var network networkingv1.NetworkPolicy
			decode(t, "network-policy/"+part+".yaml", &network)
			selectors := map[string]*metav1.LabelSelector{
				"PodDisruptionBudget": budget.Spec.Selector, "NetworkPolicy": &network.Spec.PodSelector,
				"topologySpreadConstraints": template.Spec.TopologySpreadConstraints[0].LabelSelector,
			}
			for what, selector := range selectors {
				t.Run(what, func(t *testing.T) {
					s, err := metav1.LabelSelectorAsSelector(selector)
					if err != nil {
						t.Fatal(err)
					}
					if s.Empty() || !s.Matches(labels.Set(template.Labels)) {
						t.Errorf("%v does not select %v", s, template.Labels)
					}
				})
			}
		})
	}
}

// Each policy opens the ports that its Pod serves, and no others.
func TestNetworkPoliciesNameThePorts(t *testing.T) {
	for _, part := range []string{"manager", "dispatcher"} {
		t.Run(part, func(t *testing.T) {
			var network networkingv1.NetworkPolicy
			decode(t, "network-policy/"+part+".yaml", &network)
			open := map[int32]bool{}
			for _, rule := range network.Spec.Ingress {
				for _, port := range rule.Ports {
					open[port.Port.IntVal] = true
				}
			}
			ports := deployment(t, "postback-"+part).Spec.Template.Spec.Containers[0].Ports
			for _, port := range ports {
				if !open[port.ContainerPort] {
					t.Errorf("port %s, %d, is closed", port.Name, port.ContainerPort)
				}
			}
			if len(open) != len(ports) {
				t.Errorf("the policy opens %v, the container has %v", open, ports)
			}
		})
	}
}

// The policy for NATS selects the dispatcher, too, and opens the port in the intake's URL.
func TestNetworkPolicyOpensNATS(t *testing.T) {
	var network, whole networkingv1.NetworkPolicy
	decode(t, "jetstream/network-policy/dispatcher.yaml", &network)
	decode(t, "network-policy/dispatcher.yaml", &whole)
	if network.Name == whole.Name || !reflect.DeepEqual(network.Spec.PodSelector, whole.Spec.PodSelector) {
		t.Errorf("%s selects %v, %s %v", network.Name, network.Spec.PodSelector, whole.Name, whole.Spec.PodSelector)
	}
	url := kubectl(t, "", "apply", "-k", "jetstream", "--dry-run=server", "-o", `jsonpath={.items[?(@.metadata.name=="postback-dispatcher")].spec.template.spec.containers[0].env[?(@.name=="NATS_URL")].value}`)
	if port := network.Spec.Egress[0].Ports[0].Port.String(); !strings.HasSuffix(url, ":"+port) {
		t.Errorf("the intake looks for NATS at %s, and port %s is open", url, port)
	}
}

// statefulSet returns the dispatcher with embedded NATS servers of an overlay.
func statefulSet(t *testing.T, overlay string) *appsv1.StatefulSet {
	t.Helper()
	set := &appsv1.StatefulSet{}
	list := kubectl(t, "", "apply", "-k", overlay, "--dry-run=server", "-o", `jsonpath={.items[?(@.kind=="StatefulSet")]}`)
	if err := json.Unmarshal([]byte(list), set); err != nil {
		t.Fatal(err)
	}
	return set
}

// The namespace enforces the profile "restricted", which the volume of a server must not break.
func TestEmbeddedPodsAreRestricted(t *testing.T) {
	for _, overlay := range []string{"jetstream-embedded", "jetstream-embedded/three"} {
		t.Run(overlay, func(t *testing.T) {
			template := statefulSet(t, overlay).Spec.Template
			template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "nats", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "nats-postback-dispatcher-0"},
			}})
			pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: template.ObjectMeta, Spec: template.Spec}
			pod.Name = "postback-dispatcher-0"
			manifest, err := json.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			kubectl(t, string(manifest), "create", "-n", installNamespace, "--dry-run=server", "-f", "-")
		})
	}
}

// Three servers find each other by the names of their Pods in the headless Service, at the port that the policy opens.
func TestEmbeddedServersFindEachOther(t *testing.T) {
	set := statefulSet(t, "jetstream-embedded/three")
	var peers []string
	for i := range *set.Spec.Replicas {
		peers = append(peers, fmt.Sprintf("%s-%d.%s", set.Name, i, set.Spec.ServiceName))
	}
	container := set.Spec.Template.Spec.Containers[0]
	if want := "--nats-cluster-peers=" + strings.Join(peers, ","); !slices.Contains(container.Args, want) {
		t.Errorf("the arguments are %q, without %s", container.Args, want)
	}
	var service corev1.Service
	decode(t, "jetstream-embedded/service/service.yaml", &service)
	if service.Name != set.Spec.ServiceName || !service.Spec.PublishNotReadyAddresses || service.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("the Service %s has %+v", service.Name, service.Spec)
	}
	var network networkingv1.NetworkPolicy
	decode(t, "jetstream-embedded/network-policy/dispatcher.yaml", &network)
	port := container.Ports[len(container.Ports)-1].ContainerPort
	pods := labels.Set(set.Spec.Template.Labels)
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(pods) || !labels.SelectorFromSet(network.Spec.PodSelector.MatchLabels).Matches(pods) {
		t.Errorf("%v and %v have to select %v", service.Spec.Selector, network.Spec.PodSelector, pods)
	}
	for what, open := range map[string]int32{
		"the Service": service.Spec.Ports[0].Port, "the policy, in": network.Spec.Ingress[0].Ports[0].Port.IntVal, "the policy, out": network.Spec.Egress[0].Ports[0].Port.IntVal,
	} {
		t.Run(what, func(t *testing.T) {
			if open != port {
				t.Errorf("%s has the port %d, the container %d", what, open, port)
			}
		})
	}
}

func TestAutoscalerKnowsTheDeployment(t *testing.T) {
	var scaler autoscalingv2.HorizontalPodAutoscaler
	decode(t, "autoscaling/hpa.yaml", &scaler)
	dispatcher := deployment(t, scaler.Spec.ScaleTargetRef.Name)
	if *scaler.Spec.MinReplicas < *dispatcher.Spec.Replicas {
		t.Errorf("at least %d replicas, and %d without it", *scaler.Spec.MinReplicas, *dispatcher.Spec.Replicas)
	}
}

// The API server says in the header of an answer which FlowSchema the request belonged to.
func TestRequestsHaveTheirPriority(t *testing.T) {
	kubectl(t, "", "apply", "-k", "priority")
	t.Cleanup(func() {
		if _, _, err := cp.Kubectl(context.Background(), "", "delete", "-k", "priority"); err != nil {
			t.Error(err)
		}
	})
	const leases = "/apis/coordination.k8s.io/v1/namespaces/postback-system/leases/some"
	for name, test := range map[string]struct{ account, path, schema, level string }{
		"a lease of the dispatcher":    {"postback-dispatcher", leases, "postback-leases", "leader-election"},
		"a lease of the manager":       {"postback-manager", leases, "postback-leases", "leader-election"},
		"deliveries of the dispatcher": {"postback-dispatcher", "/apis/postback.dev/v1alpha1/postbackdeliveries?limit=1", "postback", "postback"},
		"Postbacks of the manager":     {"postback-manager", "/apis/postback.dev/v1alpha1/postbacks?limit=1", "postback", "postback"},
		"a lease of another account":   {"default", leases, "service-accounts", "workload-low"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := cp.ServiceAccountConfig(t.Context(), installNamespace, test.account)
			if err != nil {
				t.Fatal(err)
			}
			want := [2]string{uid(t, "flowschema", test.schema), uid(t, "prioritylevelconfiguration", test.level)}
			NewWithT(t).Eventually(func() ([2]string, error) { return priority(t, config, test.path) }).
				WithTimeout(30*time.Second).Should(Equal(want), "%s gets %s", test.account, test.path)
		})
	}
}

func uid(t *testing.T, kind, name string) string {
	t.Helper()
	return strings.TrimSpace(kubectl(t, "", "get", kind, name, "-o", "jsonpath={.metadata.uid}"))
}

// priority returns the UIDs of the FlowSchema and of the level that a request belongs to.
func priority(t *testing.T, config *rest.Config, path string) (uids [2]string, err error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return uids, err
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+path, http.NoBody)
	if err != nil {
		return uids, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return uids, err
	}
	defer answer.Body.Close()
	uids = [2]string{answer.Header.Get("X-Kubernetes-PF-FlowSchema-UID"), answer.Header.Get("X-Kubernetes-PF-PriorityLevel-UID")}
	if uids[0] == "" {
		return uids, fmt.Errorf("%s answers without a FlowSchema: %s", path, answer.Status)
	}
	return uids, nil
}
