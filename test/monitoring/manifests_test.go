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

package monitoring

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/postback-dev/postback-operator/test/operator"
)

// documents returns the documents of a file in config/prometheus, decoded strictly.
func documents[T any](t *testing.T, file string) []T {
	t.Helper()
	var read []T
	for document := range bytes.SplitSeq(readFile(t, "config", "prometheus", file), []byte("\n---\n")) {
		var object T
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		read = append(read, object)
	}
	return read
}

// TestServiceMonitorsFindThePods follows each ServiceMonitor to its Service, and from there to the Pods of a
// Deployment and their port.
func TestServiceMonitorsFindThePods(t *testing.T) {
	services := documents[corev1.Service](t, "services.yaml")
	monitors := documents[v1.ServiceMonitor](t, "service_monitors.yaml")
	if len(monitors) != 2 {
		t.Errorf("there are %d monitors", len(monitors))
	}
	for _, monitor := range monitors {
		t.Run(monitor.Name, func(t *testing.T) {
			selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			var found []corev1.Service
			for _, service := range services {
				if selector.Matches(labels.Set(service.Labels)) {
					found = append(found, service)
				}
			}
			if len(found) != 1 {
				t.Fatalf("it selects %d Services", len(found))
			}
			if job := found[0].Labels[monitor.Spec.JobLabel]; job != monitor.Name {
				t.Errorf("the job is %q", job)
			}
			checkPort(t, &found[0], monitor.Spec.Endpoints[0].Port)
		})
	}
}

// checkPort checks that a Service leads to the port "metrics" of the Deployment that its label names.
func checkPort(t *testing.T, service *corev1.Service, port string) {
	t.Helper()
	deployment := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: operator.Namespace, Name: service.Labels["app.kubernetes.io/name"]}
	if err := api.Get(t.Context(), key, deployment); err != nil {
		t.Fatal(err)
	}
	if pods := deployment.Spec.Template.Labels; !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pods)) {
		t.Errorf("the Service selects %v, the Pods have %v", service.Spec.Selector, pods)
	}
	if service.Spec.Ports[0].Name != port || service.Spec.Ports[0].TargetPort.String() != "metrics" {
		t.Errorf("the monitor scrapes port %s, the Service has %v", port, service.Spec.Ports[0])
	}
	for _, p := range deployment.Spec.Template.Spec.Containers[0].Ports {
		if p.Name == "metrics" && p.ContainerPort == service.Spec.Ports[0].Port {
			return
		}
	}
	t.Errorf("the Deployment has no port metrics %d", service.Spec.Ports[0].Port)
}

// TestPodMonitorFindsThePortal follows the PodMonitor to the Pods of the portal and their port.
func TestPodMonitorFindsThePortal(t *testing.T) {
	monitor := &v1.PodMonitor{}
	if err := yaml.UnmarshalStrict(readFile(t, "config", "portal", "prometheus", "pod_monitor.yaml"), monitor); err != nil {
		t.Fatal(err)
	}
	deployment := &appsv1.Deployment{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: monitor.Namespace, Name: "postback-portal"}, deployment); err != nil {
		t.Fatal(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template
	if !selector.Matches(labels.Set(pod.Labels)) || pod.Labels[monitor.Spec.JobLabel] != "postback-portal" {
		t.Errorf("it selects %v with the job of %s, the Pods have %v", selector, monitor.Spec.JobLabel, pod.Labels)
	}
	port := *monitor.Spec.PodMetricsEndpoints[0].Port
	if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port && p.ContainerPort == 8082 }) {
		t.Errorf("it scrapes port %s, the Pods have %v", port, pod.Spec.Containers[0].Ports)
	}
}

// TestManifestsAreAccepted checks the manifests by kustomize and, if it serves their kinds, by the API server.
func TestManifestsAreAccepted(t *testing.T) {
	rendered, _, err := cp.Kubectl(t.Context(), "", "kustomize", modulePath(t, "config", "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for document := range bytes.SplitSeq([]byte(rendered), []byte("\n---\n")) {
		object := &metav1.PartialObjectMetadata{}
		if err := yaml.Unmarshal(document, object); err != nil {
			t.Fatal(err)
		}
		kinds[object.Kind]++
		if object.Namespace != operator.Namespace || object.Labels["app.kubernetes.io/part-of"] != "postback" {
			t.Errorf("%s %s is in namespace %q with labels %v", object.Kind, object.Name, object.Namespace, object.Labels)
		}
		if object.Kind != "Service" {
			continue
		}
		if _, _, err := cp.Kubectl(t.Context(), string(document), "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Error(err)
		}
	}
	if want := map[string]int{"Service": 2, "ServiceMonitor": 2, "PrometheusRule": 1}; !maps.Equal(kinds, want) {
		t.Errorf("there are %v, want %v", kinds, want)
	}
}
