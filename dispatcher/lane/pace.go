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
	// These are defaults of Recovery.
	rampStart = 5
	rampEnd   = 2000
	// rampStep is the time after which the rate doubles, unless too many attempts fail.
	rampStep = time.Second
	// leastTroubled is the number of failures below which their share is not significant. With a share above
	// 1/mostTroubled, the endpoint cannot keep up with the rate.
	leastTroubled = 5
	mostTroubled  = 3
)

// pace limits how many attempts at an endpoint begin per second. It is not safe for concurrent use.
type pace struct {
	recovery  Recovery
	perSecond int32
	limit     *rate.Limiter // nil means no limit.

	ramp     *rate.Limiter // nil means no slow start.
	rampRate float64
	stepAt   time.Time
	// attempts counts the attempts that ended since the rate changed, troubled those with trouble.
	attempts, troubled int
}

// setLimit sets the limit of the Postback; 0 means none.
func (p *pace) setLimit(now time.Time, perSecond int32) {
	if perSecond == p.perSecond {
		return
	}
	p.perSecond = perSecond
	if perSecond == 0 {
		p.limit = nil
		return
	}
	// The burst makes up for late timers. The rate is lower by the burst, and by a thousandth for rounding, so no
	// second exceeds the limit.
	burst := 1 + int(perSecond)/100
	p.limit = rate.NewLimiter(rate.Limit(0.999*float64(int(perSecond)-burst+1)), burst)
	p.limit.SetLimitAt(now, p.limit.Limit())
}

// recover begins the slow start.
func (p *pace) recover(now time.Time) {
	p.rampRate, p.stepAt = p.recovery.RampStart, now.Add(rampStep)
	p.ramp = rate.NewLimiter(rate.Limit(p.rampRate), 1)
	p.attempts, p.troubled = 0, 0
}

// learn counts the result of an attempt during the slow start, and halves the rate if it is too fast.
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

// tooFast reports whether the share of failures shows that the endpoint cannot keep up.
func tooFast(attempts, troubled int) bool {
	return troubled >= leastTroubled && mostTroubled*troubled > attempts
}

// recovering reports whether the slow start lasts.
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

// acquire takes a token for an attempt that begins now, or returns how long to wait for one.
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
