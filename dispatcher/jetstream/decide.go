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
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// verdict is what to do with a delivery whose first attempt is due.
type verdict int

const (
	// attemptNow: its lane has a place.
	attemptNow verdict = iota
	// waitForPlace: its lane is full, and moves: there will be a place in a moment.
	waitForPlace
	// giveHeld and giveSlow: it becomes a PostbackDelivery, for it is not to be attempted now, or its lane hardly moves.
	giveHeld
	giveSlow
)

const (
	// lanePlaces is how many first attempts may wait in one lane: as many as keep it busy between two looks of lookAgain. With
	// more, a dispatcher that is short of CPU would take its own queue for an endpoint that is slow, and have the API server
	// store what the stream holds already.
	lanePlaces = 64
	// slowLane is how long work may wait in a lane before the lane is slow, and slowFullLane if the lane is full as well:
	// then what comes next waits outside, and everybody else's behind it.
	slowLane     = time.Second
	slowFullLane = 250 * time.Millisecond
)

// decide says what to do with a delivery, of whose Postback r is the route, or nil if there is none here: it may have been
// deleted, or not be loaded yet, and the garbage collector knows which.
func decide(r *route.Route, pressure func(*route.Route) lane.Pressure) verdict {
	if r == nil || r.State != v1alpha1.PostbackEnabled || r.Exclusive() {
		return giveHeld
	}
	p := pressure(r)
	switch full := p.Waiting >= lanePlaces; {
	case p.HeldBack:
		return giveHeld
	case p.Wait > slowLane, full && p.Wait > slowFullLane:
		return giveSlow
	case full:
		return waitForPlace
	}
	return attemptNow
}
