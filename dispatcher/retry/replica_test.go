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

package retry_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	controllerconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/retention"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// replica is the part of a dispatcher that makes retries.
type replica struct {
	mgr        manager.Manager
	election   *retry.Election
	unfinished *unfinished.Index
	// looked counts the requests about the Lease.
	looked *atomic.Int32
}

// counting counts the requests that it forwards.
type counting struct {
	http.RoundTripper

	n *atomic.Int32
}

func (c counting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.RoundTripper.RoundTrip(request)
	c.n.Add(1)
	return response, err
}

func newReplica(t *testing.T, r *rig, identity string) *replica {
	t.Helper()
	g := NewWithT(t)
	mgr, err := ctrl.NewManager(cp.Config, manager.Options{
		Scheme:                 r.client.Scheme(),
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{r.postback.Namespace: {}},
			ByObject:          map[client.Object]cache.ByObject{&v1alpha1.PostbackDelivery{}: unfinished.CacheOptions(watched.Namespaces{})},
		},
		Controller: controllerconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	g.Expect(err).NotTo(HaveOccurred())
	index, err := unfinished.New(t.Context(), mgr.GetCache(), 0, clock.RealClock{})
	g.Expect(err).NotTo(HaveOccurred())
	looked := &atomic.Int32{}
	config := rest.CopyConfig(cp.Config)
	config.Wrap(func(transport http.RoundTripper) http.RoundTripper { return counting{transport, looked} })
	clientset, err := kubernetes.NewForConfig(config)
	g.Expect(err).NotTo(HaveOccurred())

	finished, err := retention.New(retention.Options{Client: r.client, Routes: r.routes, Clock: clock.RealClock{}})
	g.Expect(err).NotTo(HaveOccurred())
	election := &retry.Election{
		Client: clientset, Namespace: r.postback.Namespace, Identity: identity, Finished: finished,
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 500 * time.Millisecond,
	}
	reconciler := r.reconciler(t, clock.RealClock{})
	reconciler.Unfinished = index
	reconciler.Elected, reconciler.HoldsLease = election.Elected, election.HoldsLease
	reconciler.Lanes = lane.New(t.Context(), lane.Options{Clock: clock.RealClock{}, Unfinished: index.Of})
	election.Reconciler = reconciler
	g.Expect(retry.Setup(mgr, reconciler)).To(Succeed())
	g.Expect(mgr.Add(election)).To(Succeed())
	return &replica{mgr: mgr, election: election, unfinished: index, looked: looked}
}

// start runs the replica until stop is called or the test ends.
func (r *replica) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.mgr.Start(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the replica ended with %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return stop
}

func startReplica(t *testing.T, r *rig, identity string) (stop func()) {
	t.Helper()
	return newReplica(t, r, identity).start(t)
}

// A finished delivery leaves the cache, and a body never enters it.
func TestIndexHoldsOnlyUnfinishedDeliveries(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	for _, id := range []string{"evt_1", "evt_2"} {
		r.store(t, id)
	}
	replica := newReplica(t, r, "index")
	replica.start(t)
	pending := func() int { return replica.unfinished.Count(r.route()) }
	g.Eventually(pending).WithTimeout(30 * time.Second).Should(Equal(2))
	done := r.store(t, "evt_3")
	g.Eventually(pending).WithTimeout(30 * time.Second).Should(Equal(3))

	cached := &v1alpha1.PostbackDelivery{}
	g.Expect(replica.mgr.GetCache().Get(t.Context(), client.ObjectKeyFromObject(done), cached)).To(Succeed())
	g.Expect(cached.Spec.Body).To(BeEmpty())
	g.Expect(cached.Spec.PostbackRef.UID).To(Equal(r.postback.UID))

	done.Status.Phase = v1alpha1.DeliveryDelivered
	g.Expect(r.client.Status().Update(t.Context(), done)).To(Succeed())
	g.Eventually(pending).WithTimeout(30 * time.Second).Should(Equal(2))
}

// A replica that ends releases the retries only after it has recorded its attempts, so that its successor repeats
// none.
func TestRetriesAreHandedOverAfterTheLastRecord(t *testing.T) {
	g := NewWithT(t)
	r := newRig(t, clock.RealClock{})
	d := r.store(t, "evt_handover")
	d.Status.Phase, d.Status.AttemptCount = v1alpha1.DeliveryRetrying, 1
	d.Status.NextAttemptTime = ptr.To(metav1.NowMicro())
	g.Expect(r.client.Status().Update(t.Context(), d)).To(Succeed())
	begun, answer := make(chan struct{}), make(chan struct{})
	r.endpoint.during = func() {
		close(begun)
		<-answer
	}
	stop := startReplica(t, r, "owner")
	<-begun
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()

	holder := func() string {
		lease := &coordinationv1.Lease{}
		g.Expect(r.client.Get(t.Context(), client.ObjectKey{Namespace: r.postback.Namespace, Name: v1alpha1.RetriesLeaseName}, lease)).To(Succeed())
		return ptr.Deref(lease.Spec.HolderIdentity, "")
	}
	g.Consistently(holder).WithTimeout(2*time.Second).Should(Equal("owner"), "the Lease is kept as long as an attempt is in flight")
	close(answer)
	<-stopped
	g.Expect(holder()).To(BeEmpty(), "and is released at once then")
	g.Expect(r.read(t, d).Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
}
