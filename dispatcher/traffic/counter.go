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

// Package traffic counts the recorded attempts of each Postback and adds them to its PostbackStatistics.
package traffic

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// Routes finds the route of a Postback.
type Routes interface {
	// Get returns nil if the Postback has no route.
	Get(postback types.UID) *route.Route
}

// Counter counts the attempts that this replica records. It is safe for concurrent use. Its memory is bounded by the
// number of Postbacks with unwritten counts or recent attempts, and by the hours that are kept.
type Counter struct {
	// Client reads past the cache.
	Client client.Client
	Routes Routes
	Clock  clock.WithTicker

	mu    sync.Mutex
	books map[types.UID]*book
	// quietUntil is when the next failed write may be logged.
	quietUntil time.Time
}

// book has the unwritten counts of one Postback.
type book struct {
	key client.ObjectKey
	uid types.UID
	// hours has the counts since the last write, by hour. since is when the first counted attempt began.
	hours                           []hour
	since, lastSuccess, lastFailure time.Time
	// written has the counts of a write at writtenAt whose result is unknown.
	written   []hour
	writtenAt time.Time
	// due is the time of the next write. wait is the delay after the last try. seen is the resourceVersion that the
	// last try found. skipped is how often another replica wrote first.
	due     time.Time
	wait    time.Duration
	seen    string
	skipped int
}

// hour has the counts of one hour.
type hour struct {
	begin             time.Time
	delivered, failed int64
	outcomes          [maxOutcomes]int64
	durations         [len(v1alpha1.AttemptDurationBounds) + 1]int64
}

// maxOutcomes is the capacity for v1alpha1.Outcomes; a test compares the two.
const maxOutcomes = 18

var outcomeIndex = func() map[v1alpha1.Outcome]int {
	index := map[v1alpha1.Outcome]int{}
	for i, outcome := range v1alpha1.Outcomes {
		index[outcome] = i
	}
	return index
}()

// firstWrite is the delay of the write after the first count, so that a burst is written once.
const firstWrite = 2 * time.Second

// Count counts a recorded attempt. entered is the phase that the attempt gave the delivery, or "". Count allocates
// only at the first attempt of an hour.
func (c *Counter) Count(r *route.Route, a *v1alpha1.Attempt, entered v1alpha1.DeliveryPhase) {
	if c == nil {
		return
	}
	class := statistics.DurationClass(a.Duration.Duration)
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.books[r.UID]
	if b == nil {
		b = &book{key: r.Key(), uid: r.UID, due: c.Clock.Now().Add(firstWrite)}
		if c.books == nil {
			c.books = map[types.UID]*book{}
		}
		c.books[r.UID] = b
	}
	if b.since.IsZero() {
		b.since = a.Time.Time
	}
	h := b.hour(a.Time.Time)
	h.outcomes[outcomeIndex[a.Outcome]]++
	h.durations[class]++
	switch entered {
	case v1alpha1.DeliveryDelivered:
		h.delivered++
	case v1alpha1.DeliveryFailed:
		h.failed++
	default: // The delivery continues.
	}
	last := &b.lastFailure
	if a.Outcome == v1alpha1.OutcomeSucceeded {
		last = &b.lastSuccess
	}
	if end := a.Time.Add(a.Duration.Duration); end.After(*last) {
		*last = end
	}
}

// hour returns the counts of the hour that contains a time.
func (b *book) hour(at time.Time) *hour {
	begin := at.UTC().Truncate(time.Hour)
	for i := len(b.hours) - 1; i >= 0; i-- {
		if b.hours[i].begin.Equal(begin) {
			return &b.hours[i]
		}
	}
	b.hours = append(b.hours, hour{begin: begin})
	return &b.hours[len(b.hours)-1]
}

// popDue removes and returns the books to write: those that are due, or all if every is true. It drops the books of
// Postbacks that are gone, and empty ones.
func (c *Counter) popDue(now time.Time, every bool) []*book {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*book
	for uid, b := range c.books {
		switch {
		case c.Routes.Get(uid) == nil:
			delete(c.books, uid)
		case !every && now.Before(b.due):
		case len(b.hours) == 0 && len(b.written) == 0:
			delete(c.books, uid)
		default:
			due = append(due, b)
			// Nothing is due before the end of this write.
			c.books[uid] = &book{key: b.key, uid: uid, due: now.Add(never)}
		}
	}
	return due
}

// never is later than the end of any write.
const never = 24 * time.Hour

// settle sets the time of the next write of a Postback.
func (c *Counter) settle(uid types.UID, due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.books[uid]; b != nil {
		b.due = due
	}
}

// putBack merges the unwritten counts of a book with newer ones, and sets the time of the next write.
func (c *Counter) putBack(b *book, due time.Time, skipped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	newer := c.books[b.uid]
	if newer == nil {
		return // The Postback is gone.
	}
	for i := range newer.hours {
		b.hour(newer.hours[i].begin).add(&newer.hours[i])
	}
	b.lastSuccess, b.lastFailure = later(b.lastSuccess, newer.lastSuccess), later(b.lastFailure, newer.lastFailure)
	b.due = due
	if skipped {
		b.skipped++
	}
	// Hours beyond the retention are dropped, so an outage of the API server does not fill the memory.
	oldest := c.Clock.Now().Add(-v1alpha1.StatisticsSpan - time.Hour)
	kept := b.hours[:0]
	for _, h := range b.hours {
		if h.begin.After(oldest) {
			kept = append(kept, h)
		}
	}
	b.hours = kept
	c.books[b.uid] = b
}

func (h *hour) add(o *hour) {
	h.delivered += o.delivered
	h.failed += o.failed
	for i, n := range o.outcomes {
		h.outcomes[i] += n
	}
	for i, n := range o.durations {
		h.durations[i] += n
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
