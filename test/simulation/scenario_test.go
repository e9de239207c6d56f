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
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

// scenario is an outage of many endpoints, and how it is met.
type scenario struct {
	name string
	// failing endpoints are away for a time, all at once; healthy ones answer always.
	failing, healthy int
	// hanging is the share of the failing endpoints that do not answer rather than refuse the connection.
	hanging float64
	// every is the time between two events of one failing endpoint, healthyEvery of one healthy endpoint.
	every, healthyEvery time.Duration
	outage              time.Duration
	// restart is when, in the outage, all replicas are replaced, or 0.
	restart time.Duration

	// blind keeps the circuit closed: trouble counts as a rejection of one event.
	blind bool
	// jitter is the share by which each retry may come earlier or later than its schedule.
	jitter      float64
	maxInFlight int
	// forgetful has a new replica take nothing from what is on record.
	forgetful bool
	recovery  lane.Recovery
}

const (
	// before is how long all is well at first, after how long healthy endpoints are looked at when the others are back.
	before, after = 10 * time.Minute, 30 * time.Minute
	replicas      = 2
	// writeTime is what a write costs the API server. Two of them, a create and a status, were measured at 500 a second on
	// two cores, with everything else on them. The odd nanoseconds keep its writes from ending when a timer of the lanes
	// fires, for what happens at one instant happens in no order that could be repeated.
	writeTime = time.Millisecond + 7
	// answerTime is how long a healthy endpoint takes, refuseTime how long one that refuses, timeout one that hangs.
	answerTime, refuseTime, timeout = 50 * time.Millisecond, 5 * time.Millisecond, 10 * time.Second
	// takeover is how long after the timeout the elected replica makes a first attempt that another one promised and has
	// not made.
	takeover = timeout + 10*time.Second
)
