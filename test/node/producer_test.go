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

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/node/report"
)

const ingestHost = "postback-ingest.postback-system.svc"

// production configures a producer in a Pod.
type production struct {
	name          string
	events, tries int
	rate          float64
}

// start starts the producer. It posts to ingest's Service by name, with a token of its ServiceAccount, and trusts the
// published authority.
func (p production) start(t *testing.T) {
	t.Helper()
	var authority corev1.ConfigMap
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: v1alpha1.IngestCAName}, &authority); err != nil {
		t.Fatal(err)
	}
	own := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: partner, Name: v1alpha1.IngestCAName}, Data: authority.Data}
	if err := api.Create(t.Context(), own); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if err := api.Create(t.Context(), p.pod()); err != nil {
		t.Fatal(err)
	}
}

// workload returns a Pod of the partner that runs the test's program under the profile restricted.
func workload(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: partner, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "orders",
			RestartPolicy:      corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   ptr.To(true),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "workload", Image: "workload:latest", ImagePullPolicy: corev1.PullNever, Args: args,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false),
					ReadOnlyRootFilesystem:   ptr.To(true),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

func (p production) pod() *corev1.Pod {
	pod := workload(p.name, "produce", "--url=https://"+ingestHost+"/v1/namespaces/"+partner+"/events", "--ca-file=/ca/ca.crt",
		"--token-file=/var/run/secrets/kubernetes.io/serviceaccount/token", "--prefix="+p.name+"-",
		fmt.Sprintf("--events=%d", p.events), fmt.Sprintf("--rate=%g", p.rate), fmt.Sprintf("--tries=%d", p.tries))
	pod.Spec.Volumes = []corev1.Volume{{Name: "ca", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: v1alpha1.IngestCAName}},
	}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "ca", MountPath: "/ca", ReadOnly: true}}
	return pod
}

// ended waits until a Pod has ended, and returns its phase.
func ended(t *testing.T, pod *corev1.Pod, patience time.Duration) corev1.PodPhase {
	t.Helper()
	await(t, patience, func(ctx context.Context) error {
		if err := api.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("Pod %s is %s: %+v", pod.Name, pod.Status.Phase, pod.Status.ContainerStatuses)
		}
		return nil
	})
	return pod.Status.Phase
}

// finish waits until the producer has ended, and returns its report.
func (p production) finish(t *testing.T, patience time.Duration) report.Produced {
	t.Helper()
	ended(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: partner, Name: p.name}}, patience)
	logs := mustKubectl(t, "", "-n", partner, "logs", p.name)
	produced, err := report.ReadProduced([]byte(logs))
	if err != nil {
		t.Fatalf("the producer tells %q: %v", logs, err)
	}
	return produced
}

// received returns the report of the endpoint.
func received(ctx context.Context) (report.Received, error) {
	var all report.Received
	content, err := ask(ctx, http.MethodGet, "")
	if err != nil {
		return all, err
	}
	return all, json.Unmarshal(content, &all)
}

// refuse makes the endpoint answer 503 to every nth request from now on, until it has refused the given number.
func refuse(t *testing.T, times, every int) {
	t.Helper()
	if answer, err := ask(t.Context(), http.MethodPost, fmt.Sprintf("refuse?times=%d&every=%d", times, every)); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
}

// ask sends a request to the control port of the endpoint's Pod.
func ask(ctx context.Context, method, path string) ([]byte, error) {
	var pod corev1.Pod
	if err := api.Get(ctx, client.ObjectKey{Namespace: partner, Name: "receiver"}, &pod); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+pod.Status.PodIP+":8081/"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the endpoint's Pod answers %s", response.Status)
	}
	return content, err
}

// arrived waits until every event of a producer has arrived, and returns the number of events that arrived more than
// once.
func (p production) arrived(t *testing.T, patience time.Duration) (again int) {
	t.Helper()
	await(t, patience, func(ctx context.Context) error {
		got, err := received(ctx)
		if err != nil {
			return err
		}
		if got.Unverified > 0 {
			t.Fatalf("%d requests do not verify", got.Unverified)
		}
		lost := 0
		again = 0
		for i := range p.events {
			if n := got.Events[fmt.Sprintf("%s-%d", p.name, i)]; n == 0 {
				lost++
			} else {
				again += n - 1
			}
		}
		if lost > 0 {
			return fmt.Errorf("%d of %d events have not arrived", lost, p.events)
		}
		return nil
	})
	return again
}
