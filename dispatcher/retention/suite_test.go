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

package retention

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

// patience bounds waits for events that usually take a moment, for busy machines.
const patience = time.Minute

// bench runs a Pruner on a real API server, with a fake clock. Each bench owns all deliveries of the server.
type bench struct {
	t      *testing.T
	g      *WithT
	client client.WithWatch
	clock  *clocktesting.FakeClock
	routes *route.Index
	// refuse may return an error, which a delete then returns instead of being made.
	refuse func(client.Object) error

	mu       sync.Mutex
	requests map[types.NamespacedName]int
	deletes  atomic.Int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	g := NewWithT(t)
	scheme := runtime.NewScheme()
	g.Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	g.Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	c, err := client.NewWithWatch(cp.Config, client.Options{Scheme: scheme})
	g.Expect(err).NotTo(HaveOccurred())
	b := &bench{
		t: t, g: g, client: c, routes: route.NewIndex(), requests: map[types.NamespacedName]int{},
		// The API server's clock sets the time at which a delivery finished.
		clock: clocktesting.NewFakeClock(time.Now().Add(time.Second)),
	}
	t.Cleanup(func() {
		for _, d := range b.all() {
			_ = c.Delete(context.Background(), &d)
		}
	})
	return b
}

// postback creates a Postback in its own namespace, and its route.
func (b *bench) postback(name string, history route.History) v1alpha1.PostbackReference {
	b.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.g.Expect(b.client.Create(b.t.Context(), namespace)).To(Succeed())
	p := &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name},
		Spec:       v1alpha1.PostbackSpec{URL: "https://crm.example.com", Triggers: []v1alpha1.Trigger{"*"}},
	}
	b.g.Expect(b.client.Create(b.t.Context(), p)).To(Succeed())
	b.routes.Set(&route.Route{Namespace: name, Name: name, UID: p.UID, History: history})
	return v1alpha1.PostbackReference{Name: name, UID: p.UID}
}

// store creates n deliveries of a Postback in a phase, concurrently.
func (b *bench) store(of v1alpha1.PostbackReference, prefix string, n int, phase v1alpha1.DeliveryPhase, change func(*v1alpha1.PostbackDelivery)) {
	b.t.Helper()
	numbers := make(chan int)
	var makers sync.WaitGroup
	for range 16 {
		makers.Go(func() {
			for i := range numbers {
				d := newDelivery(of.Name, of, fmt.Sprintf("%s-%d", prefix, i))
				if change != nil {
					change(d)
				}
				status := d.Status
				status.Phase = phase
				if err := b.client.Create(b.t.Context(), d); err != nil {
					b.t.Error(err)
				}
				d.Status = status
				if err := b.client.Status().Update(b.t.Context(), d); phase != "" && err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	makers.Wait()
}

func newDelivery(namespace string, of v1alpha1.PostbackReference, id string) *v1alpha1.PostbackDelivery {
	return delivery.FromSpec(namespace, v1alpha1.PostbackDeliverySpec{
		PostbackRef: of, Body: "{}", Event: v1alpha1.EventReference{ID: id, Type: "lead.created", CreatedAt: metav1.NowMicro()},
	})
}

// all returns all deliveries of the API server by their keys.
func (b *bench) all() map[types.NamespacedName]v1alpha1.PostbackDelivery {
	list := &v1alpha1.PostbackDeliveryList{}
	if err := b.client.List(context.Background(), list); err != nil {
		b.t.Error(err)
	}
	all := map[types.NamespacedName]v1alpha1.PostbackDelivery{}
	for _, d := range list.Items {
		all[client.ObjectKeyFromObject(&d)] = d
	}
	return all
}

// follow runs a Pruner until stop is called or the test ends.
func (b *bench) follow(maxFinished int) (k *Pruner, stop func()) {
	b.t.Helper()
	counting := interceptor.NewClient(b.client, interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			b.deletes.Add(1)
			if b.refuse != nil {
				if err := b.refuse(o); err != nil {
					return err
				}
			}
			return c.Delete(ctx, o, options...)
		},
	})
	k, err := New(Options{Client: counting, Routes: b.routes, Clock: b.clock, MaxFinished: maxFinished})
	b.g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.Follow(ctx, func(key types.NamespacedName) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests[key]++
		})
	}()
	stop = func() {
		cancel()
		<-ended
	}
	b.t.Cleanup(stop)
	b.g.Eventually(func() bool { x := k.index.Load(); return x != nil && x.hasSynced() }).WithTimeout(patience).Should(BeTrue())
	return k, stop
}

// kept returns the number of deliveries in the index after one more prune.
func (b *bench) kept(k *Pruner) int {
	b.clock.Step(pruneInterval)
	x := k.index.Load()
	return x.count(isDelivered) + x.count(isFailed)
}

// settle runs prunes until the index has n deliveries, and then a few more.
func (b *bench) settle(k *Pruner, n int) {
	b.t.Helper()
	b.g.Eventually(func() int { return b.kept(k) }).WithTimeout(patience).WithPolling(20 * time.Millisecond).Should(Equal(n))
	b.g.Consistently(func() int { return b.kept(k) }).WithTimeout(500 * time.Millisecond).WithPolling(50 * time.Millisecond).Should(Equal(n))
}
