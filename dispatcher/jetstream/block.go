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
	"maps"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
)

// blocksKept is how long a term knows the messages that an act removed. A read in progress may have them, and a
// lagging server may return them.
const blocksKept = time.Minute

// blocks has the messages that acts of users remove: single ones, and those of a Postback up to a sequence.
type blocks struct {
	single map[uint64]time.Time
	all    map[postbackKey]blockUpTo
}

type blockUpTo struct {
	sequence uint64
	at       time.Time
}

func (c *blocks) has(key postbackKey, sequence uint64) bool {
	_, single := c.single[sequence]
	return single || sequence <= c.all[key].sequence
}

func (c *blocks) add(sequence uint64, now time.Time) {
	c.forget(now)
	if c.single == nil {
		c.single = map[uint64]time.Time{}
	}
	c.single[sequence] = now
}

func (c *blocks) addAll(key postbackKey, upTo uint64, now time.Time) {
	c.forget(now)
	if c.all == nil {
		c.all = map[postbackKey]blockUpTo{}
	}
	c.all[key] = blockUpTo{upTo, now}
}

func (c *blocks) forget(now time.Time) {
	maps.DeleteFunc(c.single, func(_ uint64, at time.Time) bool { return now.Sub(at) > blocksKept })
	maps.DeleteFunc(c.all, func(_ postbackKey, block blockUpTo) bool { return now.Sub(block.at) > blocksKept })
}

// mayBegin reports whether the attempt of a message may begin, because no act removes it. If so, mayBegin records
// that it begins.
func (d *drain) mayBegin(w *waitingMessage) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.begun = !w.blocked
	return w.begun
}

// block keeps the attempt of a message from beginning. It returns an error if the attempt has begun, perhaps in a
// former term of this replica.
func (d *drain) block(now *term, sequence uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.unsettled.all() {
		if u.waiting.sequence != sequence {
			continue
		}
		if u.waiting.begun {
			return deliverylog.ErrInFlight
		}
		u.waiting.blocked = true
	}
	now.blocks.add(sequence, d.consumer.Clock.Now())
	return nil
}

// unblock takes block back after a failed act.
func (d *drain) unblock(now *term, sequence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(now.blocks.single, sequence)
	for _, u := range d.unsettled.all() {
		if u.waiting.sequence == sequence {
			u.waiting.blocked = false
		}
	}
}

// blockAll is block for the messages of a Postback up to a sequence. It returns the number of those whose attempt has
// begun.
func (d *drain) blockAll(now *term, key postbackKey, upTo uint64) (inFlight int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.unsettled.all() {
		w := u.waiting
		if w.key.postbackKey != key || w.sequence > upTo {
			continue
		}
		if w.begun {
			inFlight++
		}
		w.blocked = true
	}
	now.blocks.addAll(key, upTo, d.consumer.Clock.Now())
	return inFlight
}

// unblockAll takes blockAll back.
func (d *drain) unblockAll(now *term, key postbackKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(now.blocks.all, key)
	for _, u := range d.unsettled.all() {
		if u.waiting.key.postbackKey == key {
			u.waiting.blocked = false
		}
	}
}
