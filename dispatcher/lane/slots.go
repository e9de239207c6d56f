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

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// room reports whether a slot is free for one more attempt of a lane. Three rules divide the slots:
//   - Half of them are for lanes without an attempt in flight, so that hanging attempts leave slots for other endpoints.
//   - A lane may use at most as many slots of the other half as are still free, as queues do that share the memory of a
//     switch (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998).
//   - Troubled endpoints together may use a part (Recovery.Share), so that the healthy ones keep the rest.
func (l *Lanes) room(lane *lane) bool {
	free := l.options.MaxInFlight - l.inFlight
	if lane.peer.troubled && !l.roomForTroubled() {
		return false
	}
	if lane.sending == 0 {
		return free > 0
	}
	return lane.sending < free-l.options.MaxInFlight/2
}

func (l *Lanes) roomForTroubled() bool {
	return l.troubledInFlight < max(1, int(l.options.Recovery.Share*float64(l.options.MaxInFlight)))
}

// pump begins the work of a lane that may begin now.
func (l *Lanes) pump(lane *lane) {
	now := l.options.Clock.Now()
	before := lane.wakeAt
	lane.wakeAt = time.Time{}
	for lane.ctx.Err() == nil && lane.waiting() > 0 && lane.sending < lane.maxConcurrent() {
		if !l.room(lane) {
			l.starve(lane)
			break
		}
		w := lane.next(now)
		if w == nil {
			if l.closed {
				lane.due.dropAll()
				lane.manual.dropAll()
				lane.wakeAt = time.Time{}
			}
			break
		}
		l.begin(lane, w)
	}
	if until := lane.peer.retryAfter.until; lane.wakeAt.IsZero() && now.Before(until) && lane.ctx.Err() == nil {
		lane.wakeAt = until // The end of a Retry-After is reported even if no work waits for it.
	}
	l.setWake(lane)
	if lane.wakeAt != before && !lane.wakeAt.IsZero() {
		l.signal()
	}
}

// starve queues a lane for the next free slot.
func (l *Lanes) starve(lane *lane) {
	switch {
	case lane.starved:
	case lane.peer.troubled:
		l.starvedTroubled = append(l.starvedTroubled, lane)
	default:
		l.starved = append(l.starved, lane)
	}
	lane.starved = true
}

func (l *Lanes) begin(lane *lane, w *Work) {
	r := &running{lane: lane, peer: lane.peer, key: w.Key, probe: lane.peer.breaker.begin()}
	lane.noteBegin(l.options.Clock.Now(), w)
	lane.running[w.Key] = r
	l.addSlots(lane, 1)
	l.working.Go(func() {
		w.Do(lane.ctx, func(a *v1alpha1.Attempt) { l.sent(r, a) })
		l.end(r)
	})
}

// addSlots adds to the slots in use by a lane; a negative number releases some.
func (l *Lanes) addSlots(lane *lane, slots int) {
	l.troubledInFlight -= lane.troubledSlots()
	lane.sending += slots
	l.inFlight += slots
	l.troubledInFlight += lane.troubledSlots()
}

// running is work that has begun and not ended.
type running struct {
	lane *lane
	// peer is the peer of the lane when the work began.
	peer *peer
	key  types.NamespacedName
	// probe is true if the attempt is the probe of an open circuit.
	probe bool
	// newer is the work for the same delivery that came meanwhile, or nil.
	newer *Work
	// reported is true once the result is applied, released once the slot is free.
	reported, released bool
}

// sent applies the result of an attempt and releases its slot before the attempt is recorded. If MaxInFlight attempts
// are being recorded, the slot stays in use: a slow API server then slows down the attempts.
func (l *Lanes) sent(r *running, a *v1alpha1.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applyResult(r, a)
	if l.recording < l.options.MaxInFlight {
		l.recording++
		l.release(r)
	}
}

// applyResult applies the result of an attempt to its lane, once; nil means that nothing was sent.
func (l *Lanes) applyResult(r *running, a *v1alpha1.Attempt) {
	if r.reported {
		return
	}
	r.reported = true
	lane := r.lane
	wasTroubled, counted := lane.peer.troubled, lane.troubledSlots()
	lane.end(l.options.Clock.Now(), r.peer, r.probe, a)
	l.troubledInFlight += lane.troubledSlots() - counted
	if lane.peer.troubled != wasTroubled {
		lane.starved = false // If it has to wait again, it joins the other queue.
	}
	if a != nil {
		l.note(lane)
	}
}

// release frees the slot of running work, and begins work of lanes that wait for one.
func (l *Lanes) release(r *running) {
	r.released = true
	l.addSlots(r.lane, -1)
	l.pump(r.lane)
	l.pumpStarved()
	if l.closed {
		l.signal()
	}
}

// end ends running work. Newer work for the same delivery then enters the lane.
func (l *Lanes) end(r *running) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(r.lane.running, r.key)
	if r.newer != nil && r.lane.ctx.Err() == nil {
		r.lane.enqueue(r.newer)
	} else {
		r.newer.drop()
	}
	if r.released {
		l.recording--
		l.pump(r.lane)
		return
	}
	l.applyResult(r, nil)
	l.release(r)
}

// pumpStarved begins work of the lanes that wait for a slot, in order of arrival. A lane that still has to wait goes
// to the end.
func (l *Lanes) pumpStarved() {
	starved, troubled := l.starved, l.starvedTroubled
	l.starved, l.starvedTroubled = nil, nil
	free := func() bool { return l.inFlight < l.options.MaxInFlight }
	starved = l.pumpWhile(free, starved)
	troubled = l.pumpWhile(func() bool { return free() && l.roomForTroubled() }, troubled)
	l.starved, l.starvedTroubled = append(starved, l.starved...), append(troubled, l.starvedTroubled...)
}

// pumpWhile begins work of lanes in their order while slots are free, and returns the lanes that are left.
func (l *Lanes) pumpWhile(free func() bool, lanes []*lane) []*lane {
	for len(lanes) > 0 && free() {
		first := lanes[0]
		lanes = lanes[1:]
		first.starved = false
		l.pump(first)
	}
	return lanes
}
