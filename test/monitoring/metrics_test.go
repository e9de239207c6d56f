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

package monitoring

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/postback-dev/postback-operator/internal/metric"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestMetricsAreAsDefined compares the exposed metrics with the definitions, and thus with docs/metrics.md. Each
// program exposes exactly its own metrics, with every series that the labels allow.
func TestMetricsAreAsDefined(t *testing.T) {
	n := newTenant(t, "as-defined")
	n.work(t)
	for name, c := range map[string]struct {
		process *operator.Process
		program *metric.Program
	}{"manager": {manager, &metric.Manager}, "dispatcher": {dispatcher, &metric.Dispatcher}, "portal": {portal, &metric.Portal}} {
		t.Run(name, func(t *testing.T) {
			definitions := c.program.Definitions()
			var want []string
			for _, d := range definitions {
				want = append(want, d.Name)
			}
			var families map[string]*dto.MetricFamily
			// Some metrics appear once the process is elected and has listed the finished deliveries.
			gomega.NewWithT(t).Eventually(func() []string {
				families = scrape(t, c.process)
				return ours(families)
			}).WithTimeout(patience).Should(gomega.Equal(want))
			for _, d := range definitions {
				checkFamily(t, d, families[d.Name])
			}
			lint(t, families)
		})
	}
	values := scrape(t, dispatcher)
	for series, least := range map[string]float64{
		`postback_attempts_total Succeeded`: 2, `postback_attempts_total Failed5xx`: 1, `postback_ingest_events_total Stored`: 3,
		`postback_ingest_events_total NoMatch`: 1, `postback_ingest_problems_total unauthenticated`: 1, `postback_ingest_problems_total invalid-event`: 1,
		`postback_ingest_requests_total 202`: 2, `postback_retries_owner `: 1, `postback_unfinished_deliveries `: 1,
	} {
		name, label, _ := strings.Cut(series, " ")
		if got := value(values[name], label); got < least {
			t.Errorf("%s is %v, want %v or more", series, got, least)
		}
	}
	values = scrape(t, manager)
	if got := value(values["postback_postbacks"], "True"); got < 2 {
		t.Errorf("%v Postbacks are Ready", got)
	}
	if got := value(values["postback_signing_keys_made_total"], "First"); got < 2 {
		t.Errorf("%v keys were made", got)
	}
}

// TestNoSeriesOfObjects: no label identifies an object, so no series remains of a deleted object, and the gauges
// fall.
func TestNoSeriesOfObjects(t *testing.T) {
	n := newTenant(t, "ghost-namespace")
	n.work(t)
	check := func(when string) {
		t.Helper()
		for _, process := range []*operator.Process{manager, dispatcher, portal} {
			for name, family := range scrape(t, process) {
				for _, series := range family.GetMetric() {
					for _, label := range series.GetLabel() {
						for _, text := range []string{n.namespace, "taking", "refusing", "lead.created", "order.created", n.endpoint.Address()} {
							if strings.Contains(label.GetValue(), text) {
								t.Errorf("%s, %s of %s has %s=%q", when, name, process.Name, label.GetName(), label.GetValue())
							}
						}
					}
				}
			}
		}
	}
	check("with the Postbacks")
	n.remove(t)
	// The Postbacks of other tests are being deleted, too.
	gomega.NewWithT(t).Eventually(func() map[string]float64 {
		left, deliveries := scrape(t, manager), scrape(t, dispatcher)
		return map[string]float64{
			"Postbacks":       value(left["postback_postbacks"], "True"),
			"PostbackSecrets": value(left["postback_postbacksecrets"], "True"),
			"unfinished":      value(deliveries["postback_unfinished_deliveries"], ""),
			"finished":        value(deliveries["postback_finished_deliveries"], "Delivered"),
		}
	}).WithTimeout(2 * patience).Should(gomega.HaveEach(0.0))
	check("after they were deleted")
}

func scrape(t *testing.T, process *operator.Process) map[string]*dto.MetricFamily {
	t.Helper()
	content, err := process.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func ours(families map[string]*dto.MetricFamily) []string {
	var names []string
	for name := range families {
		if strings.HasPrefix(name, "postback_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// checkFamily compares a metric with its definition.
func checkFamily(t *testing.T, d metric.Definition, family *dto.MetricFamily) {
	t.Helper()
	if kind := strings.ToLower(family.GetType().String()); kind != d.Type || family.GetHelp() != d.Help {
		t.Errorf("%s is a %s with the help %q", d.Name, kind, family.GetHelp())
	}
	series := 1
	for _, label := range d.Labels {
		series *= len(label.Values)
	}
	if got := len(family.GetMetric()); got != series {
		t.Errorf("%s has %d series, want %d", d.Name, got, series)
	}
	for _, m := range family.GetMetric() {
		if len(m.GetLabel()) != len(d.Labels) {
			t.Errorf("%s has the labels %v", d.Name, m.GetLabel())
		}
		for _, got := range m.GetLabel() {
			known := slices.ContainsFunc(d.Labels, func(l metric.Label) bool {
				return l.Name == got.GetName() && slices.Contains(l.Values, got.GetValue())
			})
			if !known {
				t.Errorf("%s has %s=%q, which is not defined", d.Name, got.GetName(), got.GetValue())
			}
		}
	}
}

// lint checks the conventions of Prometheus.
func lint(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	var own []*dto.MetricFamily
	for _, name := range ours(families) {
		own = append(own, families[name])
	}
	problems, err := promlint.NewWithMetricFamilies(own).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// value returns the value of the series that has a label value, or of the only series.
func value(family *dto.MetricFamily, label string) float64 {
	for _, m := range family.GetMetric() {
		if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}
