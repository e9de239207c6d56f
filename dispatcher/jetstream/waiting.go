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
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// levelCounts has the numbers of a Postback's waiting deliveries by the levels of message.RetrySubject.
type levelCounts [message.Levels + 1]uint64

func (n levelCounts) total() (sum uint64) {
	for _, count := range n {
		sum += count
	}
	return sum
}

// countWaiting counts the messages of each Postback in the waiting stream.
func (p *Pending) countWaiting(ctx context.Context) error {
	began := time.Now()
	if p.notDue(began) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c := p.Connection
	stream, err := c.js.Stream(ctx, c.names.WaitingStream())
	if err != nil {
		return fmt.Errorf("find stream %s: %w", c.names.WaitingStream(), err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(c.names.AllWaiting()))
	if err != nil {
		return fmt.Errorf("count the deliveries of stream %s: %w", c.names.WaitingStream(), err)
	}
	waiting := make(map[postbackKey]levelCounts, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if namespace, postback, ok := c.names.Owner(subject); ok {
			key := postbackKey{namespace, postback}
			counts := waiting[key]
			counts[c.names.Level(subject)] = n
			waiting[key] = counts
		}
	}
	used, oldest := streamUse(&info.State, info.Config.MaxBytes, time.Now())
	p.full.Store(used >= fullRatio)
	waitingGauge.Set(float64(info.State.Msgs))
	waitingUsedGauge.Set(used)
	oldestWaitingGauge.Set(oldest.Seconds())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.polls = waiting, p.polls+1
	p.nextPoll = time.Now().Add(pollShare * time.Since(began))
	return nil
}

func (p *Pending) notDue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.nextPoll)
}

// waitingCounts returns the number of messages of each Postback in the waiting stream, and the number of that poll.
// The map must not be changed.
func (p *Pending) waitingCounts() (counts map[postbackKey]levelCounts, poll uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting, p.polls
}

// Waiting returns the number of each Postback's deliveries in the waiting stream at the last poll. polled is false
// before the first poll.
func (p *Pending) Waiting() (counts map[types.UID]int64, polled bool) {
	waiting, poll := p.waitingCounts()
	counts = make(map[types.UID]int64, len(waiting))
	for key, n := range waiting {
		counts[key.postback] = int64(min(n.total(), math.MaxInt64))
	}
	return counts, poll > 0
}

// OldestWaiting returns when the oldest delivery at the head of a level was accepted, or the zero time if none waits.
func (p *Pending) OldestWaiting(ctx context.Context, r *route.Route) (oldest time.Time, err error) {
	c := p.Connection
	counts, _ := p.waitingCounts()
	for level, n := range counts[postbackKey{r.Namespace, r.UID}] {
		if n == 0 {
			continue
		}
		head, err := c.first(ctx, c.names.RetrySubject(r.Namespace, r.UID, level))
		if err != nil {
			return time.Time{}, err
		}
		if head == nil {
			continue
		}
		_, stored, err := c.names.ParseWaiting(head.Subject, head.Header, head.Data)
		if err != nil {
			return time.Time{}, err
		}
		if oldest.IsZero() || stored.Before(oldest) {
			oldest = stored
		}
	}
	return oldest, nil
}

func (p *Pending) waitingOf(key postbackKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(min(p.waiting[key].total(), math.MaxInt))
}

// waitingFull reports whether the waiting stream counts as full.
func (p *Pending) waitingFull() bool { return p.full.Load() }

// hasWaiting reports whether the waiting stream has a delivery of a Postback.
func (c *Connection) hasWaiting(ctx context.Context, namespace string, postback types.UID) (bool, error) {
	head, err := c.headOfWaiting(ctx, namespace, postback)
	return head != nil, err
}

// headOfWaiting returns a message of a Postback in the waiting stream, or nil.
func (c *Connection) headOfWaiting(ctx context.Context, namespace string, postback types.UID) (*jetstream.RawStreamMsg, error) {
	m, err := c.first(ctx, c.names.WaitingSubject(namespace, postback))
	if err != nil || m != nil {
		return m, err
	}
	return c.first(ctx, c.names.RetrySubjects(namespace, postback))
}

// first returns the oldest message of a subject of the waiting stream, or nil.
func (c *Connection) first(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	return c.ask(ctx, c.names.WaitingStream(), whichMessage{From: 1, NextOf: subject})
}
