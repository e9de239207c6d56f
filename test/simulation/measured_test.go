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

package simulation

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

// measured has the measurements of a run.
type measured struct {
	mu       sync.Mutex
	scenario scenario
	start    time.Time
	// perSecond counts the attempts at failing endpoints by the second in which they began.
	perSecond []int
	// unfinished and inFlight are samples, one per second.
	unfinished, inFlight []int
	// back has the times from the end of the outage to the delivery of events for failing endpoints that were stored
	// after its begin.
	back []time.Duration
	// failed counts the failed attempts at failing endpoints.
	failed int
	// inOutage and afterwards have the delays from the store of a healthy endpoint's event to its first attempt.
	inOutage, afterwards []time.Duration
	longestWrite         time.Duration
}

func (m *measured) init(s scenario) { m.scenario, m.start = s, time.Now() }

// begun records the begin of an attempt.
func (m *measured) begun(e *event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	since := time.Since(m.start)
	if e.to.failing {
		second := int(since / time.Second)
		for len(m.perSecond) <= second {
			m.perSecond = append(m.perSecond, 0)
		}
		m.perSecond[second]++
		return
	}
	delay := time.Since(e.stored)
	switch s := &m.scenario; {
	case since < before:
	case since < before+s.outage:
		m.inOutage = append(m.inOutage, delay)
	default:
		m.afterwards = append(m.afterwards, delay)
	}
}

// recorded records the end of an attempt.
func (m *measured) recorded(e *event, succeeded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !e.to.failing:
	case !succeeded:
		m.failed++
	case e.stored.Sub(m.start) >= before:
		m.back = append(m.back, time.Since(m.start)-before-m.scenario.outage)
	}
}

func (m *measured) wrote(wait time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.longestWrite = max(m.longestWrite, wait)
}

// sample records the state of one second. It does not count attempts in flight in the last hours, in which only the
// last retries come.
func (m *measured) sample(since time.Duration, unfinished int, lanes []*lane.Lanes) {
	inFlight := 0
	if since <= before+m.scenario.outage+after {
		for _, l := range lanes {
			inFlight = max(inFlight, l.Stats().InFlight)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unfinished = append(m.unfinished, unfinished)
	m.inFlight = append(m.inFlight, inFlight)
}

// percentile returns a percentile by nearest rank.
func percentile(of []time.Duration, p float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[min(int(p/100*float64(len(of))), len(of)-1)]
}

// span returns the samples of a span of time.
func span(of []int, from, to time.Duration) []int {
	a, b := min(int(from/time.Second), len(of)), min(int(to/time.Second), len(of))
	return of[a:b]
}

func highest(of []int) int {
	if len(of) == 0 {
		return 0
	}
	return slices.Max(of)
}

func sum(of []int) int {
	total := 0
	for _, n := range of {
		total += n
	}
	return total
}

func hash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

func sortEvents(events []*event) {
	slices.SortFunc(events, func(a, b *event) int {
		return cmp.Or(a.due.Compare(b.due), strings.Compare(a.to.route.Name, b.to.route.Name), a.number-b.number)
	})
}
