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

// room reports whether there is a place for one more attempt of a lane. Half of all places are for the first attempt of a
// lane that has none in flight, so that however many attempts hang, an endpoint that does not hang gets its turn; of the
// other half a lane may hold at most as many as are free, as in a switch whose queues share a memory (Choudhury and
// Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). Endpoints in doubt share a part, so
// that however many are probed at once, the others have the rest.
func (l *Lanes) room(lane *lane) bool {
	free := l.options.MaxInFlight - l.inFlight
	if lane.doubted && !l.roomForDoubt() {
		return false
	}
	if lane.sending == 0 {
		return free > 0
	}
	return lane.sending < free-l.options.MaxInFlight/2
}

func (l *Lanes) roomForDoubt() bool {
	return l.inDoubt < max(1, int(l.options.Recovery.Share*float64(l.options.MaxInFlight)))
}

// pump begins what a lane may begin now.
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
				lane.asked.dropAll()
				lane.wakeAt = time.Time{}
			}
			break
		}
		l.begin(lane, w)
	}
	l.wakes.set(lane)
	if lane.wakeAt != before && !lane.wakeAt.IsZero() {
		l.tell()
	}
}

// starve has a lane wait for a place.
func (l *Lanes) starve(lane *lane) {
	switch {
	case lane.starved:
	case lane.doubted:
		l.doubted = append(l.doubted, lane)
	default:
		l.starved = append(l.starved, lane)
	}
	lane.starved = true
}

func (l *Lanes) begin(lane *lane, w *Work) {
	t := &turn{lane: lane, key: w.Key, probe: lane.breaker.begin()}
	lane.begins(l.options.Clock.Now(), w)
	lane.running[w.Key] = nil
	l.hold(lane, 1)
	l.working.Go(func() {
		w.Do(lane.ctx, func(a *v1alpha1.Attempt) { l.sent(t, a) })
		l.end(t)
	})
}

// hold has a lane take places, or give them back.
func (l *Lanes) hold(lane *lane, places int) {
	l.inDoubt -= lane.inDoubt()
	lane.sending += places
	l.inFlight += places
	l.inDoubt += lane.inDoubt()
}

// turn is work that is being done.
type turn struct {
	lane *lane
	key  types.NamespacedName
	// probe says that it tries out an endpoint whose circuit is open.
	probe bool
	// told says that how the attempt ended is known, placeless that its place was given back.
	told, placeless bool
}

// sent takes in how an attempt ended. Its place goes to others before it is recorded, unless as many are being recorded as
// may be made at a time: an API server that does not keep up has the attempts wait for it.
func (l *Lanes) sent(t *turn, a *v1alpha1.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.take(t, a)
	if l.recording < l.options.MaxInFlight {
		l.recording++
		l.leave(t)
	}
}

func (l *Lanes) take(t *turn, a *v1alpha1.Attempt) {
	if t.told {
		return
	}
	t.told = true
	lane := t.lane
	wasDoubted, counted := lane.doubted, lane.inDoubt()
	lane.end(l.options.Clock.Now(), t.probe, a)
	l.inDoubt += lane.inDoubt() - counted
	if lane.doubted != wasDoubted {
		lane.starved = false // It waits among others now, if it has to.
	}
	if a != nil {
		l.note(lane, a)
	}
}

// leave gives the place of work back, and lets others go.
func (l *Lanes) leave(t *turn) {
	t.placeless = true
	l.hold(t.lane, -1)
	l.pump(t.lane)
	l.feed()
	if l.closed {
		l.tell()
	}
}

// end ends work: what came for the same delivery meanwhile has its turn.
func (l *Lanes) end(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := t.lane.running[t.key]
	delete(t.lane.running, t.key)
	if again != nil && t.lane.ctx.Err() == nil {
		t.lane.put(again)
	} else {
		again.drop()
	}
	if t.placeless {
		l.recording--
		l.pump(t.lane)
		return
	}
	l.take(t, nil)
	l.leave(t)
}

// feed lets lanes that wait for a place go, those that came first before the others. Who still waits then comes last.
func (l *Lanes) feed() {
	starved, doubted := l.starved, l.doubted
	l.starved, l.doubted = nil, nil
	for len(starved) > 0 && l.inFlight < l.options.MaxInFlight {
		first := starved[0]
		starved = starved[1:]
		first.starved = false
		l.pump(first)
	}
	for len(doubted) > 0 && l.inFlight < l.options.MaxInFlight && l.roomForDoubt() {
		first := doubted[0]
		doubted = doubted[1:]
		first.starved = false
		l.pump(first)
	}
	l.starved, l.doubted = append(starved, l.starved...), append(doubted, l.doubted...)
}
