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

package jetstream

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// maxObjects is the number of unfinished PostbackDeliveries of a Postback that show its failures. Further retries
	// wait in the waiting stream.
	maxObjects = 100
	// objectEvery is the interval at which a replica makes further PostbackDeliveries for a Postback, after a burst
	// of maxObjects. Finished ones remain for a while.
	objectEvery = 10 * time.Second
	// objectRate bounds the PostbackDeliveries per second that a replica makes for all Postbacks, objectBurst those
	// after a pause. The API server makes about a hundred per second in total. maxMaking bounds the concurrent
	// creates.
	objectRate  = 20
	objectBurst = maxObjects
	maxMaking   = 16
	// sweepLimiters is the number of limiters from which on unused ones are dropped.
	sweepLimiters = 1024
)

// failureObjects bounds the PostbackDeliveries of failed attempts. It is safe for concurrent use.
type failureObjects struct {
	making *semaphore.Weighted
	rate   *rate.Limiter

	mu        sync.Mutex
	postbacks map[postbackKey]*rate.Limiter
	sweepAt   int
}

func newFailureObjects() *failureObjects {
	return &failureObjects{
		making: semaphore.NewWeighted(maxMaking), rate: rate.NewLimiter(objectRate, objectBurst),
		postbacks: map[postbackKey]*rate.Limiter{}, sweepAt: sweepLimiters,
	}
}

// take reports whether a PostbackDelivery may be made for a Postback. If so, the caller must call done.
func (f *failureObjects) take(key postbackKey, now time.Time) bool {
	if !f.limiter(key, now).AllowN(now, 1) || !f.making.TryAcquire(1) {
		return false
	}
	if !f.rate.AllowN(now, 1) {
		f.done()
		return false
	}
	return true
}

func (f *failureObjects) done() { f.making.Release(1) }

func (f *failureObjects) limiter(key postbackKey, now time.Time) *rate.Limiter {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.postbacks) >= f.sweepAt {
		maps.DeleteFunc(f.postbacks, func(_ postbackKey, l *rate.Limiter) bool { return l.TokensAt(now) >= maxObjects })
		f.sweepAt = max(2*len(f.postbacks), sweepLimiters)
	}
	l := f.postbacks[key]
	if l == nil {
		l = rate.NewLimiter(rate.Every(objectEvery), maxObjects)
		f.postbacks[key] = l
	}
	return l
}
