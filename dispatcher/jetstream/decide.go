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

// verdict is what to do with a delivery whose first attempt is due.
type verdict int

const (
	// attemptNow: its lane has a place.
	attemptNow verdict = iota
	// waitForPlace: its lane is full, and moves: there will be a place in a moment.
	waitForPlace
	// waitBeside: its lane is full, and pauses: there may be a place in a moment, and what comes after it must not wait for that.
	waitBeside
	// deferAttempt: it becomes a PostbackDelivery, because its Postback is paused, or has limits that the elected replica alone can hold.
	deferAttempt
	// moveToWaiting: it waits in the waiting stream, for its endpoint is throttled, or its lane hardly moves.
	moveToWaiting
)

const (
	// lanePlaces is how many first attempts may wait in one lane. With more, a dispatcher that is short of CPU would take its
	// own queue for an endpoint that is slow, and have the API server store what the stream holds already; with fewer, an
	// endpoint that begins to hang would hold up everybody else's before it is known to be one.
	lanePlaces = 256
	// slowLane is how long work may wait in a lane before the lane is slow, and stillLane for how long nothing may begin in
	// one in which manyWaiting do: longer than a process stalls that is short of CPU.
	slowLane    = time.Second
	stillLane   = 250 * time.Millisecond
	manyWaiting = 64
	// pausedLane is how long nothing may begin in a full lane before later messages pass by those that wait for a slot there. A lane
	// may stand still for a moment.
	pausedLane = 10 * time.Millisecond
	// fewWaiting may wait in a lane without that who posts is held up, which is for longestHold at most: enough for a producer
	// with some dozens of connections not to fill the stream, before everybody else's events, and too little to matter to one
	// that posts for many Postbacks, one of which is slow.
	fewWaiting  = 16
	longestHold = 25 * time.Millisecond
)

// decide says what to do with a delivery, of whose Postback r is the route, or nil if there is none here: it may have been
// deleted, or not be loaded yet, and the garbage collector knows which.
func decide(r *route.Route, pressure func(*route.Route) lane.Pressure) verdict {
	if r == nil || r.State != v1alpha1.PostbackEnabled || r.Exclusive() {
		return deferAttempt
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

// hold returns for how long the answer to a stored delivery waits: until about the time at which its attempt begins, and for
// longer if the replicas are outrun. A throttled or slow endpoint delays no answer.
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
