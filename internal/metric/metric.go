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

// Package metric defines the metrics of each program in one place. The programs serve these metrics, docs/metrics.md
// describes them, and tests compare the two.
package metric

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Types of metrics, as Prometheus calls them.
const (
	CounterType   = "counter"
	GaugeType     = "gauge"
	HistogramType = "histogram"
)

// Label is a label with all its possible values, so that the number of series is bounded.
type Label struct {
	Name   string
	Values []string
}

// Values returns a label whose values are constants of a string type.
func Values[T ~string](name string, values ...T) Label {
	label := Label{Name: name}
	for _, value := range values {
		label.Values = append(label.Values, string(value))
	}
	return label
}

// Definition is the documented form of a metric.
type Definition struct {
	Name, Type, Help string
	Labels           []Label
}

// Program collects the definitions of the metrics of a program.
type Program struct {
	definitions []Definition
}

// Manager, Dispatcher and Portal hold the metrics of these programs. Package-level variables define the metrics, so the lists
// are complete once all packages of the program are imported.
var (
	Manager    Program
	Dispatcher Program
	Portal     Program
)

// Definitions returns the defined metrics, sorted by name.
func (p *Program) Definitions() []Definition {
	return slices.SortedFunc(slices.Values(p.definitions), func(a, b Definition) int { return cmp.Compare(a.Name, b.Name) })
}

func (p *Program) define(kind, name, help string, labels []Label) (names []string) {
	p.definitions = append(p.definitions, Definition{Name: name, Type: kind, Help: help, Labels: labels})
	for _, label := range labels {
		names = append(names, label.Name)
	}
	return names
}

// Counter defines and registers a counter without labels.
func (p *Program) Counter(name, help string) prometheus.Counter {
	p.define(CounterType, name, help, nil)
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	metrics.Registry.MustRegister(counter)
	return counter
}

// Counters defines and registers counters with labels. Each series exists from the start, so that rate() also counts
// its first increase.
func (p *Program) Counters(name, help string, labels ...Label) *prometheus.CounterVec {
	vector := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, p.define(CounterType, name, help, labels))
	eachSeries(labels, nil, func(values []string) { vector.WithLabelValues(values...) })
	metrics.Registry.MustRegister(vector)
	return vector
}

// Histogram defines and registers a histogram without labels.
func (p *Program) Histogram(name, help string, buckets ...float64) prometheus.Histogram {
	p.define(HistogramType, name, help, nil)
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	metrics.Registry.MustRegister(histogram)
	return histogram
}

// Gauge defines and registers a gauge without labels, which is 0 at first.
func (p *Program) Gauge(name, help string) prometheus.Gauge {
	p.define(GaugeType, name, help, nil)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	metrics.Registry.MustRegister(gauge)
	return gauge
}

// GaugeDesc defines a gauge whose values a Collector computes at each scrape.
func (p *Program) GaugeDesc(name, help string, labels ...Label) *prometheus.Desc {
	return prometheus.NewDesc(name, help, p.define(GaugeType, name, help, labels), nil)
}

// eachSeries calls do with every combination of the labels' values.
func eachSeries(labels []Label, chosen []string, do func(values []string)) {
	if len(labels) == 0 {
		do(chosen)
		return
	}
	for _, value := range labels[0].Values {
		eachSeries(labels[1:], append(slices.Clip(chosen), value), do)
	}
}
