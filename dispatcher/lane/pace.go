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

package lane

import (
	"time"

	"golang.org/x/time/rate"
)

const (
	// The defaults of Recovery.
	rampStart = 5
	rampEnd   = 2000
	// rampStep is the time that doubles the rate, unless too many attempts fail.
	rampStep = time.Second
	// leastTroubled is the number of failures below which their share says nothing. Beyond a share of 1/mostTroubled the endpoint
	// takes fewer attempts than it gets, rather than failing some at random.
	leastTroubled = 5
	mostTroubled  = 3
)

// pace bounds how many attempts of an endpoint begin in a second. It is not safe for concurrent use.
type pace struct {
	recovery  Recovery
	perSecond int32
	limit     *rate.Limiter // nil: none

	ramp     *rate.Limiter // nil: none
	rampRate float64
	stepAt   time.Time
	// attempts counts those that ended since the rate changed, troubled those of them that found the endpoint in trouble.
	attempts, troubled int
}

// setLimit changes the limit; 0 means none.
func (p *pace) setLimit(now time.Time, perSecond int32) {
	if perSecond == p.perSecond {
		return
	}
	p.perSecond = perSecond
	if perSecond == 0 {
		p.limit = nil
		return
	}
	// A burst keeps the rate up despite late timers. The rate is reduced by the burst, and by a thousandth for rounding, so no
	// second exceeds the limit.
	burst := 1 + int(perSecond)/100
	p.limit = rate.NewLimiter(rate.Limit(0.999*float64(int(perSecond)-burst+1)), burst)
	p.limit.SetLimitAt(now, p.limit.Limit())
}

// recover begins to raise the rate from low.
func (p *pace) recover(now time.Time) {
	p.rampRate, p.stepAt = p.recovery.RampStart, now.Add(rampStep)
	p.ramp = rate.NewLimiter(rate.Limit(p.rampRate), 1)
	p.attempts, p.troubled = 0, 0
}

// learn takes in the result of an attempt, and halves a rate that is too high while it is being raised.
func (p *pace) learn(now time.Time, troubled bool) {
	if p.ramp == nil {
		return
	}
	p.step(now)
	p.attempts++
	if troubled {
		p.troubled++
	}
	if p.ramp != nil && tooFast(p.attempts, p.troubled) {
		p.setRamp(now, max(p.rampRate/2, p.recovery.RampStart))
		p.stepAt = now.Add(rampStep)
	}
}

// tooFast reports whether so many attempts failed that the endpoint cannot keep up.
func tooFast(attempts, troubled int) bool {
	return troubled >= leastTroubled && mostTroubled*troubled > attempts
}

// recovering reports whether the rate is still being raised.
func (p *pace) recovering(now time.Time) bool {
	p.step(now)
	return p.ramp != nil
}

func (p *pace) step(now time.Time) {
	for p.ramp != nil && !now.Before(p.stepAt) {
		if p.rampRate *= 2; p.rampRate > p.recovery.RampEnd {
			p.ramp = nil
			return
		}
		p.setRamp(now, p.rampRate)
		p.stepAt = p.stepAt.Add(rampStep)
	}
}

func (p *pace) setRamp(now time.Time, perSecond float64) {
	p.rampRate, p.attempts, p.troubled = perSecond, 0, 0
	p.ramp.SetLimitAt(now, rate.Limit(perSecond))
	p.ramp.SetBurstAt(now, 1+int(perSecond)/50)
}

// acquire acquires a token for one attempt that begins now, or returns how long to wait for one.
func (p *pace) acquire(now time.Time) (wait time.Duration) {
	p.step(now)
	var acquired []*rate.Reservation
	for _, limiter := range []*rate.Limiter{p.limit, p.ramp} {
		if limiter == nil {
			continue
		}
		reservation := limiter.ReserveN(now, 1)
		acquired = append(acquired, reservation)
		wait = max(wait, reservation.DelayFrom(now))
	}
	if wait > 0 {
		for _, reservation := range acquired {
			reservation.CancelAt(now)
		}
	}
	return wait
}
