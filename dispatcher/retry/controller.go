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

package retry

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
)

const (
	// errorDelay and maxErrorDelay are how long to wait after an error of the API server. The longest is short: after an
	// outage everything that is due should go out soon.
	errorDelay    = 100 * time.Millisecond
	maxErrorDelay = 5 * time.Second
)

// maxConcurrent is how many deliveries are looked at a time; the attempts are made in their lanes.
const maxConcurrent = 8

// Setup adds the Reconciler to a manager. It runs on every replica, and does nothing where Elected says no, so that the
// one that is elected next has everything in memory.
func Setup(mgr manager.Manager, r *Reconciler, wake *Wake) error {
	c, err := controller.New("retry", mgr, controller.Options{
		Reconciler:              r,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](errorDelay, maxErrorDelay),
		MaxConcurrentReconciles: maxConcurrent,
		NeedLeaderElection:      ptr.To(false),
	})
	if err != nil {
		return fmt.Errorf("make the retry controller: %w", err)
	}
	if err := c.Watch(wake.Source()); err != nil {
		return fmt.Errorf("watch wakes: %w", err)
	}
	deliveries := source.Kind(mgr.GetCache(), &v1alpha1.PostbackDelivery{}, &handler.TypedEnqueueRequestForObject[*v1alpha1.PostbackDelivery]{})
	if err := c.Watch(deliveries); err != nil {
		return fmt.Errorf("watch PostbackDeliveries: %w", err)
	}
	return nil
}

// Collector reports the gauges of the unfinished deliveries, on the elected replica alone, so that a sum over replicas
// is true.
type Collector struct {
	Cache   client.Reader
	Routes  attempt.Routes
	Elected func() bool
	Clock   clock.PassiveClock
}

var (
	unfinished = prometheus.NewDesc("postback_unfinished_deliveries",
		"Deliveries that are neither delivered nor failed. Reported by the elected replica.", nil, nil)
	oldestDue = prometheus.NewDesc("postback_oldest_due_age_seconds",
		"How long the delivery that is due for longest has been due; 0 if none is. Paused and disabled Postbacks do not count. Reported by the elected replica.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- unfinished
	descriptions <- oldestDue
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(values chan<- prometheus.Metric) {
	if !c.Elected() {
		return
	}
	list := &v1alpha1.PostbackDeliveryList{}
	if err := c.Cache.List(context.Background(), list, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	now := c.Clock.Now()
	var oldest time.Duration
	for i := range list.Items {
		oldest = max(oldest, c.dueFor(&list.Items[i], now))
	}
	values <- prometheus.MustNewConstMetric(unfinished, prometheus.GaugeValue, float64(len(list.Items)))
	values <- prometheus.MustNewConstMetric(oldestDue, prometheus.GaugeValue, oldest.Seconds())
}

// dueFor returns for how long a delivery has been due. A first attempt is due when the delivery is stored.
func (c *Collector) dueFor(d *v1alpha1.PostbackDelivery, now time.Time) time.Duration {
	r := c.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	if r == nil || r.State != v1alpha1.PostbackEnabled && !d.Spec.Test {
		return 0
	}
	if next := d.Status.NextAttemptTime; next != nil {
		return now.Sub(next.Time)
	}
	return now.Sub(d.CreationTimestamp.Time)
}
