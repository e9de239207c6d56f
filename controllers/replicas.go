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

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=list;watch,namespace=postback-system

// Replicas follows the Leases of the dispatcher replicas: which are alive, and which routes they have loaded. As a
// source.Source it enqueues the Postbacks that a change concerns.
//
// A replica is alive while its Lease was renewed within the Lease's duration. The age of a renewal counts from the
// moment this process sees it, so that clocks may differ. A Lease that is seen for the first time counts as renewed.
type Replicas struct {
	// Cache holds the Leases of the dispatcher replicas, and the Postbacks.
	Cache cache.Cache
	// Version reads the present resourceVersion of the installation's Secrets from the API server, consistently.
	Version func(context.Context) (string, error)
	Clock   clock.Clock

	mu     sync.Mutex
	queue  workqueue.TypedRateLimitingInterface[reconcile.Request]
	known  map[string]*replica
	synced func() bool
	// reached is a resourceVersion that those Secrets are known to have reached.
	reached string
	// waiting are the Postbacks that some live replica has not loaded.
	waiting map[types.NamespacedName]struct{}
	// changed says that the set of live replicas has changed since wakeAll last ran.
	changed bool
	// kick makes run check the Leases again.
	kick chan struct{}
}

type replica struct {
	renewTime metav1.MicroTime
	duration  time.Duration
	seen      time.Time
	loaded    string
	watched   watched.Namespaces
	// dead says that the Lease has expired. The replica stays in the map, so that a resync of the same Lease does not
	// revive it.
	dead bool
}

// acknowledgement counts the live replicas, those that have loaded a route, and those that claim a resourceVersion
// beyond the known one.
type acknowledgement struct {
	Live, Loaded, Doubted int
}

// newReplicas returns an empty Replicas. A controller has to start it as a source.
func newReplicas(c cache.Cache, version func(context.Context) (string, error), clk clock.Clock) *Replicas {
	return &Replicas{
		Cache: c, Version: version, Clock: clk, known: map[string]*replica{}, waiting: map[types.NamespacedName]struct{}{},
		synced: func() bool { return false }, kick: make(chan struct{}, 1),
	}
}

// confirm reads the resourceVersion of the Secrets if a live replica claims a newer one than is known. A claim beyond
// the result is from before a restore of etcd, and Acknowledged does not count it.
func (r *Replicas) confirm(ctx context.Context) error {
	if !r.anyBeyond() {
		return nil
	}
	version, err := r.Version(ctx)
	if err != nil {
		return fmt.Errorf("check the routes that the dispatcher replicas have loaded: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if isBeyond(version, r.reached) {
		r.reached = version
	}
	return nil
}

func (r *Replicas) anyBeyond() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, replica := range r.known {
		if !replica.dead && isBeyond(replica.loaded, r.reached) {
			return true
		}
	}
	return false
}

// isBeyond reports whether a claimed version is higher than one that was reached.
func isBeyond(claimed, reached string) bool {
	if reached == "" {
		return claimed != ""
	}
	order, err := resourceversion.CompareResourceVersion(claimed, reached)
	return err == nil && order > 0
}

// acknowledged counts the live replicas that have loaded the route Secret of the given resourceVersion, as of the
// last Confirm. Until all have, the Postback is enqueued whenever a replica loads more. A change of the set of live
// replicas enqueues every Postback.
func (r *Replicas) acknowledged(postback types.NamespacedName, resourceVersion string) acknowledgement {
	r.mu.Lock()
	defer r.mu.Unlock()
	var a acknowledgement
	for _, replica := range r.known {
		if replica.dead {
			continue
		}
		a.Live++
		if !replica.watched.Has(postback.Namespace) {
			continue // Its --watch-namespaces excludes this namespace, so it does not load the route.
		}
		if isBeyond(replica.loaded, r.reached) {
			a.Doubted++ // Its claim is from before a restore of etcd.
			continue
		}
		if order, err := resourceversion.CompareResourceVersion(replica.loaded, resourceVersion); err == nil && order >= 0 {
			a.Loaded++
		}
	}
	if a.Loaded < a.Live {
		r.waiting[postback] = struct{}{}
	} else {
		delete(r.waiting, postback)
	}
	return a
}

// forget removes a deleted Postback from the waiting ones.
func (r *Replicas) forget(postback types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, postback)
}

