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
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// Source gives the Reconciler its queue. A delivery enters the queue after the index holds it. Wake reads the index, so it finds
// every delivery that was reconciled.
func (r *Reconciler) Source() source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		// A new lane learns from all unfinished deliveries of its Postback.
		if !toolscache.WaitForCacheSync(ctx.Done(), r.Unfinished.HasSynced) {
			return nil // The process ends.
		}
		r.mu.Lock()
		r.queue = queue
		r.mu.Unlock()
		r.Unfinished.Follow(r.changed)
		return nil
	})
}

// changed puts a delivery into the queue that came, changed or left. Its lane learns from the newest attempt first: another replica
// may have made that attempt and got a Retry-After.
func (r *Reconciler) changed(d *v1alpha1.PostbackDelivery, gone bool) {
	if !gone {
		if a, target := delivery.Newest(d), r.Routes.Of(d.Namespace, d.Spec.PostbackRef); a != nil && target != nil {
			r.Lanes.Observe(target, a)
		}
	}
	r.Add(client.ObjectKeyFromObject(d))
}

// Add puts one delivery into the queue. It does nothing before Source has started: that adds every unfinished delivery.
func (r *Reconciler) Add(key types.NamespacedName) { r.addAfter(key, 0) }

// addAfter puts one delivery into the queue after a time.
func (r *Reconciler) addAfter(key types.NamespacedName, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue != nil {
		r.queue.AddAfter(reconcile.Request{NamespacedName: key}, after)
	}
}

// Wake puts the unfinished deliveries of the Postback of a route into the queue, and its parked ones.
func (r *Reconciler) Wake(changed *route.Route) {
	for _, key := range r.parkedFor(changed.UID) {
		r.Add(key)
	}
	r.addEach(r.Unfinished.Of(changed))
}

// wakeAll puts every unfinished delivery into the queue.
func (r *Reconciler) wakeAll() { r.addEach(r.Unfinished.All()) }

func (r *Reconciler) addEach(deliveries []*v1alpha1.PostbackDelivery) {
	for _, d := range deliveries {
		r.Add(client.ObjectKeyFromObject(d))
	}
}

// park lets Wake find a delivery that was decided on by the route decided, although it may be finished, until unpark.
func (r *Reconciler) park(d *v1alpha1.PostbackDelivery, decided *route.Route) {
	key := client.ObjectKeyFromObject(d)
	r.setParked(key, d.Spec.PostbackRef.UID)
	if r.Routes.Of(d.Namespace, d.Spec.PostbackRef) != decided {
		r.Add(key) // It changed before the delivery was parked.
	}
}

func (r *Reconciler) setParked(key types.NamespacedName, postback types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parked == nil {
		r.parked = map[types.NamespacedName]types.UID{}
	}
	r.parked[key] = postback
}

func (r *Reconciler) unpark(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.parked, key)
}

// parkedFor returns the deliveries that are parked for a Postback.
func (r *Reconciler) parkedFor(postback types.UID) []types.NamespacedName {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []types.NamespacedName
	for key, of := range r.parked {
		if of == postback {
			keys = append(keys, key)
		}
	}
	return keys
}
