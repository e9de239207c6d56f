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
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// pollInterval is how old the counts of Pending may be, and so by how much spec.limits.maxPending may be passed: by what
	// comes in within it.
	pollInterval = time.Second
	// maxCounts is of how many Postbacks is counted what waits, at each look, and maxCounted up to how much: each Postback is a
	// request, and each delivery takes the server up to a microsecond.
	maxCounts  = 256
	maxCounted = 100_000
	// idleLooks is at how many looks a Postback is counted of which nobody asks any more.
	idleLooks = 10
	// pollShare bounds the part of the time in which the server counts what waits, to one in so many.
	pollShare = 20
	// fullRatio is the used part of the waiting stream at which events for throttled endpoints are refused. The rest is for those
	// that were accepted already.
	fullRatio = 0.95
)

type postbackKey struct {
	namespace string
	postback  types.UID
}

// deliveriesCount is how many deliveries of a Postback were in the deliveries stream at the last count.
type deliveriesCount struct {
	count int
	// asked is how often it was asked for since then, idle at how many counts it was not.
	asked, idle int
}

// Pending reports whether a Postback has reached its limit of unfinished deliveries, PostbackDeliveries and messages of the
// stream together. The server has to count the messages of one Postback. Pending therefore asks for that only where the
// number of all messages would exceed the limit. It is a runnable of every replica.
type Pending struct {
	Connection *Connection
	Unfinished *unfinished.Index

	// deliveries is how many deliveries there are in the deliveries stream.
	deliveries atomic.Int64
	// ahead is how many were behind the last one that this replica was given, and had never been given out, and aheadAt when
	// that was.
	ahead, aheadAt atomic.Int64

	// full is true while the waiting stream has no room.
	full atomic.Bool

	mu     sync.Mutex
	counts map[postbackKey]*deliveriesCount
	// waiting are the deliveries in the waiting stream at the last poll, polls is how many there were. nextPoll is when the next
	// one is due: the server's work grows with the Postbacks.
	waiting  map[postbackKey]levelCounts
	polls    uint64
	nextPoll time.Time
}

// Full implements accept.Backlog.
func (p *Pending) Full(r *route.Route) bool {
	room := int(r.MaxPending) - p.Unfinished.Count(r)
	if r.MaxPendingSet {
		room -= p.waitingOf(postbackKey{r.Namespace, r.UID})
	}
	switch {
	case room <= 0:
		return true
	case int(p.deliveries.Load()) < room:
		return false
	}
	return p.inDeliveries(postbackKey{r.Namespace, r.UID}) >= room
}

// deep reports whether the stream holds so much that it has no room for what endpoints cannot take now.
func (p *Pending) deep() bool { return p.deliveries.Load() >= maxAside }

// given takes in how many deliveries are behind one that this replica was given.
func (p *Pending) given(behind uint64, now time.Time) {
	p.ahead.Store(int64(min(behind, math.MaxInt64)))
	p.aheadAt.Store(now.UnixNano())
}

// outrun reports whether more is in the stream than is on its way to a replica: more comes in than is attempted.
func (p *Pending) outrun(now time.Time) bool {
	return p.ahead.Load() > pullMessages && now.UnixNano()-p.aheadAt.Load() < int64(pollInterval)
}

// inDeliveries returns how many deliveries of a Postback were in the deliveries stream at the last count, and has them counted again.
func (p *Pending) inDeliveries(key postbackKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.counts[key]
	if w == nil {
		w = &deliveriesCount{}
		if p.counts == nil {
			p.counts = map[postbackKey]*deliveriesCount{}
		}
		p.counts[key] = w
	}
	w.asked++
	return w.count
}

// Start looks again and again, until ctx ends.
func (p *Pending) Start(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.Connection.options.Log.V(1).Info("Cannot count the deliveries in the stream", "reason", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (p *Pending) NeedLeaderElection() bool { return false }

func (p *Pending) look(ctx context.Context) error {
	c := p.Connection
	if err := c.Available(); err != nil {
		return err
	}
	// First, for it must not wait for counts that take long.
	waiting := p.countWaiting(ctx)
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c.memory.note()
	stream, err := c.js.Stream(ctx, c.names.DeliveriesStream())
	if err != nil {
		c.memory.unseen()
		return errors.Join(err, waiting)
	}
	info := stream.CachedInfo()
	c.memory.seen(info)
	p.deliveries.Store(int64(info.State.Msgs))
	used, oldest := streamUse(&info.State, info.Config.MaxBytes, time.Now())
	deliveriesGauge.Set(float64(info.State.Msgs))
	deliveriesUsedGauge.Set(used)
	oldestDeliveryGauge.Set(oldest.Seconds())
	return errors.Join(waiting, p.recount(func(key postbackKey) (int, error) { return c.count(ctx, key) }))
}

// recount counts what waits for the Postbacks that are due.
func (p *Pending) recount(count func(postbackKey) (int, error)) error {
	left := maxCounted
	for _, key := range p.due() {
		waiting, err := count(key)
		if err != nil {
			return err
		}
		p.counted(key, waiting)
		if left -= waiting; left <= 0 {
			break
		}
	}
	return nil
}

// due returns the Postbacks to count at this look, those first that were asked for most: they take the most.
func (p *Pending) due() []postbackKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := make([]postbackKey, 0, len(p.counts))
	for key, w := range p.counts {
		if w.asked == 0 {
			w.idle++
		} else {
			w.idle = 0
		}
		if w.idle > idleLooks {
			delete(p.counts, key)
			continue
		}
		due = append(due, key)
	}
	slices.SortFunc(due, func(a, b postbackKey) int { return cmp.Compare(p.counts[b].asked, p.counts[a].asked) })
	return due[:min(len(due), maxCounts)]
}

func (p *Pending) counted(key postbackKey, count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.counts[key]
	w.count, w.asked = count, 0
}

// count returns how many deliveries of a Postback are in the stream: the first, and what it says is behind it.
func (c *Connection) count(ctx context.Context, key postbackKey) (int, error) {
	batch, err := jetstreamext.GetBatch(ctx, c.js, c.names.DeliveriesStream(), 1,
		jetstreamext.GetBatchSubject(c.names.DeliverySubjects(key.namespace, key.postback)))
	if err != nil {
		return 0, fmt.Errorf("count the deliveries of Postback %s of namespace %s: %w", key.postback, key.namespace, err)
	}
	for m, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("count the deliveries of Postback %s of namespace %s: %w", key.postback, key.namespace, err)
		}
		behind, err := strconv.Atoi(m.Header.Get(message.PendingHeader))
		if err != nil {
			return 0, fmt.Errorf("header %s: %w", message.PendingHeader, err)
		}
		return behind + 1, nil
	}
	return 0, nil
}

// streamUse returns the bytes in a stream as a part of its bound, and the age of its oldest message. A stream without a bound
// is always at 0.
func streamUse(state *jetstream.StreamState, maxBytes int64, now time.Time) (used float64, oldest time.Duration) {
	if maxBytes > 0 {
		used = float64(state.Bytes) / float64(maxBytes)
	}
	if state.Msgs > 0 {
		oldest = max(now.Sub(state.FirstTime), 0) // The server's clock may be ahead.
	}
	return used, oldest
}
