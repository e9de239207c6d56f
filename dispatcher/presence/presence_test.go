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

package presence_test

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/internal/watched"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

const (
	namespace = "presence"
	patience  = time.Minute
)

// A replica's Lease appears once the routes are loaded, is renewed, and is deleted at the end.
func TestLeaseFollowsTheReplica(t *testing.T) {
	g := NewWithT(t)
	clientset, err := kubernetes.NewForConfig(cp.Config)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = clientset.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	leases := clientset.CoordinationV1().Leases(namespace)
	get := func() (*coordinationv1.Lease, error) {
		return leases.Get(t.Context(), presence.LeaseName("dispatcher-0"), metav1.GetOptions{})
	}
	loadedSaid := func() string {
		lease, err := get()
		if err != nil {
			return err.Error()
		}
		return lease.Annotations[v1alpha1.LoadedRoutesAnnotation]
	}

	// A killed process of this identity left a Lease with routes that this process has not loaded.
	left := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name: presence.LeaseName("dispatcher-0"), Annotations: map[string]string{v1alpha1.LoadedRoutesAnnotation: "99"},
	}}
	_, err = leases.Create(t.Context(), left, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())

	var (
		synced atomic.Bool
		loaded atomic.Value
		wrong  atomic.Pointer[error]
	)
	loaded.Store("")
	c := clocktesting.NewFakeClock(time.Now())
	p := &presence.Presence{
		Watched: watched.Of("acme,globex"),
		Client:  clientset, Namespace: namespace, Identity: "dispatcher-0", Clock: c, Synced: synced.Load,
		Loaded: func() string { return loaded.Load().(string) },
		Unready: func() error {
			if err := wrong.Load(); err != nil {
				return *err
			}
			return nil
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Start(ctx) }()
	// tick advances the clock until a condition holds.
	tick := func(holds func() bool, why string) {
		t.Helper()
		g.Eventually(func() bool {
			c.Step(500 * time.Millisecond)
			return holds()
		}).WithTimeout(patience).Should(BeTrue(), why)
	}

	g.Eventually(func() bool { _, err := get(); return apierrors.IsNotFound(err) }).WithTimeout(patience).Should(BeTrue(),
		"the Lease of the killed process goes")
	tick(func() bool { return c.HasWaiters() }, "it waits for its routes")
	_, err = get()
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "before its routes are loaded, a replica does not exist")

	synced.Store(true)
	tick(func() bool { return loadedSaid() == "" }, "it is there when they are")
	lease, err := get()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(lease.Annotations).To(HaveKeyWithValue(v1alpha1.WatchedNamespacesAnnotation, "acme,globex"))
	g.Expect(lease.Labels).To(HaveKeyWithValue(v1alpha1.ReplicaLabel, "true"))
	g.Expect(*lease.Spec.LeaseDurationSeconds).To(Equal(int32(15)))

	loaded.Store("1234")
	tick(func() bool { return loadedSaid() == "1234" }, "a loaded route is acknowledged")

	lease, err = get()
	g.Expect(err).NotTo(HaveOccurred())
	before := lease.Spec.RenewTime.Time
	tick(func() bool { lease, err := get(); return err == nil && lease.Spec.RenewTime.After(before) }, "it is renewed")

	unready := func() string {
		lease, err := get()
		g.Expect(err).NotTo(HaveOccurred())
		return lease.Annotations[v1alpha1.UnreadyReasonAnnotation]
	}
	why := errors.New("there is no stream")
	wrong.Store(&why)
	tick(func() bool { return unready() == why.Error() }, "it says why it accepts nothing")
	wrong.Store(nil)
	tick(func() bool { return unready() == "" }, "it says so no longer")

	g.Expect(leases.Delete(t.Context(), presence.LeaseName("dispatcher-0"), metav1.DeleteOptions{})).To(Succeed())
	tick(func() bool { return loadedSaid() == "1234" }, "a Lease that somebody deletes is made again")

	cancel()
	g.Expect(<-ended).To(Succeed())
	_, err = get()
	g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "a replica that ends takes its Lease along")
}

// A deleted announcement is written again; another intake replaces it.
func TestAnnouncementIsKept(t *testing.T) {
	g := NewWithT(t)
	clientset, err := kubernetes.NewForConfig(cp.Config)
	g.Expect(err).NotTo(HaveOccurred())
	const namespace = "announcement"
	_, err = clientset.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	leases := clientset.CoordinationV1().Leases(namespace)
	exists := func() bool {
		lease, err := leases.Get(t.Context(), v1alpha1.IntakeLeaseName, metav1.GetOptions{})
		return err == nil && lease.Annotations[v1alpha1.IntakeAnnotation] == v1alpha1.IntakeJetStream
	}
	announce := func(intake string) (tick func(holds func() bool, why string), end func()) {
		c := clocktesting.NewFakeClock(time.Now())
		a := &presence.Announcement{Client: clientset, Namespace: namespace, Intake: intake, Clock: c}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Start(ctx) }()
		tick = func(holds func() bool, why string) {
			t.Helper()
			g.Eventually(func() bool {
				c.Step(time.Minute)
				return holds()
			}).WithTimeout(patience).Should(BeTrue(), why)
		}
		return tick, func() {
			cancel()
			g.Expect(<-ended).To(Succeed())
		}
	}
	tick, end := announce(v1alpha1.IntakeJetStream)
	tick(exists, "it is there")
	g.Expect(leases.Delete(t.Context(), v1alpha1.IntakeLeaseName, metav1.DeleteOptions{})).To(Succeed())
	tick(exists, "it is there again")
	end()
	tick, end = announce("kubernetes")
	tick(func() bool { return !exists() }, "it is gone")
	end()
}
