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
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/internal/metric"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// A process that runs but delivers nothing looks healthy without a metric of how long due deliveries have waited
// (frain-dev/convoy#1667, svix/svix-webhooks#1511).
func TestOldestDueIsMeasured(t *testing.T) {
	g := NewWithT(t)
	c := clocktesting.NewFakeClock(time.Now().Truncate(time.Second))
	r := newRig(t, c)
	for id, due := range map[string]time.Duration{"evt_overdue": -10 * time.Minute, "evt_due": -time.Minute, "evt_later": time.Hour} {
		d := r.store(t, id)
		d.Status.Phase, d.Status.AttemptCount = v1alpha1.DeliveryRetrying, 1
		d.Status.NextAttemptTime = ptr.To(metav1.NewMicroTime(c.Now().Add(due)))
		g.Expect(r.client.Status().Update(t.Context(), d)).To(Succeed())
	}
	replica := newReplica(t, r, "collector")
	replica.start(t)
	g.Eventually(func() int { return replica.unfinished.Count(r.route()) }).WithTimeout(30 * time.Second).Should(Equal(3))

	elected, throttled, enabled := true, false, r.route()
	paused := *enabled
	paused.State = v1alpha1.PostbackPaused
	routes := &oneRoute{enabled}
	collector := &retry.Collector{
		Unfinished: replica.unfinished, Routes: routes, Clock: c,
		Elected:   func() bool { return elected },
		Throttled: func(postback types.UID) bool { return throttled && postback == r.postback.UID },
	}
	oldest := func(dispatcher, endpoint string) {
		t.Helper()
		const name = "postback_oldest_due_age_seconds"
		text := ""
		if dispatcher != "" {
			text = fmt.Sprintf("# HELP %[1]s %[2]s\n# TYPE %[1]s gauge\n%[1]s{waits_for=\"dispatcher\"} %[3]s\n%[1]s{waits_for=\"endpoint\"} %[4]s\n",
				name, help(name), dispatcher, endpoint)
		}
		g.Expect(testutil.CollectAndCompare(collector, strings.NewReader(text), "postback_oldest_due_age_seconds")).To(Succeed())
	}
	oldest("600", "0")
	c.Step(time.Minute)
	oldest("660", "0")
	throttled = true
	oldest("0", "660")
	throttled = false
	oldest("660", "0")

	enabled.MaxPending = 4
	g.Expect(gauges(t, collector)).To(Equal(map[string]float64{
		"postback_retries_owner": 1, "postback_unfinished_deliveries": 3, "postback_oldest_due_age_seconds dispatcher": 660, "postback_oldest_due_age_seconds endpoint": 0,
		"postback_fullest_backlog_ratio": 0.75,
	}))
	routes.Route = &paused
	oldest("0", "0")
	elected = false
	oldest("", "")
	g.Expect(gauges(t, collector)).To(Equal(map[string]float64{"postback_retries_owner": 0}))
}

// gauges returns the values of a collector.
func gauges(t *testing.T, collector prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = metric.GetGauge().GetValue()
		}
	}
	return values
}

// help returns the help text of a dispatcher metric.
func help(name string) string {
	for _, definition := range metric.Dispatcher.Definitions() {
		if definition.Name == name {
			return definition.Help
		}
	}
	return ""
}

// oneRoute returns the same route for every delivery.
type oneRoute struct{ *route.Route }

func (o *oneRoute) Of(string, v1alpha1.PostbackReference) *route.Route { return o.Route }
