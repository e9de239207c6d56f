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

	"golang.org/x/time/rate"
)

const (
	// maxObjects is how many unfinished PostbackDeliveries of a Postback show its failures. Beyond them retries wait in the stream.
	maxObjects = 100
	// objectEvery is after what time a replica makes another one for a Postback, after a burst of maxObjects: finished ones remain for
	// a while.
	objectEvery = 10 * time.Second
	// objectRate is how many a replica makes in a second for all Postbacks, and objectBurst how many after a pause: the API server
	// makes some hundred in all. maxMaking is how many it makes at a time.
	objectRate  = 20
	objectBurst = maxObjects
	maxMaking   = 16
	// sweepLimiters is after how many limiters the unused ones are forgotten.
	sweepLimiters = 1024
)

// failureObjects bounds the PostbackDeliveries of failed attempts. It is safe for concurrent use.
type failureObjects struct {
	*allowance

	mu        sync.Mutex
	postbacks map[postbackKey]*rate.Limiter
	sweepAt   int
}

func newFailureObjects() *failureObjects {
	return &failureObjects{
		allowance: newAllowance(maxMaking, objectRate, objectBurst), postbacks: map[postbackKey]*rate.Limiter{}, sweepAt: sweepLimiters,
	}
}

// take reports whether one may be made for a Postback. Then done has to be called.
func (f *failureObjects) take(key postbackKey, now time.Time) bool {
	return f.limiter(key, now).AllowN(now, 1) && f.allowance.take(now, false)
}

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
