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
	"maps"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
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
	waitingGauge.Set(float64(info.State.Msgs))
	oldestWaitingGauge.Set(oldest.Seconds())
	mean := float64(info.State.Bytes) / float64(max(info.State.Msgs, 1))
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.sizes, func(key postbackKey, _ float64) bool { return waiting[key].total() == 0 })
	use := &waitingUse{used, shares(waiting, p.sizes, mean, used)}
	use.observe()
	p.use.Store(use)
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

// WaitingHead describes the deliveries of a Postback at the heads of the levels.
type WaitingHead struct {
	// Oldest is when the oldest of them was accepted, or zero if none waits.
	Oldest time.Time
	// Next is the earliest due time, or zero if none has one. The deliveries of a level fall due in the order of the
	// stream.
	Next time.Time
}

// WaitingHead reads the heads of the levels of a Postback.
func (p *Pending) WaitingHead(ctx context.Context, r *route.Route) (h WaitingHead, err error) {
	c := p.Connection
	counts, _ := p.waitingCounts()
	for level, n := range counts[postbackKey{r.Namespace, r.UID}] {
		if n == 0 {
			continue
		}
		head, err := c.first(ctx, c.names.RetrySubject(r.Namespace, r.UID, level))
		if err != nil {
			return WaitingHead{}, err
		}
		if head == nil {
			continue
		}
		waiting, stored, err := c.names.ParseWaiting(head.Subject, head.Header, head.Data)
		if err != nil {
			return WaitingHead{}, err
		}
		h.add(waiting, stored)
	}
	return h, nil
}

// add adds a delivery at the head of a level. A delivery with attempts and without a time waits after a 410.
func (h *WaitingHead) add(d *v1alpha1.PostbackDelivery, stored time.Time) {
	if h.Oldest.IsZero() || stored.Before(h.Oldest) {
		h.Oldest = stored
	}
	if d.Status.NextAttemptTime == nil && d.Status.AttemptCount > 0 {
		return
	}
	if due := dueSince(d, stored); h.Next.IsZero() || due.Before(h.Next) {
		h.Next = due
	}
}

func (p *Pending) waitingOf(key postbackKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(min(p.waiting[key].total(), math.MaxInt))
}

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
