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
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func paused(r *route.Route) { r.State = v1alpha1.PostbackPaused }

// markedFailure is a failed delivery of a paused Postback, with the annotation of a redeliver-since, and a Reconciler
// whose index does not have it.
type markedFailure struct {
	*rig
	*retry.Reconciler
	failed  *v1alpha1.PostbackDelivery
	request ctrl.Request
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
}

func newMarkedFailure(t *testing.T) *markedFailure {
	t.Helper()
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now())
	r := newRig(t, c)
	r.endpoint.status.Store(http.StatusServiceUnavailable)
	r.setRoute(func(target *route.Route) { target.MaxAttempts = 1 })
	d := r.store(t, "evt_failed")
	failed, err := r.attempter.Attempt(t.Context(), d, r.route(), attempt.Cause{}, func(*v1alpha1.Attempt) {})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(failed.Status.Phase).To(Equal(v1alpha1.DeliveryFailed))
	r.endpoint.status.Store(http.StatusOK)
	r.setRoute(paused)
	failed.Annotations = map[string]string{v1alpha1.PassedRedeliverAnnotation: "24h"}
	g.Expect(r.client.Update(t.Context(), failed)).To(Succeed())
	c.Step(time.Second)

	m := &markedFailure{rig: r, Reconciler: r.reconciler(t, c), failed: failed}
	m.Unfinished = lookup(nothing)
	m.request.NamespacedName = client.ObjectKeyFromObject(d)
	m.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(m.queue.ShutDown)
	g.Expect(m.Source().Start(t.Context(), m.queue)).To(Succeed())
	m.ReconcileFinished(m.request.NamespacedName)
	return m
}

// reconcileNext reconciles the delivery in the queue, as the controller does.
func (m *markedFailure) reconcileNext(t *testing.T) {
	t.Helper()
	g := NewWithT(t)
	g.Expect(m.queue.Len()).To(Equal(1), "it is woken")
	key, _ := m.queue.Get()
	g.Expect(key).To(Equal(m.request))
	m.queue.Done(key)
	_, err := m.Reconcile(t.Context(), key)
	g.Expect(err).NotTo(HaveOccurred())
}

func TestMarkedFailureOfAPausedPostbackWaitsForItsRoute(t *testing.T) {
	g := NewWithT(t)
	m := newMarkedFailure(t)
	result, err := m.Reconcile(t.Context(), m.request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result.RequeueAfter).To(BeNumerically(">=", 10*time.Minute), "it costs the API server next to nothing")
	m.Wake(&route.Route{Namespace: m.postback.Namespace, UID: "another"})
	g.Expect(m.queue.Len()).To(BeZero(), "another Postback's route is no reason to look")

	// After a change that does not enable the Postback, the delivery stays parked.
	m.Wake(m.route())
	m.reconcileNext(t)
	g.Expect(m.endpoint.got()).To(HaveLen(1))

	m.setRoute(func(*route.Route) {})
	m.Wake(m.route())
	m.reconcileNext(t)
	g.Expect(m.endpoint.got()).To(HaveLen(2))
	g.Expect(m.read(t, m.failed).Status.Phase).To(Equal(v1alpha1.DeliveryDelivered))
	m.Wake(m.route())
	g.Expect(m.queue.Len()).To(BeZero(), "it is no longer parked")
}

func TestMarkedFailureIsPausedAgainBeforeItsAttempt(t *testing.T) {
	g := NewWithT(t)
	m := newMarkedFailure(t)
	m.setRoute(func(*route.Route) {})
	m.Lanes = pausingLanes{m.rig}
	_, err := m.Reconcile(t.Context(), m.request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.endpoint.got()).To(HaveLen(1), "paused before its attempt")

	m.Lanes = atOnce{t.Context()}
	m.setRoute(func(*route.Route) {})
	m.Wake(m.route())
	m.reconcileNext(t)
	g.Expect(m.endpoint.got()).To(HaveLen(2))
}

// pausingLanes pause the Postback before they begin an attempt.
type pausingLanes struct{ *rig }

func (p pausingLanes) Observe(*route.Route, *v1alpha1.Attempt) {}

func (p pausingLanes) Submit(_ *route.Route, w *lane.Work) {
	p.setRoute(paused)
	w.Do(context.Background(), func(*v1alpha1.Attempt) {})
}

func TestRouteThatChangesBeforeADeliveryIsParkedWakesIt(t *testing.T) {
	g := NewWithT(t)
	m := newMarkedFailure(t)
	m.Routes = &enablingRoutes{m.rig}
	_, err := m.Reconcile(t.Context(), m.request)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.endpoint.got()).To(HaveLen(1))
	m.reconcileNext(t)
	g.Expect(m.endpoint.got()).To(HaveLen(2))
}

// enablingRoutes enable the Postback once the Reconciler has read its route, before it parks the delivery.
type enablingRoutes struct{ *rig }

func (e *enablingRoutes) Of(namespace string, postback v1alpha1.PostbackReference) *route.Route {
	found := e.routes.Of(namespace, postback)
	e.setRoute(func(*route.Route) {})
	return found
}
