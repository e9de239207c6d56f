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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/internal/metric"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// These are the reasons why a due delivery waits, as labels.
const (
	forDispatcher = "dispatcher"
	forEndpoint   = "endpoint"
)

var waitsForLabel = metric.Values("waits_for", forDispatcher, forEndpoint)

var (
	retriesOwner = metric.Dispatcher.GaugeDesc("postback_retries_owner",
		"1 at the replica that owns the retries, 0 at the others.")
	unfinishedDeliveries = metric.Dispatcher.GaugeDesc("postback_unfinished_deliveries",
		"Deliveries that are neither delivered nor failed. Reported by the elected replica.")
	oldestDue = metric.Dispatcher.GaugeDesc("postback_oldest_due_age_seconds",
		"Age of the longest overdue delivery, by the cause of its wait: a slot of the dispatcher, or its endpoint (an open circuit, "+
			"Retry-After, 410); 0 if none is overdue. Deliveries of paused and disabled Postbacks do not count. Reported by the elected replica.",
		waitsForLabel)
	fullestBacklog = metric.Dispatcher.GaugeDesc("postback_fullest_backlog_ratio",
		"Unfinished deliveries of a Postback divided by its spec.limits.maxPending, for the Postback with the largest ratio; "+
			"at 1 its events are refused. Reported by the elected replica.")
)

// Collector reports the gauges of the unfinished deliveries, on the elected replica only, so that their sum over all
// replicas is right. Every replica reports whether it is elected.
type Collector struct {
	Unfinished interface {
		All() []*v1alpha1.PostbackDelivery
		Count(r *route.Route) int
	}
	Routes attempt.Routes
	// Elected reports whether this replica owns the retries. Throttled reports whether due work waits for a
	// Postback's endpoint.
	Elected   func() bool
	Throttled func(postback types.UID) bool
	Clock     clock.PassiveClock
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{retriesOwner, unfinishedDeliveries, oldestDue, fullestBacklog} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(values chan<- prometheus.Metric) {
	gauge := func(description *prometheus.Desc, value float64) {
		values <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, value)
	}
	if !c.Elected() {
		gauge(retriesOwner, 0)
		return
	}
	gauge(retriesOwner, 1)
	deliveries := c.Unfinished.All()
	now := c.Clock.Now()
	oldest := map[string]time.Duration{}
	var fullest float64
	for _, d := range deliveries {
		r := c.Routes.Of(d.Namespace, d.Spec.PostbackRef)
		if r == nil {
			continue
		}
		waitsFor, due := c.dueFor(d, r, now)
		oldest[waitsFor] = max(oldest[waitsFor], due)
		fullest = max(fullest, float64(c.Unfinished.Count(r))/float64(max(r.MaxPending, 1)))
	}
	gauge(unfinishedDeliveries, float64(len(deliveries)))
	for _, waitsFor := range []string{forDispatcher, forEndpoint} {
		values <- prometheus.MustNewConstMetric(oldestDue, prometheus.GaugeValue, oldest[waitsFor].Seconds(), waitsFor)
	}
	gauge(fullestBacklog, fullest)
}

// dueFor returns why a delivery waits, and for how long it has been due. A first attempt is due from the time of the
// store. An attempted delivery without a nextAttemptTime has waited for its endpoint since its newest attempt.
func (c *Collector) dueFor(d *v1alpha1.PostbackDelivery, r *route.Route, now time.Time) (waitsFor string, due time.Duration) {
	if r.State != v1alpha1.PostbackEnabled && !d.Spec.Test {
		return forDispatcher, 0
	}
	waitsFor = forDispatcher
	if c.Throttled(r.UID) {
		waitsFor = forEndpoint
	}
	since := d.CreationTimestamp.Time
	if next := d.Status.NextAttemptTime; next != nil {
		since = next.Time
	} else if newest := delivery.Newest(d); newest != nil {
		waitsFor, since = forEndpoint, newest.Time.Time
	}
	return waitsFor, now.Sub(since)
}
