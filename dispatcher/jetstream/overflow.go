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
	// overflowRate is how many PostbackDeliveries per second a replica makes for paused Postbacks and those with
	// exclusive limits. overflowBurst is how many it makes at once after a pause. Each costs the CPU of a hundred
	// messages. The others wait in the stream.
	overflowRate  = 50
	overflowBurst = 16
	// maxAside is the number of messages in the stream from which on such deliveries leave it at any rate. NATS stops
	// the deliveries to replicas at maxAckPending unsettled messages.
	maxAside = maxAckPending / 4
	// maxOverflowing bounds the concurrent creates even then.
	maxOverflowing = 64

	// A message goes back to the stream for firstAside, because its lane may have seemed slow only for a moment. Each
	// further time doubles the delay, until NATS delivers about asideRate such messages per second.
	firstAside   = 500 * time.Millisecond
	asideRate    = 200
	longestAside = time.Minute
)

// allowance bounds the rate and the concurrency of creating PostbackDeliveries. It is safe for concurrent use.
type allowance struct {
	making *semaphore.Weighted
	rate   *rate.Limiter
}

func newAllowance(making int64, perSecond rate.Limit, burst int) *allowance {
	return &allowance{making: semaphore.NewWeighted(making), rate: rate.NewLimiter(perSecond, burst)}
}

// take reports whether a PostbackDelivery may be made. deep means that the rate does not apply. If take returns true,
// the caller must call done.
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

// aside returns the delay for a message that NATS has delivered this often, from a stream with this many messages.
func aside(tries uint64, waiting int) time.Duration {
	const doublings = 7 // More would exceed longestAside.
	most := min(max(time.Duration(waiting)*time.Second/asideRate, firstAside), longestAside)
	return min(firstAside<<min(max(tries, 1)-1, doublings), most)
}
