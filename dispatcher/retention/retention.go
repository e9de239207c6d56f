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

// Package retention watches finished deliveries on the elected replica. It finds requests for redelivery, and prunes
// deliveries.
package retention

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// DefaultMaxFinished is the default bound of a cluster's finished deliveries. Kubernetes targets at most that many
// custom objects of one kind.
const DefaultMaxFinished = 10000

const (
	// pruneInterval is the time between two prunes: time makes a delivery due, not an event.
	pruneInterval = time.Second
	// batchSize bounds the deletes of one prune, so that none is based on an outdated choice.
	batchSize = 200
	// firstPause and longestPause bound the pause after a failed batch. The pause doubles each time.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// Routes finds the route of a Postback, or nil.
type Routes interface {
	Of(namespace string, postback v1alpha1.PostbackReference) *route.Route
}

// Options configure a Pruner.
type Options struct {
	// Client reads and writes past the cache.
	Client client.WithWatch
	// Watched are the namespaces whose deliveries are pruned and counted.
	Watched watched.Namespaces
	Routes  Routes
	Clock   clock.Clock
	// MaxFinished bounds the finished deliveries of these namespaces; 0 means no bound.
	MaxFinished int
}

// Pruner deletes finished deliveries beyond the bounds of their Postbacks and of the cluster.
type Pruner struct {
	options Options
	// index is nil while this replica is not elected: each election builds a new one.
	index atomic.Pointer[index]
}

// New returns a Pruner, or an error if an option is out of range.
func New(o Options) (*Pruner, error) {
	if o.MaxFinished < 0 {
		return nil, fmt.Errorf("--max-finished-deliveries is %d: it must be 0, for any number, or more", o.MaxFinished)
	}
	if o.Client == nil || o.Routes == nil || o.Clock == nil {
		return nil, errors.New("retention needs a client, routes and a clock")
	}
	return &Pruner{options: o}, nil
}

// Follow watches and prunes the finished deliveries until ctx ends. It calls request for each delivery with a
// redeliver annotation or without an owner, at first and after each change. When Follow returns, its goroutines have
// ended.
func (p *Pruner) Follow(ctx context.Context, request func(types.NamespacedName)) {
	ctx = logf.IntoContext(ctx, logf.FromContext(ctx).WithName("retention"))
	scopes := p.options.Watched.Scopes()
	x := newIndex(scopes)
	p.index.Store(x)
	defer p.index.Store(nil)
	var parts sync.WaitGroup
	for _, scope := range scopes {
		for _, phase := range phases {
			parts.Go(func() { follow(ctx, p.options.Client, &store{index: x, part: part{phase, scope}, request: request}) })
		}
	}
	parts.Go(func() { p.prune(ctx, x) })
	parts.Wait()
}

// prune deletes deliveries beyond the bounds, batch by batch, until ctx ends.
func (p *Pruner) prune(ctx context.Context, x *index) {
	pause, atATime := time.Duration(0), workers
	for ctx.Err() == nil {
		now := p.options.Clock.Now()
		batch := x.choose(p.limitOf, bounds{total: p.options.MaxFinished, batch: batchSize}, now)
		if len(batch) == 0 {
			p.sleep(ctx, pruneInterval)
			continue
		}
		if err := p.deleteAll(ctx, x, batch, atATime); err == nil {
			pause, atATime = 0, nextAtATime(atATime, len(batch))
			continue
		} else if ctx.Err() == nil {
			pause = min(max(2*pause, firstPause), longestPause)
			logf.FromContext(ctx).Error(err, "Cannot delete finished deliveries: waiting", "pause", pause.String())
		}
		atATime = workers
		p.sleep(ctx, pause)
	}
}

// nextAtATime returns the number of concurrent deletes for the next batch: double after a full batch.
func nextAtATime(before, batch int) int {
	if batch < batchSize {
		return workers
	}
	return min(2*before, mostWorkers)
}

func (p *Pruner) sleep(ctx context.Context, d time.Duration) {
	timer := p.options.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
	}
}

// limitOf returns the limit of a Postback in a phase. It returns false without a route, or with one from an old
// manager without limits. Then only the bound of the cluster applies.
func (p *Pruner) limitOf(of owner, phase v1alpha1.DeliveryPhase) (limit, bool) {
	if of.postback.UID == "" {
		return limit{keep: math.MaxInt32, ttl: v1alpha1.DefaultHistoryTTL}, true
	}
	r := p.options.Routes.Of(of.namespace, of.postback)
	if r == nil || r.History.TTL.Duration <= 0 {
		return limit{}, false
	}
	keep := r.History.Delivered
	if phase == v1alpha1.DeliveryFailed {
		keep = r.History.Failed
	}
	if of.restored {
		keep = math.MaxInt32
	}
	return limit{keep: int(keep), ttl: r.History.TTL.Duration}, true
}
