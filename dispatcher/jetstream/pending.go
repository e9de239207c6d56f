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
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
)

// pollInterval is how old the counts of Pending may be, and so by how much spec.limits.maxPending may be passed: by what
// comes in within it.
const pollInterval = time.Second

type postbackKey struct {
	namespace string
	postback  types.UID
}

// Pending counts what waits in the stream for each Postback. It is a runnable of every replica.
type Pending struct {
	Connection *Connection

	counts atomic.Pointer[map[postbackKey]int]
}

// Pending returns how many deliveries of a Postback are in the stream, at the last look.
func (p *Pending) Pending(namespace string, postback types.UID) int {
	if counts := p.counts.Load(); counts != nil {
		return (*counts)[postbackKey{namespace, postback}]
	}
	return 0
}

// Start looks again and again, until ctx ends.
func (p *Pending) Start(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.Connection.options.Log.V(1).Info("Cannot count what is in the stream", "reason", err.Error())
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
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.names.DeliveriesStream())
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(c.names.AllDeliveries()))
	if err != nil {
		return err
	}
	counts := make(map[postbackKey]int, len(info.State.Subjects))
	for subject, count := range info.State.Subjects {
		if namespace, postback, ok := c.names.Owner(subject); ok {
			counts[postbackKey{namespace, postback}] = int(count)
		}
	}
	p.counts.Store(&counts)
	gauges.show(&info.State, info.Config.MaxBytes, time.Now())
	return nil
}

// show tells of the stream of deliveries, in which nothing stays that is done with.
func (g *gaugeValues) show(state *jetstream.StreamState, maxBytes int64, now time.Time) {
	g.waiting.Store(int64(state.Msgs))
	var used, oldest int64
	if maxBytes > 0 {
		used = int64(float64(state.Bytes) / float64(maxBytes) * millionths)
	}
	if state.Msgs > 0 {
		oldest = max(now.Sub(state.FirstTime).Milliseconds(), 0) // Their clock is another one.
	}
	g.usedMillionths.Store(used)
	g.oldest.Store(oldest)
}
