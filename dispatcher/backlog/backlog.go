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

// Package backlog counts the unfinished deliveries of each Postback, from a cache that holds no others. It does not decide
// what to do with them.
package backlog

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// CacheOptions make a cache hold unfinished deliveries only, and only their fields that decisions need. A delivery leaves the
// watch when it is finished, so memory does not grow with the log.
func CacheOptions(namespaces watched.Namespaces) cache.ByObject {
	return cache.ByObject{
		Namespaces: namespaces.Cache(),
		Field: fields.AndSelectors(
			fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered)),
			fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryFailed)),
		),
		Transform: func(object any) (any, error) {
			if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
				strip(d)
			}
			return object, nil
		},
	}
}

// key holds the namespace too: a delivery that names a Postback of another namespace must not count against it.
type key struct {
	namespace string
	postback  types.UID
}

// Backlog counts the unfinished deliveries of each Postback in the cache. It is safe for concurrent use.
type Backlog struct {
	synced func() bool

	mu         sync.RWMutex
	byPostback map[key]int
}

// New returns a Backlog that follows a cache with CacheOptions.
func New(ctx context.Context, c cache.Cache) (*Backlog, error) {
	informer, err := c.GetInformer(ctx, &v1alpha1.PostbackDelivery{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch PostbackDeliveries: %w", err)
	}
	b := &Backlog{byPostback: map[key]int{}}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { b.count(object, 1) },
		DeleteFunc: func(object any) { b.count(object, -1) },
	})
	if err != nil {
		return nil, fmt.Errorf("follow PostbackDeliveries: %w", err)
	}
	b.synced = registration.HasSynced
	return b, nil
}

func (b *Backlog) count(object any, change int) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	d, ok := object.(*v1alpha1.PostbackDelivery)
	if !ok {
		return
	}
	postback := key{d.Namespace, d.Spec.PostbackRef.UID}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byPostback[postback] += change
	if b.byPostback[postback] <= 0 {
		delete(b.byPostback, postback)
	}
}

// HasSynced reports whether the deliveries of the initial list have been counted.
func (b *Backlog) HasSynced() bool { return b.synced() }

// Pending returns the number of unfinished deliveries of a Postback in a namespace.
func (b *Backlog) Pending(namespace string, postback types.UID) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byPostback[key{namespace, postback}]
}

// Full reports whether the unfinished deliveries of a Postback have reached its maximum.
func (b *Backlog) Full(r *route.Route) bool {
	return b.Pending(r.Namespace, r.UID) >= int(r.MaxPending)
}
