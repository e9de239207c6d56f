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
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Known knows which deliveries are PostbackDeliveries: those that are unfinished, and those that were until a while ago. An
// event that was stored as one has no place in the stream's own memory of duplicates.
type Known struct {
	clock clock.PassiveClock
	keep  time.Duration

	mu sync.RWMutex
	// gone is since when the cache holds them no more: the zero time as long as it does. A cache that is asked for what it
	// does not hold puts an error together, each time that an event comes in.
	gone  map[types.NamespacedName]time.Time
	swept time.Time

	followed toolscache.ResourceEventHandlerRegistration
}

// NewKnown returns a Known that follows a cache of the unfinished deliveries, and keeps each for a time after it has left.
func NewKnown(ctx context.Context, c cache.Cache, keep time.Duration, now clock.PassiveClock) (*Known, error) {
	k := &Known{clock: now, keep: keep, gone: map[types.NamespacedName]time.Time{}}
	informer, err := c.GetInformer(ctx, &v1alpha1.PostbackDelivery{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch PostbackDeliveries: %w", err)
	}
	k.followed, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
				k.came(client.ObjectKeyFromObject(d))
			}
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
				k.left(client.ObjectKeyFromObject(d))
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("follow PostbackDeliveries: %w", err)
	}
	return k, nil
}

// HasSynced reports whether what was there at the start is known.
func (k *Known) HasSynced() bool { return k.followed.HasSynced() }

func (k *Known) came(key types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone[key] = time.Time{}
}

func (k *Known) left(key types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.Now()
	k.gone[key] = now
	if now.Sub(k.swept) < k.keep/2 {
		return
	}
	k.swept = now
	for other, at := range k.gone {
		if !at.IsZero() && now.Sub(at) > k.keep {
			delete(k.gone, other)
		}
	}
}

// mayExist reports whether there is, or was until a while ago, an unfinished PostbackDelivery.
func (k *Known) mayExist(key types.NamespacedName) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	at, ok := k.gone[key]
	return ok && (at.IsZero() || k.clock.Since(at) <= k.keep)
}