// Start implements source.Source. It follows the Leases until ctx ends.
func (r *Replicas) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	informer, err := r.Cache.GetInformer(ctx, &coordinationv1.Lease{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch the dispatcher's Leases: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    r.set,
		UpdateFunc: func(_, object any) { r.set(object) },
		DeleteFunc: r.delete,
	})
	if err != nil {
		return fmt.Errorf("follow the dispatcher's Leases: %w", err)
	}
	r.mu.Lock()
	r.queue, r.synced = queue, registration.HasSynced
	r.mu.Unlock()
	go r.run(ctx)
	return nil
}

// WaitForSync implements source.SyncingSource. No pass starts before the existing Leases have been read.
func (r *Replicas) WaitForSync(ctx context.Context) error {
	r.mu.Lock()
	synced := r.synced
	r.mu.Unlock()
	if !toolscache.WaitForCacheSync(ctx.Done(), synced) {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil // The manager is shutting down.
		}
		return errors.New("the dispatcher's Leases did not arrive in time")
	}
	return nil
}

// String names the source in logs and errors. The default format would read its fields without the lock.
func (r *Replicas) String() string { return "dispatcher replicas" }

func (r *Replicas) set(object any) {
	lease, ok := object.(*coordinationv1.Lease)
	if !ok {
		return
	}
	if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil || lease.Labels[v1alpha1.ReplicaLabel] != "true" {
		r.remove(lease.Name)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[lease.Name]
	next := &replica{
		renewTime: *lease.Spec.RenewTime,
		duration:  time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second,
		seen:      r.Clock.Now(),
		loaded:    lease.Annotations[v1alpha1.LoadedRoutesAnnotation],
		watched:   watched.Of(lease.Annotations[v1alpha1.WatchedNamespacesAnnotation]),
	}
	if known != nil && known.renewTime.Equal(&next.renewTime) {
		next.seen, next.dead = known.seen, known.dead
	}
	if !next.dead && (known == nil || known.dead) {
		r.changed = true
	}
	// A lower version, after the newest route was deleted, is a change too: each waiting Postback checks for itself.
	advanced := known == nil || known.loaded != next.loaded || known.watched.String() != next.watched.String()
	r.known[lease.Name] = next
	if advanced {
		r.wakeWaiting()
	}
	r.poke()
}

func (r *Replicas) delete(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if lease, ok := object.(*coordinationv1.Lease); ok {
		r.remove(lease.Name)
	}
}

func (r *Replicas) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone, ok := r.known[name]; ok {
		delete(r.known, name)
		r.changed = r.changed || !gone.dead
		r.poke()
	}
}

// wakeWaiting enqueues the waiting Postbacks. The caller holds the lock.
func (r *Replicas) wakeWaiting() {
	for postback := range r.waiting {
		r.queue.Add(reconcile.Request{NamespacedName: postback})
	}
	clear(r.waiting)
}

// poke makes run check the Leases again; it never blocks.
func (r *Replicas) poke() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run enqueues all Postbacks when the set of live replicas has changed, and detects expired Leases.
func (r *Replicas) run(ctx context.Context) {
	for {
		changed, next := r.expire()
		if changed {
			r.wakeAll(ctx)
		}
		var due <-chan time.Time
		var timer clock.Timer
		if next > 0 {
			timer = r.Clock.NewTimer(next)
			due = timer.C()
		}
		select {
		case <-ctx.Done():
		case <-r.kick:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// expire marks the replicas whose Lease has expired as dead. It reports whether the set of live replicas has changed
// since the last call. It also returns the time until the next Lease expires, or 0 without a Lease.
func (r *Replicas) expire() (changed bool, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, replica := range r.known {
		if replica.dead {
			continue
		}
		left := replica.duration - r.Clock.Since(replica.seen)
		if left <= 0 {
			replica.dead, r.changed = true, true
			continue
		}
		if next == 0 || left < next {
			next = left
		}
	}
	changed, r.changed = r.changed, false
	return changed, next
}

// wakeAll enqueues every Postback.
func (r *Replicas) wakeAll(ctx context.Context) {
	list := &v1alpha1.PostbackList{}
	if err := r.Cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		if ctx.Err() == nil {
			logf.FromContext(ctx).Error(err, "Cannot list Postbacks after a change of the live dispatcher replicas")
		}
		return
	}
	logf.FromContext(ctx).Info("The live dispatcher replicas have changed", "postbacks", len(list.Items))
	for i := range list.Items {
		r.queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
}
