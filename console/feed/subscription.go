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

package feed

import "k8s.io/apimachinery/pkg/types"

// Changes are the changes since the last call of a subscriber. They name no deliveries, so they do not grow while a slow
// subscriber does not take them.
type Changes struct {
	// Objects are the names of changed Postbacks and PostbackSecrets, and of Postbacks whose log changed.
	Objects map[types.NamespacedName]bool
	// Status says that the feed's Status changed.
	Status bool
}

func (c *Changes) add(key types.NamespacedName) {
	if c.Objects == nil {
		c.Objects = map[types.NamespacedName]bool{}
	}
	c.Objects[key] = true
}

func (c *Changes) merge(other Changes) {
	for key := range other.Objects {
		c.add(key)
	}
	c.Status = c.Status || other.Status
}

// Subscription collects changes until the subscriber takes them, so that a slow subscriber delays nobody.
type Subscription struct {
	// C receives a value when there are changes to take.
	C <-chan struct{}

	feed    *Feed
	signal  chan struct{}
	pending Changes
}

// Subscribe returns a subscription, which the caller has to close.
func (f *Feed) Subscribe() *Subscription {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Subscription{feed: f, signal: make(chan struct{}, 1)}
	s.C = s.signal
	f.subscriptions[s] = true
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	delete(s.feed.subscriptions, s)
}

// Take returns the changes since its last call.
func (s *Subscription) Take() Changes {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	taken := s.pending
	s.pending = Changes{}
	return taken
}

// noteStatus records that the Status changed. The caller holds the lock.
func (f *Feed) noteStatus() { f.changed.Status = true }

// wake passes the changes to the subscribers. The caller holds the lock.
func (f *Feed) wake() {
	f.generation++
	for s := range f.subscriptions {
		s.pending.merge(f.changed)
		select {
		case s.signal <- struct{}{}:
		default:
		}
	}
	f.changed = Changes{}
}
