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

// Package chart draws what became of attempts over time, as SVG that fits the width it is given.
package chart

import (
	"slices"
	"time"

	"github.com/postback-dev/postback-operator/console/feed"
)

// bucket is a span of time and what happened in it.
type bucket struct {
	from                time.Time
	succeeded, failed   int
	durations           []time.Duration
	median, ninetyFifth time.Duration
}

func (b *bucket) total() int { return b.succeeded + b.failed }

// buckets sorts the attempts of rows that began in a span before now into n parts of it, oldest first.
func buckets(rows []*feed.Row, now time.Time, span time.Duration, n int) []bucket {
	all := make([]bucket, n)
	width := span / time.Duration(n)
	from := now.Add(-span)
	for i := range all {
		all[i].from = from.Add(time.Duration(i) * width)
	}
	for _, r := range rows {
		for _, s := range r.Recent {
			if s.Time.Before(from) || s.Time.After(now.Add(width)) {
				continue
			}
			// A clock that is a little ahead makes its newest attempts those of the last part.
			b := &all[min(int(s.Time.Sub(from)/width), n-1)]
			if s.Succeeded() {
				b.succeeded++
			} else {
				b.failed++
			}
			b.durations = append(b.durations, s.Duration)
		}
	}
	for i := range all {
		all[i].median, all[i].ninetyFifth = percentiles(all[i].durations)
	}
	return all
}

// percentiles returns the median and the 95th percentile by nearest rank.
func percentiles(durations []time.Duration) (median, ninetyFifth time.Duration) {
	if len(durations) == 0 {
		return 0, 0
	}
	slices.Sort(durations)
	return durations[(len(durations)-1)/2], durations[(len(durations)*95+99)/100-1]
}

// Summary is what happened in a span.
type Summary struct {
	Succeeded, Failed   int
	Median, NinetyFifth time.Duration
}

// Attempts returns how many there were.
func (s Summary) Attempts() int { return s.Succeeded + s.Failed }

// Rate returns the share of attempts that succeeded, in percent. It is 100 only if all did.
func (s Summary) Rate() int {
	if s.Attempts() == 0 {
		return 0
	}
	return s.Succeeded * 100 / s.Attempts()
}

// Summarize returns what happened in a span before now.
func Summarize(rows []*feed.Row, now time.Time, span time.Duration) Summary {
	b := buckets(rows, now, span, 1)[0]
	return Summary{Succeeded: b.succeeded, Failed: b.failed, Median: b.median, NinetyFifth: b.ninetyFifth}
}
