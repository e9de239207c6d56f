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

// Package unfinished indexes a replica's unfinished PostbackDeliveries by Postback: their number, the deliveries,
// recent ones, and changes. It decides nothing about them. It does not have the messages in the streams of the
// JetStream intake, which package jetstream counts.
package unfinished

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// postback identifies a Postback by namespace and UID, so that a delivery that names a Postback of another namespace
// does not count for it.
type postback struct {
	namespace string
	uid       types.UID
}

func postbackOf(d *v1alpha1.PostbackDelivery) postback {
	return postback{d.Namespace, d.Spec.PostbackRef.UID}
}

// Index has the unfinished deliveries of a cache by Postback. It lags behind the API server and slightly behind the
// cache, so a delivery that it lacks may exist. Callers must not change the deliveries, which belong to the cache. It
// is safe for concurrent use.
type Index struct {
	cache  client.Reader
	synced func() bool
	clock  clock.PassiveClock
	recall time.Duration

	// reporting is locked while a change is applied and reported, so that followers get changes in order. It is
	// locked before mu.
	reporting sync.Mutex
	followers []func(d *v1alpha1.PostbackDelivery, gone bool)

	mu sync.RWMutex
	// byPostback has the cache's objects by Postback and name.
	byPostback map[postback]map[string]*v1alpha1.PostbackDelivery
	size       int
	// departed has the times at which deliveries left the cache, back to recall.
	departed map[types.NamespacedName]time.Time
	swept    time.Time
}

// New returns an Index of a cache with CacheOptions. Recent remembers a delivery for recall after it has left the
// cache; 0 means not at all.
func New(ctx context.Context, c cache.Cache, recall time.Duration, now clock.PassiveClock) (*Index, error) {
	informer, err := c.GetInformer(ctx, &v1alpha1.PostbackDelivery{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch PostbackDeliveries: %w", err)
	}
	x := newIndex(c, recall, now)
	registration, err := informer.AddEventHandler(x.handler())
	if err != nil {
		return nil, fmt.Errorf("follow PostbackDeliveries: %w", err)
	}
	x.synced = registration.HasSynced
	return x, nil
}

func newIndex(c client.Reader, recall time.Duration, now clock.PassiveClock) *Index {
	return &Index{
		cache: c, clock: now, recall: recall,
		byPostback: map[postback]map[string]*v1alpha1.PostbackDelivery{}, departed: map[types.NamespacedName]time.Time{},
	}
}

// HasSynced reports whether the Index has the deliveries of the initial list.
func (x *Index) HasSynced() bool { return x.synced() }

// Get returns an unfinished delivery, or nil. It reads the cache, which is slightly ahead of the Index.
func (x *Index) Get(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	err := x.cache.Get(ctx, key, d, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get PostbackDelivery %s from the cache: %w", key, err)
	}
	return d, nil
}

// Count returns the number of unfinished deliveries of a route's Postback.
func (x *Index) Count(r *route.Route) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.byPostback[postback{r.Namespace, r.UID}])
}

// Full reports whether a route's Postback has reached its maximum of unfinished deliveries.
func (x *Index) Full(r *route.Route) bool { return x.Count(r) >= int(r.MaxPending) }

// Of returns the unfinished deliveries of a route's Postback, unsorted.
func (x *Index) Of(r *route.Route) []*v1alpha1.PostbackDelivery {
	x.mu.RLock()
	defer x.mu.RUnlock()
	deliveries := x.byPostback[postback{r.Namespace, r.UID}]
	return slices.AppendSeq(make([]*v1alpha1.PostbackDelivery, 0, len(deliveries)), maps.Values(deliveries))
}

// All returns all unfinished deliveries, unsorted.
func (x *Index) All() []*v1alpha1.PostbackDelivery {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]*v1alpha1.PostbackDelivery, 0, x.size)
	for _, deliveries := range x.byPostback {
		all = slices.AppendSeq(all, maps.Values(deliveries))
	}
	return all
}

// Recent reports whether a delivery is an unfinished PostbackDelivery, or was one until it left the cache at most
// recall ago. It compares Postback and name. A delivery that finished before the cache saw it is not recent.
func (x *Index) Recent(d *v1alpha1.PostbackDelivery) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if _, ok := x.byPostback[postbackOf(d)][d.Name]; ok {
		return true
	}
	at, ok := x.departed[client.ObjectKeyFromObject(d)]
	return ok && x.clock.Since(at) <= x.recall
}

// Follow calls f for each unfinished delivery, and later for each that is added, changed or removed. The calls are
// serial, after the Index has applied the change. f may call the Index, and must not block.
func (x *Index) Follow(f func(d *v1alpha1.PostbackDelivery, gone bool)) {
	x.reporting.Lock()
	defer x.reporting.Unlock()
	x.followers = append(x.followers, f)
	for _, d := range x.All() {
		f(d, false)
	}
}

func (x *Index) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { x.changed(nil, deliveryIn(object)) },
		UpdateFunc: func(before, object any) { x.changed(deliveryIn(before), deliveryIn(object)) },
		DeleteFunc: func(object any) { x.changed(deliveryIn(object), nil) },
	}
}

// deliveryIn returns the delivery that an informer passes to a handler, or nil.
func deliveryIn(object any) *v1alpha1.PostbackDelivery {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	d, ok := object.(*v1alpha1.PostbackDelivery)
	if !ok {
		return nil
	}
	return d
}

// changed applies a change and reports it to the followers. before is nil for a new delivery, now for a removed one.
func (x *Index) changed(before, now *v1alpha1.PostbackDelivery) {
	reported := cmp.Or(now, before)
	if reported == nil {
		return
	}
	x.reporting.Lock()
	defer x.reporting.Unlock()
	x.apply(before, now)
	for _, f := range x.followers {
		f(reported, now == nil)
	}
}

func (x *Index) apply(before, now *v1alpha1.PostbackDelivery) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if before != nil && (now == nil || postbackOf(before) != postbackOf(now)) {
		x.remove(before)
	}
	if now == nil {
		x.remember(client.ObjectKeyFromObject(before))
		return
	}
	deliveries := x.byPostback[postbackOf(now)]
	if deliveries == nil {
		deliveries = map[string]*v1alpha1.PostbackDelivery{}
		x.byPostback[postbackOf(now)] = deliveries
	}
	x.size -= len(deliveries)
	deliveries[now.Name] = now // An update, too, must release the former object.
	x.size += len(deliveries)
	delete(x.departed, client.ObjectKeyFromObject(now))
}

func (x *Index) remove(d *v1alpha1.PostbackDelivery) {
	deliveries := x.byPostback[postbackOf(d)]
	x.size -= len(deliveries)
	delete(deliveries, d.Name)
	x.size += len(deliveries)
	if len(deliveries) == 0 {
		delete(x.byPostback, postbackOf(d))
	}
}

// remember records that a delivery has left, and forgets deliveries that left longer than recall ago.
func (x *Index) remember(key types.NamespacedName) {
	if x.recall == 0 {
		return
	}
	now := x.clock.Now()
	x.departed[key] = now
	if now.Sub(x.swept) < x.recall/2 {
		return
	}
	x.swept = now
	maps.DeleteFunc(x.departed, func(_ types.NamespacedName, at time.Time) bool { return now.Sub(at) > x.recall })
}
