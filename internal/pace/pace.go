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

// Package pace limits the rate of each caller's requests or events.
package pace

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

// maxCallers is the number of callers that a Limit remembers. Beyond it, the least recently seen caller is forgotten,
// and starts with a full burst again.
const maxCallers = 8192

// Limit is a token bucket for each caller. It is safe for concurrent use.
type Limit struct {
	perSecond float64
	burst     int
	clock     clock.PassiveClock

	mu      sync.Mutex
	callers *lru.Cache
}

// New returns a limit of perSecond events and a burst, for each caller. perSecond 0 means no limit.
func New(perSecond float64, burst int, c clock.PassiveClock) *Limit {
	return &Limit{perSecond: perSecond, burst: burst, clock: c, callers: lru.New(maxCallers)}
}

// PerSecond returns the rate, or 0 if there is no limit.
func (l *Limit) PerSecond() float64 { return l.perSecond }

// Acquire acquires n events for a caller, or none of them. If it acquires none, wait is the time until the limit has
// room for n and for the events that the same request acquired before.
func (l *Limit) Acquire(caller string, n, acquired int) (wait time.Duration, ok bool) {
	if l.perSecond <= 0 || n <= 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket := l.of(caller)
	now := l.clock.Now()
	if bucket.AllowN(now, n) {
		return 0, true
	}
	missing := float64(min(n+acquired, l.burst)) - bucket.TokensAt(now)
	seconds := math.Max(missing, 0) / l.perSecond
	return time.Duration(math.Ceil(seconds * float64(time.Second))), false
}

func (l *Limit) of(caller string) *rate.Limiter {
	if known, ok := l.callers.Get(caller); ok {
		if bucket, ok := known.(*rate.Limiter); ok {
			return bucket
		}
	}
	bucket := rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
	l.callers.Add(caller, bucket)
	return bucket
}
