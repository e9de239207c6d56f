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

package chart

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// weekOf returns the statistics of a week with one success in each hour, and one failure in each hour of the last
// day.
func weekOf(now time.Time) *v1alpha1.PostbackStatistics {
	s := &v1alpha1.PostbackStatistics{}
	for at := now.Truncate(time.Hour).Add(-7 * 24 * time.Hour); !at.After(now); at = at.Add(time.Hour) {
		h := v1alpha1.StatisticsHour{
			Time: metav1.NewTime(at), Delivered: 1, Outcomes: []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 1}}, Durations: []int64{0, 1},
		}
		if now.Sub(at) < 24*time.Hour {
			h.Outcomes = append(h.Outcomes, v1alpha1.OutcomeCount{Outcome: v1alpha1.OutcomeTimeout, Count: 1})
			h.Durations = []int64{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
		}
		s.Hours = append(s.Hours, h)
	}
	return s
}

func TestCharts(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 30, 0, 0, time.UTC)
	for _, test := range []struct {
		span  time.Duration
		bars  int
		label string
		top   string
	}{
		{24 * time.Hour, 25, "Attempts in the last 24 hours: 25 succeeded, 24 failed", "2"},
		{7 * 24 * time.Hour, 43, "Attempts in the last 7 days: 169 succeeded, 24 failed", "8"},
	} {
		t.Run(Span(test.span), func(t *testing.T) {
			hours := statistics.Hourly(weekOf(now), now, test.span)
			for name, c := range map[string]Chart{"outcomes": Outcomes(hours), "latency": Latency(hours)} {
				t.Run(name, func(t *testing.T) {
					if bars := strings.Count(string(c.SVG), `class="part"`); bars != test.bars || c.Empty {
						t.Errorf("%d bars, empty: %t", bars, c.Empty)
					}
				})
			}
			if c := Outcomes(hours); !strings.Contains(string(c.SVG), test.label) || c.Top != test.top {
				t.Errorf("top %s: %s", c.Top, c.SVG)
			}
		})
	}
	none := statistics.Hourly(nil, now, 24*time.Hour)
	if !Outcomes(none).Empty || !Latency(none).Empty || !strings.Contains(string(Spark(none)), "No attempts in the last 24 hours") {
		t.Error("a chart of nothing is not empty")
	}
}

func TestAxes(t *testing.T) {
	for top, want := range map[int64]int64{0: 2, 1: 2, 2: 2, 3: 4, 7: 8, 9: 10, 20: 20, 21: 40, 601: 800, 900: 1000} {
		t.Run(fmt.Sprint(top), func(t *testing.T) {
			if got := round(top, 2, 4, 6, 8, 10); got != want {
				t.Errorf("the axis of %d ends at %d, want %d", top, got, want)
			}
		})
	}
	hours := statistics.Hourly(weekOf(time.Date(2026, 11, 26, 12, 30, 0, 0, time.UTC)), time.Date(2026, 11, 26, 12, 30, 0, 0, time.UTC), 24*time.Hour)
	for name, c := range map[string]Chart{"outcomes": Outcomes(hours), "latency": Latency(hours)} {
		t.Run(name, func(t *testing.T) {
			if len(c.Times) != timeLabels+1 || c.Times[timeLabels] != "now" || c.Top == "" || c.Middle == "" || strings.Count(string(c.SVG), "data-tip=") != 25 {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestHeights(t *testing.T) {
	for name, test := range map[string]struct {
		succeeded, failed, top int64
		bad, good              int
	}{
		"all succeeded":         {10, 0, 10, 0, 100},
		"all failed":            {0, 10, 10, 100, 0},
		"half of each":          {5, 5, 20, 25, 25},
		"one of many failed":    {999, 1, 1000, shortest, 97},
		"one of many succeeded": {1, 999, 1000, 97, shortest},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := heights(&statistics.Counts{Attempts: test.succeeded + test.failed, Succeeded: test.succeeded}, test.top, 100)
			if bad != test.bad || good != test.good {
				t.Errorf("heights %d and %d, want %d and %d", bad, good, test.bad, test.good)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 182 * time.Millisecond: "182 ms", 1250 * time.Millisecond: "1.25 s", 90 * time.Second: "1m30s", 1500 * time.Microsecond: "1.5 ms",
	} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			if got := Duration(d); got != want {
				t.Errorf("%s is %q, want %q", d, got, want)
			}
		})
	}
}
