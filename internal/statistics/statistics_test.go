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

package statistics_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

var now = time.Date(2026, 11, 28, 9, 31, 0, 0, time.UTC)

func hourAgo(n int) metav1.Time {
	return metav1.NewTime(now.Truncate(time.Hour).Add(-time.Duration(n) * time.Hour))
}

// sample has an hour with successes now, one with failures a day ago, and one that is nearly a week old.
var sample = &v1alpha1.PostbackStatistics{Hours: []v1alpha1.StatisticsHour{
	{Time: hourAgo(167), Delivered: 1, Outcomes: []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 1}}, Durations: []int64{1}},
	{Time: hourAgo(24), Failed: 10, Outcomes: []v1alpha1.OutcomeCount{
		{Outcome: v1alpha1.OutcomeTimeout, Count: 5}, {Outcome: v1alpha1.OutcomeFailed5xx, Count: 15},
	}, Durations: []int64{0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5}},
	{Time: hourAgo(0), Delivered: 200, Outcomes: []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 200}}, Durations: []int64{0, 0, 0, 0, 200}},
	{Time: hourAgo(-1), Delivered: 3, Outcomes: []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeSucceeded, Count: 3}}, Durations: []int64{3}},
}}

func TestOver(t *testing.T) {
	for _, test := range []struct {
		name                                   string
		statistics                             *v1alpha1.PostbackStatistics
		span                                   time.Duration
		attempts, succeeded, delivered, failed int64
		rate                                   int
		since                                  metav1.Time
	}{
		{"an hour has its own and the one before", sample, time.Hour, 203, 203, 203, 0, 100, hourAgo(1)},
		{"a day includes the hour in which it begins", sample, 24 * time.Hour, 223, 203, 203, 10, 91, hourAgo(24)},
		{"a week", sample, 7 * 24 * time.Hour, 224, 204, 204, 10, 91, hourAgo(168)},
		{"no statistics", nil, time.Hour, 0, 0, 0, 0, 0, hourAgo(1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := statistics.Over(test.statistics, now, test.span)
			if c.Attempts != test.attempts || c.Succeeded != test.succeeded || c.Delivered != test.delivered || c.Failed != test.failed || c.Rate() != test.rate {
				t.Errorf("%+v, rate %d", c, c.Rate())
			}
			if !c.Since.Equal(test.since.Time) {
				t.Errorf("since %s, not %s", c.Since, test.since)
			}
		})
	}
}

func TestHourly(t *testing.T) {
	hours := statistics.Hourly(sample, now, 24*time.Hour)
	if len(hours) != 25 || hours[0].Failed != 10 || hours[24].Delivered != 203 || hours[12].Attempts != 0 {
		t.Errorf("%d hours: %+v", len(hours), hours)
	}
	if none := statistics.Hourly(nil, now, time.Hour); len(none) != 2 || none[1].Attempts != 0 || !none[1].Since.Equal(hourAgo(0).Time) {
		t.Errorf("%+v", none)
	}
}

func TestGroup(t *testing.T) {
	hours := statistics.Hourly(sample, now, 24*time.Hour)
	groups := statistics.Group(hours, 4)
	if len(groups) != 7 || groups[0].Failed != 10 || !groups[0].Since.Equal(hours[0].Since) || !groups[1].Since.Equal(hours[1].Since) || groups[6].Delivered != 203 {
		t.Errorf("%+v", groups)
	}
	over := statistics.Over(sample, now, 24*time.Hour)
	if sum := statistics.Sum(hours); sum.Attempts != over.Attempts || sum.Percentile(0.5) != over.Percentile(0.5) || !sum.Since.Equal(over.Since) {
		t.Errorf("%+v, not %+v", sum, over)
	}
	if none := statistics.Sum(nil); none.Attempts != 0 {
		t.Errorf("%+v", none)
	}
}

func TestRateIsWholeOnlyIfAllSucceeded(t *testing.T) {
	c := statistics.Counts{Attempts: 1000, Succeeded: 999}
	if c.Rate() != 99 || c.FailedAttempts() != 1 {
		t.Errorf("rate %d, failed %d", c.Rate(), c.FailedAttempts())
	}
}

func TestPercentile(t *testing.T) {
	day, none := statistics.Over(sample, now, 24*time.Hour), statistics.Counts{}
	for _, test := range []struct {
		name   string
		counts statistics.Counts
		share  float64
		least  time.Duration
		most   time.Duration
	}{
		{"median", day, 0.5, 50 * time.Millisecond, 100 * time.Millisecond},
		{"95th", day, 0.95, 50 * time.Millisecond, 100 * time.Millisecond},
		{"beyond the last bound", day, 1, 30 * time.Second, 30 * time.Second},
		{"none", none, 0.5, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.counts.Percentile(test.share); got < test.least || got > test.most {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	c := statistics.Over(sample, now, 24*time.Hour)
	want := []v1alpha1.OutcomeCount{{Outcome: v1alpha1.OutcomeFailed5xx, Count: 15}, {Outcome: v1alpha1.OutcomeTimeout, Count: 5}}
	if got := c.Failures(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestDurationClass(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 0, 5 * time.Millisecond: 0, 6 * time.Millisecond: 1, 30 * time.Second: 11, time.Minute: 12} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			if got := statistics.DurationClass(d); got != want {
				t.Errorf("%s: %d", d, got)
			}
		})
	}
}
