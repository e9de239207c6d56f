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
	// pollInterval is the greatest age of the counts. spec.limits.maxPending may be exceeded by the deliveries that
	// arrive within it.
	pollInterval = time.Second
	// maxCounts bounds the Postbacks that one poll counts, maxCounted their deliveries. Each Postback takes a
	// request, and each delivery up to a microsecond of the server.
	maxCounts  = 256
	maxCounted = 100_000
	// idleLooks is the number of polls that still count a Postback after the last use of its count.
	idleLooks = 10
	// pollShare bounds the server's time for counting to one in this many parts.
	pollShare = 20
)

type postbackKey struct {
	namespace string
	postback  types.UID
}

// deliveriesCount is the number of a Postback's deliveries in the deliveries stream at the last count.
type deliveriesCount struct {
	count int
	// asked is how often the count was used since then, idle the number of counts without a use.
	asked, idle int
}

// Pending reports whether a Postback has reached its limit of unfinished deliveries: PostbackDeliveries and messages
// together. The server has to count the messages of each Postback. Pending asks for that only if the number of all
// messages would exceed the limit. It is a runnable of every replica.
type Pending struct {
	Connection *Connection
	Unfinished *unfinished.Index

	// deliveries is the number of messages in the deliveries stream.
	deliveries atomic.Int64
	// ahead is the number of messages that NATS had not delivered yet when it delivered the last one to this replica,
	// at aheadAt.
	ahead, aheadAt atomic.Int64

	// use is the use of the waiting stream at the last poll, or nil before the first.
	use atomic.Pointer[waitingUse]

	mu     sync.Mutex
	counts map[postbackKey]*deliveriesCount
	// waiting has the counts of the waiting stream at the last poll, polls the number of polls. nextPoll is when the
	// next one is due: its cost to the server grows with the Postbacks.
	waiting  map[postbackKey]levelCounts
	polls    uint64
	nextPoll time.Time
	// sizes has the mean sizes of the deliveries of Postbacks that have waiting ones and get events.
	sizes map[postbackKey]float64
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

// given records the number of undelivered messages when NATS delivered one.
func (p *Pending) given(behind uint64, now time.Time) {
	p.ahead.Store(int64(min(behind, math.MaxInt64)))
	p.aheadAt.Store(now.UnixNano())
}

// outrun reports whether more undelivered messages are in the stream than are in flight to a replica: events arrive
// faster than they are attempted.
func (p *Pending) outrun(now time.Time) bool {
	return p.ahead.Load() > pullMessages && now.UnixNano()-p.aheadAt.Load() < int64(pollInterval)
}

// inDeliveries returns a Postback's number of deliveries in the deliveries stream at the last count, and schedules
// the next count.
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

// Start counts repeatedly, until ctx ends.
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
	// The waiting stream comes first, because it must not wait for slow counts.
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

// recount counts the messages of the Postbacks that are due.
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

// due returns the Postbacks to count in this poll, those with the most used counts first.
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

// count returns a Postback's number of deliveries in the deliveries stream: the first one, and those that its header
// says follow.
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

// streamUse returns the used part of a stream's bound in bytes, and the age of its oldest message. Without a bound,
// used is 0.
func streamUse(state *jetstream.StreamState, maxBytes int64, now time.Time) (used float64, oldest time.Duration) {
	if maxBytes > 0 {
		used = float64(state.Bytes) / float64(maxBytes)
	}
	if state.Msgs > 0 {
		oldest = max(now.Sub(state.FirstTime), 0) // The server's clock may be ahead.
	}
	return used, oldest
}
