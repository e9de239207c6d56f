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

// Package statistics reads and sums PostbackStatistics. Its functions are pure.
package statistics

import (
	"slices"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Counts are the attempts and deliveries of one or more hours.
type Counts struct {
	// Since is the beginning of the first hour.
	Since time.Time
	// Attempts is the number of recorded attempts. Succeeded is the number of those that the endpoint accepted.
	Attempts, Succeeded int64
	// Delivered and Failed are the numbers of finished deliveries. A redelivery counts again.
	Delivered, Failed int64
	// Outcomes count the attempts by their outcome.
	Outcomes map[v1alpha1.Outcome]int64

	durations [len(v1alpha1.AttemptDurationBounds) + 1]int64
}

// Over returns the counts of the time span before now. Hours are whole, so the first one may begin up to an hour
// before the span. s may be nil.
func Over(s *v1alpha1.PostbackStatistics, now time.Time, span time.Duration) Counts {
	c := Counts{Since: firstHour(now, span)}
	if s == nil {
		return c
	}
	for i := range s.Hours {
		if !s.Hours[i].Time.Time.Before(c.Since) {
			c.add(&s.Hours[i])
		}
	}
	return c
}

// Hourly returns the counts of each hour that overlaps the time span before now, oldest first. Hours without attempts
// are included. The last one includes later hours, because the clock of a replica may be ahead. s may be nil.
func Hourly(s *v1alpha1.PostbackStatistics, now time.Time, span time.Duration) []Counts {
	first := firstHour(now, span)
	hours := make([]Counts, int(now.UTC().Truncate(time.Hour).Sub(first)/time.Hour)+1)
	for i := range hours {
		hours[i].Since = first.Add(time.Duration(i) * time.Hour)
	}
	if s == nil {
		return hours
	}
	for i := range s.Hours {
		if at := s.Hours[i].Time.Time; !at.Before(first) {
			hours[min(int(at.Sub(first)/time.Hour), len(hours)-1)].add(&s.Hours[i])
		}
	}
	return hours
}

// Group sums consecutive hours in groups of size. It counts from the newest hour, so the oldest group may be smaller.
func Group(hours []Counts, size int) []Counts {
	var groups []Counts
	for end := len(hours); end > 0; end -= size {
		first := max(end-size, 0)
		group := Counts{Since: hours[first].Since}
		for i := first; i < end; i++ {
			group.merge(&hours[i])
		}
		groups = append(groups, group)
	}
	slices.Reverse(groups)
	return groups
}

// Sum sums consecutive hours.
func Sum(hours []Counts) Counts {
	if len(hours) == 0 {
		return Counts{}
	}
	return Group(hours, len(hours))[0]
}

// firstHour returns the beginning of the hour in which the time span before now begins.
func firstHour(now time.Time, span time.Duration) time.Time {
	return now.UTC().Add(-span).Truncate(time.Hour)
}

func (c *Counts) add(h *v1alpha1.StatisticsHour) {
	c.Delivered += h.Delivered
	c.Failed += h.Failed
	if c.Outcomes == nil {
		c.Outcomes = map[v1alpha1.Outcome]int64{}
	}
	for _, o := range h.Outcomes {
		c.Outcomes[o.Outcome] += o.Count
		c.Attempts += o.Count
		if o.Outcome == v1alpha1.OutcomeSucceeded {
			c.Succeeded += o.Count
		}
	}
	for i, n := range h.Durations {
		c.durations[min(i, len(c.durations)-1)] += n
	}
}

func (c *Counts) merge(o *Counts) {
	c.Attempts += o.Attempts
	c.Succeeded += o.Succeeded
	c.Delivered += o.Delivered
	c.Failed += o.Failed
	for outcome, n := range o.Outcomes {
		if c.Outcomes == nil {
			c.Outcomes = map[v1alpha1.Outcome]int64{}
		}
		c.Outcomes[outcome] += n
	}
	for i, n := range o.durations {
		c.durations[i] += n
	}
}

// FailedAttempts returns the number of attempts that did not succeed.
func (c *Counts) FailedAttempts() int64 { return c.Attempts - c.Succeeded }

// Deliveries returns the number of finished deliveries.
func (c *Counts) Deliveries() int64 { return c.Delivered + c.Failed }

// Rate returns the percentage of attempts that succeeded, rounded down: it is 100 only if all did. It is 0 without
// attempts.
func (c *Counts) Rate() int { return percent(c.Succeeded, c.Attempts) }

func percent(part, all int64) int {
	if all == 0 {
		return 0
	}
	return int(part * 100 / all)
}

// Percentile estimates the duration that a share of the attempts, from 0 to 1, did not exceed. It interpolates within
// a class of durations. For attempts beyond the last bound it returns that bound. It is 0 without attempts.
func (c *Counts) Percentile(share float64) time.Duration {
	var all int64
	for _, n := range c.durations {
		all += n
	}
	rank := share * float64(all)
	var below int64
	var lower time.Duration
	for i, n := range c.durations {
		if i == len(v1alpha1.AttemptDurationBounds) {
			break
		}
		upper := v1alpha1.AttemptDurationBounds[i]
		if n > 0 && float64(below+n) >= rank {
			return lower + time.Duration(float64(upper-lower)*(rank-float64(below))/float64(n))
		}
		below += n
		lower = upper
	}
	if all == 0 {
		return 0
	}
	return lower
}

// Failures returns the outcomes of failed attempts, the most frequent first.
func (c *Counts) Failures() []v1alpha1.OutcomeCount {
	var failures []v1alpha1.OutcomeCount
	for _, outcome := range v1alpha1.Outcomes {
		if n := c.Outcomes[outcome]; n > 0 && outcome != v1alpha1.OutcomeSucceeded {
			failures = append(failures, v1alpha1.OutcomeCount{Outcome: outcome, Count: n})
		}
	}
	slices.SortStableFunc(failures, func(a, b v1alpha1.OutcomeCount) int { return int(b.Count - a.Count) })
	return failures
}

// DurationClass returns the index in StatisticsHour.Durations for a duration.
func DurationClass(d time.Duration) int {
	for i, bound := range v1alpha1.AttemptDurationBounds {
		if d <= bound {
			return i
		}
	}
	return len(v1alpha1.AttemptDurationBounds)
}
