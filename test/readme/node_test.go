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

package readme

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestNodeWaitsForVolumes checks that a dispatcher without its Secret neither blocks nor ends the node, which has to
// start the manager that makes the Secret.
func TestNodeWaitsForVolumes(t *testing.T) {
	key := deployments[1]
	dispatcher := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](1), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "certificate"}}}},
		}}},
	}
	// The node has no operator, so a start of a program would panic.
	n := &node{api: fake.NewFakeClient(dispatcher), running: map[client.ObjectKey]*workload{}}
	if err := n.reconcile(t.Context(), key); err != nil {
		t.Errorf("the node ends: %v", err)
	}
	if err := n.api.Get(t.Context(), key, dispatcher); err != nil || dispatcher.Status.Replicas != 0 {
		t.Errorf("the Deployment shows %d replicas, %v", dispatcher.Status.Replicas, err)
	}
}
