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

// Source feeds the queue of the Reconciler. A delivery enters the queue after the index has it. So Wake, which reads
// the index, finds every delivery that was reconciled.
func (r *Reconciler) Source() source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		// A new lane reads all unfinished deliveries of its Postback.
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

// changed queues a delivery that was added, changed or removed. First its lane observes the newest attempt, which
// another replica may have made, for a Retry-After.
func (r *Reconciler) changed(d *v1alpha1.PostbackDelivery, gone bool) {
	if !gone {
		if a, target := delivery.Newest(d), r.Routes.Of(d.Namespace, d.Spec.PostbackRef); a != nil && target != nil {
			r.Lanes.Observe(target, a)
		}
	}
	r.Add(client.ObjectKeyFromObject(d))
}

// Add queues a delivery. Before Source has started it does nothing, because Source queues every unfinished delivery.
func (r *Reconciler) Add(key types.NamespacedName) { r.addAfter(key, 0) }

// addAfter queues a delivery after a time.
func (r *Reconciler) addAfter(key types.NamespacedName, after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue != nil {
		r.queue.AddAfter(reconcile.Request{NamespacedName: key}, after)
	}
}

// Wake queues the unfinished and the parked deliveries of a route's Postback.
func (r *Reconciler) Wake(changed *route.Route) {
	for _, key := range r.parkedFor(changed.UID) {
		r.Add(key)
	}
	r.addEach(r.Unfinished.Of(changed))
}

// wakeAll queues every unfinished delivery.
func (r *Reconciler) wakeAll() { r.addEach(r.Unfinished.All()) }

func (r *Reconciler) addEach(deliveries []*v1alpha1.PostbackDelivery) {
	for _, d := range deliveries {
		r.Add(client.ObjectKeyFromObject(d))
	}
}

// park makes Wake find a delivery, even a finished one, until unpark. decided is the route of the decision to park
// it.
func (r *Reconciler) park(d *v1alpha1.PostbackDelivery, decided *route.Route) {
	key := client.ObjectKeyFromObject(d)
	r.setParked(key, d.Spec.PostbackRef.UID)
	if r.Routes.Of(d.Namespace, d.Spec.PostbackRef) != decided {
		r.Add(key) // The route changed before the delivery was parked.
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

// parkedFor returns the parked deliveries of a Postback.
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
