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

package controlplane_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

const (
	wait = 30 * time.Second
	poll = 50 * time.Millisecond
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

func clients(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func namespace(t *testing.T, name string) string {
	t.Helper()
	created, err := clients(t, cp.Config).CoreV1().Namespaces().
		Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created.Name
}

func configMap(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}
}

func TestGarbageIsCollected(t *testing.T) {
	g := NewWithT(t)
	configMaps := clients(t, cp.Config).CoreV1().ConfigMaps(namespace(t, "garbage"))
	owner, err := configMaps.Create(t.Context(), configMap("owner"), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = configMaps.Create(t.Context(), configMap("owned", metav1.OwnerReference{
		APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID,
	}), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(configMaps.Delete(t.Context(), owner.Name, metav1.DeleteOptions{})).To(Succeed())
	g.Eventually(func() bool {
		_, err := configMaps.Get(t.Context(), "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, wait, poll).Should(BeTrue())
}

func TestDeletedNamespaceGoes(t *testing.T) {
	g := NewWithT(t)
	name := namespace(t, "goes")
	c := clients(t, cp.Config).CoreV1()
	_, err := c.ConfigMaps(name).Create(t.Context(), configMap("content"), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, _, err = cp.Kubectl(t.Context(), postbackManifest, "create", "-n", name, "-f", "-")
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(c.Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{})).To(Succeed())
	g.Eventually(func() bool {
		_, err := c.Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, wait, poll).Should(BeTrue())
}

const postbackManifest = `
apiVersion: postback.dev/v1alpha1
kind: Postback
metadata: {name: crm}
spec:
  url: https://crm.example.com/hooks/postback
  triggers: [lead.created]
`

func TestServiceAccountHasOnlyItsRights(t *testing.T) {
	g := NewWithT(t)
	name := namespace(t, "rights")
	g.Eventually(func() error {
		_, err := clients(t, cp.Config).CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	}, wait, poll).Should(Succeed(), "the controller manager makes the default ServiceAccount")

	config, err := cp.ServiceAccountConfig(t.Context(), name, "default")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = clients(t, config).CoreV1().Secrets(name).List(t.Context(), metav1.ListOptions{})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "got %v", err)
	g.Expect(err).To(MatchError(ContainSubstring("system:serviceaccount:rights:default")))

	_, _, err = cp.Kubectl(t.Context(), "", "create", "rolebinding", "view", "-n", name,
		"--clusterrole=admin", "--serviceaccount="+name+":default")
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() error {
		_, err := clients(t, config).CoreV1().Secrets(name).List(t.Context(), metav1.ListOptions{})
		return err
	}, wait, poll).Should(Succeed(), "the default roles and their aggregation are there")

	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(cp.ServiceAccountKubeconfig(t.Context(), name, "default", kubeconfig)).To(Succeed())
	out, _, err := cp.Kubectl(t.Context(), "", "--kubeconfig", kubeconfig, "auth", "whoami", "-o", "name")
	g.Expect(err).NotTo(HaveOccurred(), out)
}

func TestAPIServerStopsAndStarts(t *testing.T) {
	g := NewWithT(t)
	name := namespace(t, "outage")
	configMaps := clients(t, cp.Config).CoreV1().ConfigMaps(name)
	before, err := configMaps.Create(t.Context(), configMap("kept"), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(cp.StopAPIServer()).To(Succeed())
	_, err = configMaps.Get(t.Context(), "kept", metav1.GetOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("connection refused")))

	g.Expect(cp.StartAPIServer()).To(Succeed())
	after, err := configMaps.Get(t.Context(), "kept", metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.UID).To(Equal(before.UID))

	g.Expect(cp.RestartAPIServer()).To(Succeed())
	g.Expect(configMaps.Delete(t.Context(), "kept", metav1.DeleteOptions{})).To(Succeed())
}

func TestEtcdStopsAndStarts(t *testing.T) {
	g := NewWithT(t)
	configMaps := clients(t, cp.Config).CoreV1().ConfigMaps(namespace(t, "etcd"))
	before, err := configMaps.Create(t.Context(), configMap("kept"), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(cp.StopEtcd()).To(Succeed())
	limited, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = configMaps.Create(limited, configMap("lost"), metav1.CreateOptions{})
	g.Expect(err).To(HaveOccurred())

	g.Expect(cp.StartEtcd()).To(Succeed())
	after, err := configMaps.Get(t.Context(), "kept", metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.UID).To(Equal(before.UID))
	g.Expect(configMaps.Delete(t.Context(), "kept", metav1.DeleteOptions{})).To(Succeed())
}

func TestKubectlReturnsWhatWentWrong(t *testing.T) {
	g := NewWithT(t)
	_, stderr, err := cp.Kubectl(t.Context(), "", "get", "nonsense")
	g.Expect(err).To(MatchError(ContainSubstring("the server doesn't have a resource type")))
	g.Expect(stderr).To(ContainSubstring("nonsense"))
}

func TestFailedStartTellsWhy(t *testing.T) {
	for name, test := range map[string]struct {
		assets func(dir string) string
		want   []string
	}{
		"no controller manager": {
			assets: func(dir string) string {
				for _, program := range []string{"etcd", "kube-apiserver", "kubectl"} {
					link(t, program, dir)
				}
				return dir
			},
			want: []string{"has no kube-controller-manager", "unset"},
		},
		"etcd fails": {
			assets: func(dir string) string {
				script(t, filepath.Join(dir, "etcd"), "echo no space left on device >&2; exit 3")
				for _, program := range []string{"kube-apiserver", "kube-controller-manager", "kubectl"} {
					link(t, program, dir)
				}
				return dir
			},
			want: []string{"start etcd", "exit status 3", "no space left on device"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			t.Setenv("KUBEBUILDER_ASSETS", test.assets(t.TempDir()))
			_, err := controlplane.Start(t.Context(), controlplane.Options{})
			g.Expect(err).To(HaveOccurred())
			for _, want := range test.want {
				g.Expect(err.Error()).To(ContainSubstring(want))
			}
		})
	}
}

func TestStartObeysItsContext(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := controlplane.Start(ctx, controlplane.Options{Dir: shortDir(t)})
	g.Expect(err).To(MatchError(context.Canceled))
}

func TestStartRefusesAFolderInUse(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600)).To(Succeed())
	_, err := controlplane.Start(t.Context(), controlplane.Options{Dir: dir})
	g.Expect(err).To(MatchError(ContainSubstring("is not empty")))
}

// shortDir returns a folder whose path leaves room for the name of a Unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cp-") //nolint:usetesting // t.TempDir puts the test's name into the path.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func link(t *testing.T, program, dir string) {
	t.Helper()
	if err := os.Symlink(filepath.Join(cp.AssetsDir, program), filepath.Join(dir, program)); err != nil {
		t.Fatal(err)
	}
}

func script(t *testing.T, path string, lines ...string) {
	t.Helper()
	content := "#!/bin/sh\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

// After a restore the API server serves the state of the snapshot, with lower resourceVersions.
func TestRestore(t *testing.T) {
	g := NewWithT(t)
	configMaps := clients(t, cp.Config).CoreV1().ConfigMaps(namespace(t, "restore"))
	_, err := configMaps.Create(t.Context(), configMap("kept"), metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	g.Expect(cp.Snapshot(snapshot)).To(Succeed())
	g.Expect(configMaps.Delete(t.Context(), "kept", metav1.DeleteOptions{})).To(Succeed())
	for i := range 100 {
		_, err := configMaps.Create(t.Context(), configMap("younger-"+strconv.Itoa(i)), metav1.CreateOptions{})
		g.Expect(err).NotTo(HaveOccurred())
	}
	before, err := configMaps.List(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(cp.Restore(snapshot)).To(Succeed())
	after, err := configMaps.List(t.Context(), metav1.ListOptions{Limit: 1})
	g.Expect(err).NotTo(HaveOccurred())
	order, err := resourceversion.CompareResourceVersion(after.ResourceVersion, before.ResourceVersion)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(order).To(BeNumerically("<", 0), "version %s after version %s", after.ResourceVersion, before.ResourceVersion)
	_, err = configMaps.Get(t.Context(), "kept", metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = configMaps.Get(t.Context(), "younger-0", metav1.GetOptions{})
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue())
}
