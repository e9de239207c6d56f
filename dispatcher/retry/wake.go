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

package retry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// postbackIndex finds the cached deliveries of a Postback by its UID.
const postbackIndex = ".spec.postbackRef.uid"

// IndexCache adds to a cache what Wake needs.
func IndexCache(ctx context.Context, c cache.Cache) error {
	return c.IndexField(ctx, &v1alpha1.PostbackDelivery{}, postbackIndex, func(object client.Object) []string {
		d, ok := object.(*v1alpha1.PostbackDelivery)
		if !ok {
			return nil
		}
		return []string{string(d.Spec.PostbackRef.UID)}
	})
}

// Wake puts deliveries into the Reconciler's queue for reasons other than a change of the delivery itself.
type Wake struct {
	// Cache holds the unfinished deliveries. Wake reads it, because it is current before any event handler runs. Wake
	// therefore misses no delivery that was reconciled before the reason to wake it.
	Cache client.Reader

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	// parked are deliveries that wait for the route of their Postback, and may be finished, with the UID of that Postback.
	parked map[types.NamespacedName]types.UID
}

// Source gives Wake the queue.
func (w *Wake) Source() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.queue = queue
		return nil
	})
}

// Add puts one delivery into the queue. It does nothing before Source has started: the controller reconciles every delivery at
// its start.
func (w *Wake) Add(key types.NamespacedName) { w.addAfter(key, 0) }

// addAfter puts one delivery into the queue after a time.
func (w *Wake) addAfter(key types.NamespacedName, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue != nil {
		w.queue.AddAfter(reconcile.Request{NamespacedName: key}, after)
	}
}

// park lets Of wake a delivery although it may be finished, until unpark.
func (w *Wake) park(key types.NamespacedName, postback types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parked == nil {
		w.parked = map[types.NamespacedName]types.UID{}
	}
	w.parked[key] = postback
}

// unpark ends park.
func (w *Wake) unpark(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.parked, key)
}

// parkedFor returns the deliveries that are parked for a Postback.
func (w *Wake) parkedFor(postback types.UID) []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []types.NamespacedName
	for key, of := range w.parked {
		if of == postback {
			keys = append(keys, key)
		}
	}
	return keys
}

// All wakes every unfinished delivery.
func (w *Wake) All(ctx context.Context) error {
	return w.list(ctx)
}

// Of wakes the unfinished deliveries of a Postback, and its parked ones.
func (w *Wake) Of(ctx context.Context, postback types.UID) error {
	for _, key := range w.parkedFor(postback) {
		w.Add(key)
	}
	return w.list(ctx, client.MatchingFields{postbackIndex: string(postback)})
}

// Unfinished returns the unfinished deliveries of a Postback. They are the cache's own and must not be changed.
func (w *Wake) Unfinished(ctx context.Context, postback types.UID) ([]*v1alpha1.PostbackDelivery, error) {
	list := &v1alpha1.PostbackDeliveryList{}
	err := w.Cache.List(ctx, list, client.MatchingFields{postbackIndex: string(postback)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list unfinished PostbackDeliveries: %w", err)
	}
	deliveries := make([]*v1alpha1.PostbackDelivery, len(list.Items))
	for i := range list.Items {
		deliveries[i] = &list.Items[i]
	}
	return deliveries, nil
}

func (w *Wake) list(ctx context.Context, options ...client.ListOption) error {
	list := &v1alpha1.PostbackDeliveryList{}
	if err := w.Cache.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("list unfinished PostbackDeliveries: %w", err)
	}
	for i := range list.Items {
		w.Add(client.ObjectKeyFromObject(&list.Items[i]))
	}
	return nil
}
