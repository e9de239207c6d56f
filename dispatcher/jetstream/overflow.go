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
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// overflowRate is how many PostbackDeliveries a replica makes in a second for paused Postbacks and those with limits, and
	// overflowBurst how many after a pause. Each takes the CPU of a hundred messages. The rest waits in the stream.
	overflowRate  = 50
	overflowBurst = 16
	// maxAside is how many deliveries may be in the stream before those of such Postbacks leave it at any rate: NATS delivers no more messages while maxAckPending of them are unsettled.
	maxAside = maxAckPending / 4
	// maxOverflowing is how many are made at a time even then.
	maxOverflowing = 64

	// A message goes back into the stream for firstAside, for its lane may have been taken to be slow wrongly, then for twice
	// as long each time, until about asideRate of those that wait are given out again in a second.
	firstAside   = 500 * time.Millisecond
	asideRate    = 200
	longestAside = time.Minute
)

// allowance bounds the making of PostbackDeliveries. It is safe for concurrent use.
type allowance struct {
	making *semaphore.Weighted
	rate   *rate.Limiter
}

func newAllowance(making int64, perSecond rate.Limit, burst int) *allowance {
	return &allowance{making: semaphore.NewWeighted(making), rate: rate.NewLimiter(perSecond, burst)}
}

// take reports whether one may be made, of a stream that is deep or not. Then done has to be called.
func (a *allowance) take(now time.Time, deep bool) bool {
	if !a.making.TryAcquire(1) {
		return false
	}
	if !deep && !a.rate.AllowN(now, 1) {
		a.done()
		return false
	}
	return true
}

func (a *allowance) done() { a.making.Release(1) }

// aside returns for how long a message that was given out so often goes back into a stream that holds so many.
func aside(tries uint64, waiting int) time.Duration {
	const doublings = 7 // as far as longestAside
	most := min(max(time.Duration(waiting)*time.Second/asideRate, firstAside), longestAside)
	return min(firstAside<<min(max(tries, 1)-1, doublings), most)
}
