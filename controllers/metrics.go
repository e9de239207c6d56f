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

package controllers

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/metric"
)

// Causes of a new signing key: values of the metric's label "cause".
const (
	causeFirst     = "First"
	causeLost      = "Lost"
	causeRequested = "Requested"
	causeScheduled = "Scheduled"
)

// readyLabel is the label "ready" of the gauges: the status of the condition Ready.
var (
	readyStatuses = []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}
	readyLabel    = metric.Values("ready", readyStatuses...)
)

var (
	keysMade = metric.Manager.Counters("postback_signing_keys_made_total",
		"Signing keys that were made, by the cause: the first key of a PostbackSecret, a request for rotation, spec.rotation.every, or the loss of the earlier key.",
		metric.Values("cause", causeFirst, causeRequested, causeScheduled, causeLost))
	postbacksByReady = metric.Manager.GaugeDesc("postback_postbacks",
		"Postbacks, by the status of their condition Ready. Reported by the elected manager.", readyLabel)
	secretsByReady = metric.Manager.GaugeDesc("postback_postbacksecrets",
		"PostbackSecrets, by the status of their condition Ready. Reported by the elected manager.", readyLabel)
	unhealthyEndpoints = metric.Manager.GaugeDesc("postback_unhealthy_endpoints",
		"Enabled Postbacks whose condition EndpointHealthy is False, by its reason. Reported by the elected manager.",
		metric.Values("reason", v1alpha1.UnhealthyReasons...))
	rotationOverdue = metric.Manager.GaugeDesc("postback_rotation_overdue_seconds",
		"How long the most overdue rotation, or expiry of a previous key, has been overdue; 0 if none is. Reported by the elected manager.")
	oldestKey = metric.Manager.GaugeDesc("postback_oldest_signing_key_age_seconds",
		"Age of the oldest current key of all generated ones; 0 if there is none. Reported by the elected manager.")
)

// collector reports the gauges of the manager. Only the elected replica reports them, so that a sum over the replicas
// is right.
type collector struct {
	cache   client.Reader
	elected <-chan struct{}
	clock   clock.PassiveClock
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{postbacksByReady, secretsByReady, unhealthyEndpoints, rotationOverdue, oldestKey} {
		descriptions <- description
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(values chan<- prometheus.Metric) {
	select {
	case <-c.elected:
	default:
		return
	}
	c.collectPostbacks(values)
	c.collectSecrets(values)
}

func (c *collector) collectPostbacks(values chan<- prometheus.Metric) {
	list := &v1alpha1.PostbackList{}
	if err := c.cache.List(context.Background(), list, client.UnsafeDisableDeepCopy); err != nil {
		return // The caches are not filled yet.
	}
	ready, unhealthy := map[metav1.ConditionStatus]float64{}, map[string]float64{}
	for i := range list.Items {
		p := &list.Items[i]
		ready[readyStatus(p.Status.Conditions)]++
		health := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.EndpointHealthyCondition)
		if health != nil && health.Status == metav1.ConditionFalse && p.Spec.GetState() == v1alpha1.PostbackEnabled {
			unhealthy[health.Reason]++
		}
	}
	reportReady(values, postbacksByReady, ready)
	for _, reason := range v1alpha1.UnhealthyReasons {
		values <- prometheus.MustNewConstMetric(unhealthyEndpoints, prometheus.GaugeValue, unhealthy[reason], reason)
	}
}

func (c *collector) collectSecrets(values chan<- prometheus.Metric) {
	list := &v1alpha1.PostbackSecretList{}
	if err := c.cache.List(context.Background(), list, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	now := c.clock.Now()
	ready := map[metav1.ConditionStatus]float64{}
	var overdue, age time.Duration
	for i := range list.Items {
		s := &list.Items[i]
		ready[readyStatus(s.Status.Conditions)]++
		if s.Spec.GetSource() == v1alpha1.SecretExternal {
			continue
		}
		overdue = max(overdue, since(now, s.Status.NextRotationTime), since(now, s.Status.PreviousExpiryTime))
		age = max(age, since(now, s.Status.LastRotationTime))
	}
	reportReady(values, secretsByReady, ready)
	values <- prometheus.MustNewConstMetric(rotationOverdue, prometheus.GaugeValue, overdue.Seconds())
	values <- prometheus.MustNewConstMetric(oldestKey, prometheus.GaugeValue, age.Seconds())
}

// readyStatus returns the status of the condition Ready, or Unknown if the condition is absent.
func readyStatus(conditions []metav1.Condition) metav1.ConditionStatus {
	if ready := meta.FindStatusCondition(conditions, v1alpha1.ReadyCondition); ready != nil {
		return ready.Status
	}
	return metav1.ConditionUnknown
}

func reportReady(values chan<- prometheus.Metric, description *prometheus.Desc, counts map[metav1.ConditionStatus]float64) {
	for _, status := range readyStatuses {
		values <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, counts[status], string(status))
	}
}

// since returns the time from at to now, at least 0. It returns 0 if at is nil.
func since(now time.Time, at *metav1.Time) time.Duration {
	if at == nil {
		return 0
	}
	return max(now.Sub(at.Time), 0)
}
