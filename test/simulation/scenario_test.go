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

// scenario is an outage of many endpoints, and the configuration of the dispatcher.
type scenario struct {
	name string
	// failing endpoints are down for the outage, all at the same time; healthy ones always answer.
	failing, healthy int
	// hanging is the share of the failing endpoints that hang instead of refusing the connection.
	hanging float64
	// every is the mean time between two events of a failing endpoint, healthyEvery that of a healthy endpoint.
	every, healthyEvery time.Duration
	outage              time.Duration
	// restart is when all replicas are replaced, from the begin of the outage; 0 means never.
	restart time.Duration

	// blind keeps the circuit closed: trouble counts as a rejection of one event.
	blind bool
	// jitter is the share of the delay by which each retry may come earlier or later.
	jitter      float64
	maxInFlight int
	// forgetful means that a new replica ignores recorded attempts.
	forgetful bool
	recovery  lane.Recovery
}

const (
	// before is the time before the outage, after the time after it during which healthy endpoints are measured.
	before, after = 10 * time.Minute, 30 * time.Minute
	replicas      = 2
	// writeTime is the duration of a write at the API server. 500 deliveries a second, with a create and a status
	// each, were measured on two cores. The odd nanoseconds keep writes from ending at the same instant as a timer of
	// the lanes, because the order would not be reproducible.
	writeTime = time.Millisecond + 7
	// answerTime is the duration of an attempt at a healthy endpoint, refuseTime at a refusing one, timeout at a
	// hanging one.
	answerTime, refuseTime, timeout = 50 * time.Millisecond, 5 * time.Millisecond, 10 * time.Second
	// takeover is how long after the store the elected replica takes over a missing first attempt.
	takeover = timeout + 10*time.Second
)
