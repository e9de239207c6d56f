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
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

const (
	servers = 3
	// nonroot is the user and group id of the image.
	nonroot = 65532
)

// diskClass is the storage class of testdata/disk.yaml.
const diskClass = "node-disk"

// TestEmbeddedServersLoseNothing runs a StatefulSet of three dispatchers with a NATS server each. Events are posted
// during a rollout, kills, a drain of the node and the loss of a volume: each is accepted and arrives.
func TestEmbeddedServersLoseNothing(t *testing.T) {
	if *how != installEmbedded {
		t.Skip("the installation has no embedded NATS servers")
	}
	for _, test := range []struct {
		name   string
		events int
		// crashes is the number of dispatchers that end without recording their attempts.
		crashes int
		disturb func(t *testing.T)
	}{
		{name: "rolling-update", events: 3000, disturb: rollDispatchers},
		{name: "killed-processes", events: 2000, crashes: servers, disturb: killEachServer},
		{name: "drained-node", events: 2000, disturb: drainNode},
		{name: "lost-volume", events: 2000, crashes: 1, disturb: loseVolume},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := production{name: test.name, events: test.events, tries: postTries, rate: 50}
			p.start(t)
			mustKubectl(t, "", "-n", partner, "wait", "--for=jsonpath={.status.phase}=Running", "--timeout=60s", "pod/"+p.name)
			began := time.Now()
			test.disturb(t)
			figure(test.name+": all servers are ready again after", time.Since(began))
			produced := p.finish(t, 5*time.Minute)
			if len(produced.Refused) > 0 || produced.Accepted != test.events {
				t.Errorf("%d of %d events were not accepted: %v", len(produced.Refused), test.events, produced.Refused)
			}
			again := p.arrived(t, 5*time.Minute)
			figure(test.name+": lost, sent again", fmt.Sprintf("0, %d", again))
			figure(test.name+": requests that were retried", produced.Retries)
			if most := test.crashes * lane.DefaultMaxInFlight; again > most {
				t.Errorf("%d events were accepted more than once, %d crashes explain %d at most", again, test.crashes, most)
			}
		})
	}
}

func rollDispatchers(t *testing.T) {
	t.Helper()
	mustKubectl(t, "", "-n", system, "rollout", "restart", "statefulset/postback-dispatcher")
	mustKubectl(t, "", "-n", system, "rollout", "status", "--timeout=300s", "statefulset/postback-dispatcher")
}

// killEachServer kills the process of each Pod, one after another, in random order.
func killEachServer(t *testing.T) {
	t.Helper()
	for _, i := range rand.Perm(servers) {
		pod := dispatcherPod(t, i)
		restarts := pod.Status.ContainerStatuses[0].RestartCount
		if err := syscall.Kill(processOf(t, pod), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, patience, func(ctx context.Context) error {
			if err := api.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
				return err
			}
			if got := pod.Status.ContainerStatuses[0].RestartCount; got == restarts {
				return fmt.Errorf("the container of Pod %s has not been started again", pod.Name)
			}
			return nil
		})
		serversReady(t)
	}
}

// drainNode drains the only node. The shipped disruption budget evicts one server, and keeps the two that are needed
// to store a message.
func drainNode(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { _, _ = kubectl(context.Background(), "", "uncordon", "node") })
	_, err := kubectl(t.Context(), "", "drain", "node", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s",
		"--pod-selector=app.kubernetes.io/name=postback-dispatcher")
	if err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Fatalf("the drain was not kept from the second server: %v", err)
	}
	left, err := pods(t.Context(), "postback-dispatcher")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(ready(left)); got != servers-1 {
		t.Errorf("%d servers are ready on the drained node, want %d", got, servers-1)
	}
	mustKubectl(t, "", "uncordon", "node")
	serversReady(t)
}

// loseVolume deletes a Pod at once, with its claim, its volume and the files. The new server gets an empty volume.
func loseVolume(t *testing.T) {
	t.Helper()
	lost := rand.IntN(servers)
	pod := dispatcherPod(t, lost)
	var claim corev1.PersistentVolumeClaim
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "nats-" + pod.Name}, &claim); err != nil {
		t.Fatal(err)
	}
	volume := claim.Spec.VolumeName
	mustKubectl(t, "", "-n", system, "delete", "pvc", claim.Name, "--wait=false")
	mustKubectl(t, "", "-n", system, "delete", "pod", pod.Name, "--grace-period=0", "--force")
	mustKubectl(t, "", "delete", "pv", volume, "--timeout=60s")
	if err := errors.Join(os.RemoveAll(disk(volume)), makeVolume(t.Context(), volume+"-new")); err != nil {
		t.Fatal(err)
	}
	await(t, patience, func(ctx context.Context) error {
		var now corev1.Pod
		if err := api.Get(ctx, client.ObjectKeyFromObject(pod), &now); err != nil {
			return err
		}
		if now.UID == pod.UID {
			return fmt.Errorf("Pod %s has not been replaced", pod.Name)
		}
		return nil
	})
	serversReady(t)
}

// serversReady waits until every dispatcher is ready, which means that its NATS server has caught up.
func serversReady(t *testing.T) {
	t.Helper()
	await(t, 3*time.Minute, func(ctx context.Context) error {
		found, err := pods(ctx, "postback-dispatcher")
		if err != nil {
			return err
		}
		if got := len(ready(found)); got != servers {
			return fmt.Errorf("%d of %d dispatchers are ready", got, servers)
		}
		return nil
	})
}

func dispatcherPod(t *testing.T, i int) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: fmt.Sprintf("postback-dispatcher-%d", i)}, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// makeVolumes creates a volume on the node for each server.
func makeVolumes(ctx context.Context) error {
	if _, err := kubectl(ctx, "", "apply", "-f", "testdata/disk.yaml"); err != nil {
		return err
	}
	for i := range servers {
		if err := makeVolume(ctx, fmt.Sprintf("disk-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// makeVolume creates an empty folder that the operator's user may write to, and a PersistentVolume for it.
func makeVolume(ctx context.Context, name string) error {
	if err := errors.Join(os.MkdirAll(disk(name), 0o700), os.Chown(disk(name), nonroot, nonroot)); err != nil {
		return fmt.Errorf("make the folder of volume %s: %w", name, err)
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName:              diskClass,
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: disk(name)}},
		},
	}
	if err := api.Create(ctx, volume); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	return nil
}

// disk returns the folder of a volume.
func disk(volume string) string { return filepath.Join(os.Getenv(nodeVariable), "volumes", volume) }
