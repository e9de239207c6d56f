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

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// verdict is the decision about a delivery whose first attempt is due.
type verdict int

const (
	// attemptNow means that its lane has a free slot.
	attemptNow verdict = iota
	// waitForPlace means that its lane is full but moves, so a slot will be free in a moment.
	waitForPlace
	// waitBeside means that its lane is full and pauses. A slot may be free in a moment, but later messages must
	// not wait for that.
	waitBeside
	// moveToWaiting means that it goes to the waiting stream: its Postback is not Enabled, or has limits that only the
	// elected replica can enforce, or its endpoint is throttled or slow.
	moveToWaiting
)

const (
	// lanePlaces bounds the first attempts that wait in one lane. With more, a dispatcher short of CPU would take its
	// own queue for a slow endpoint, and move messages needlessly. With fewer, an endpoint that begins to hang would
	// delay the messages of others before it counts as slow.
	lanePlaces = 256
	// A lane is slow if work waits for longer than slowLane, or if manyWaiting wait and none begins for stillLane.
	// Both are longer than the stalls of a process short of CPU.
	slowLane    = time.Second
	stillLane   = 250 * time.Millisecond
	manyWaiting = 64
	// pausedLane is how long no work may begin in a full lane before later messages pass those that wait for a
	// slot. A lane may pause for a moment.
	pausedLane = 10 * time.Millisecond
	// Up to fewWaiting attempts may wait in a lane without a delay for the producer. longestHold bounds the delay:
	// enough to keep a producer with some dozens of connections from filling the stream ahead of others. It is too
	// short to harm a producer whose events go to many Postbacks, one of them slow.
	fewWaiting  = 16
	longestHold = 25 * time.Millisecond
)

// decide returns the verdict for a delivery. r is the route of its Postback, or nil: the Postback may be deleted or
// not loaded yet. The drain removes the waiting deliveries of a deleted one.
func decide(r *route.Route, pressure func(*route.Route) lane.Pressure) verdict {
	if r == nil || r.State != v1alpha1.PostbackEnabled || r.Exclusive() {
		return moveToWaiting
	}
	p := pressure(r)
	switch {
	case p.Throttled, p.Wait > slowLane, p.SinceBegin > stillLane && p.Waiting >= manyWaiting:
		return moveToWaiting
	case p.Waiting >= lanePlaces && p.SinceBegin > pausedLane:
		return waitBeside
	case p.Waiting >= lanePlaces:
		return waitForPlace
	}
	return attemptNow
}

// hold returns how long to delay the answer for a stored delivery: about until its attempt begins, and longestHold if
// the replicas are outrun. No answer waits for an endpoint that is throttled, or for which deliveries wait for longer
// than slowLane.
func hold(p lane.Pressure, outrun bool) time.Duration {
	switch {
	case p.Throttled, p.Wait > slowLane:
		return 0
	case outrun:
		return longestHold
	case p.Waiting < fewWaiting:
		return 0
	}
	return min(p.Wait, longestHold)
}
