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

// Package retry makes the retries on the elected replica: it makes due attempts, takes over unrecorded first
// attempts, and handles requests for redelivery.
package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/adopt"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// inFlightRetry is the time until the next reconcile of a delivery whose attempt is in flight.
	inFlightRetry = time.Second
	// errorRetry is the time until the next reconcile after an error of the API server.
	errorRetry = 2 * time.Second
)

// Attempter makes and records an attempt.
type Attempter interface {
	Attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route, cause attempt.Cause, sent func(*v1alpha1.Attempt)) (*v1alpha1.PostbackDelivery, error)
}

// Lanes schedule the attempts at each endpoint.
type Lanes interface {
	// Observe applies the Retry-After or 410 of a recorded attempt to the lane of a route.
	Observe(r *route.Route, a *v1alpha1.Attempt)
	Submit(r *route.Route, w *lane.Work)
}

// Unfinished is an index of unfinished deliveries.
type Unfinished interface {
	HasSynced() bool
	// Get returns a delivery by its name, or nil.
	Get(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error)
	Of(r *route.Route) []*v1alpha1.PostbackDelivery
	All() []*v1alpha1.PostbackDelivery
	// Follow calls f for each delivery, and later for each that is added, changed or removed.
	Follow(f func(d *v1alpha1.PostbackDelivery, gone bool))
}

// Adopter adopts deliveries without an owner.
type Adopter interface {
	// Adopt returns the time until the next call, or 0 for none. It returns false if the delivery needs no adoption.
	Adopt(ctx context.Context, key types.NamespacedName) (time.Duration, bool, error)
}

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;list;watch
// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries/status,verbs=update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler submits due deliveries to the lanes of their endpoints while this replica is elected.
type Reconciler struct {
	// Unfinished has the unfinished deliveries, without their bodies.
	Unfinished Unfinished
	// Live reads from the API server, because the decision to send must not rest on an outdated copy.
	Live      client.Reader
	Routes    attempt.Routes
	Lanes     Lanes
	Attempter Attempter
	Clock     clock.PassiveClock
	Adopter   Adopter
	// Elected reports whether this replica owns the retries. Only then it reconciles deliveries.
	Elected func() bool
	// HoldsLease reports whether the Lease confirms that. Only then the replica attempts deliveries.
	HoldsLease func() bool

	mu sync.Mutex
	// queue is nil before Source has started.
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	// parked maps each delivery that waits for a route to the UID of its Postback. The delivery may be finished.
	parked map[types.NamespacedName]types.UID
	// attempts counts the attempts of this Reconciler in flight. None begins once finishing is true.
	attempts  sync.WaitGroup
	finishing bool
	// inherited is when this replica took the retries over from one that had not released them, or zero.
	inherited time.Time
	// seen has the sighting of each delivery without a recorded attempt.
	seen map[types.NamespacedName]sighting
	// mayBeFinished has deliveries that the next reconcile reads from the API server if the index lacks them.
	mayBeFinished map[types.NamespacedName]struct{}
}

// Reconcile submits a due delivery to its lane, and requeues one that is not due.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	key := request.NamespacedName
	r.unpark(key)
	mayBeFinished := r.popMayBeFinished(key)
	if !r.Elected() {
		r.forget(key)
		return ctrl.Result{}, nil
	}
	d, err := r.find(ctx, key, mayBeFinished)
	if err != nil {
		if mayBeFinished {
			r.ReconcileFinished(key)
		}
		return ctrl.Result{}, err
	}
	if d == nil {
		return ctrl.Result{}, nil
	}
	if after, taken, err := r.adopt(ctx, d); err != nil || taken {
		return ctrl.Result{RequeueAfter: after}, err
	}
	target, next := r.decide(d)
	if !next.Attempt {
		if mayBeFinished && next.After > 0 {
			// The delivery may still be finished at the next reconcile.
			r.ReconcileFinished(key)
		}
		if next.ForRoute {
			r.park(d, target)
		}
		return ctrl.Result{RequeueAfter: next.After}, nil
	}
	r.Lanes.Submit(target, &lane.Work{
		Key: key, Due: delivery.DueTime(d), Manual: next.Manual,
		Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) { r.attempt(ctx, key, sent) },
	})
	return ctrl.Result{}, nil
}

// adopt adopts a delivery without an owner. taken is true if the delivery needs no further reconcile now.
func (r *Reconciler) adopt(ctx context.Context, d *v1alpha1.PostbackDelivery) (after time.Duration, taken bool, err error) {
	if r.Adopter == nil || adopt.Owned(d) || !d.DeletionTimestamp.IsZero() {
		return 0, false, nil
	}
	key := client.ObjectKeyFromObject(d)
	after, taken, err = r.Adopter.Adopt(ctx, key)
	if err != nil || after > 0 {
		r.ReconcileFinished(key) // The delivery may be finished at the next reconcile.
	}
	return after, taken, err
}

func (r *Reconciler) decide(d *v1alpha1.PostbackDelivery) (*route.Route, decision) {
	now := r.Clock.Now()
	target := r.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	return target, decide(d, target, r.firstSeen(d, target, now), now)
}

// find returns a delivery from the index, or from the API server if the index lacks it and it may be finished. The
// caller must not change it.
func (r *Reconciler) find(ctx context.Context, key types.NamespacedName, mayBeFinished bool) (*v1alpha1.PostbackDelivery, error) {
	switch d, err := r.Unfinished.Get(ctx, key); {
	case err != nil:
		return nil, err
	case d != nil:
		return d, nil
	case mayBeFinished:
		return r.read(ctx, key)
	}
	r.forget(key)
	return nil, nil
}

func (r *Reconciler) read(ctx context.Context, key types.NamespacedName) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	err := r.Live.Get(ctx, key, d)
	if apierrors.IsNotFound(err) {
		r.forget(key)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get PostbackDelivery %s: %w", key, err)
	}
	return d, nil
}

// attempt reads a delivery from the API server, decides again, and makes the attempt if it is still due.
func (r *Reconciler) attempt(ctx context.Context, key types.NamespacedName, sent func(*v1alpha1.Attempt)) {
	if ctx.Err() != nil || !r.begin() {
		r.forget(key)
		return
	}
	defer r.attempts.Done()
	if !r.HoldsLease() {
		r.requeueAfter(key, errorRetry)
		return
	}
	log := logf.FromContext(ctx).WithValues("delivery", key)
	d, err := r.read(ctx, key)
	if err != nil {
		log.Error(err, "Cannot read the due deliveries; trying again")
		r.requeueAfter(key, errorRetry)
		return
	}
	if d == nil {
		return
	}
	target, next := r.decide(d)
	if !next.Attempt {
		r.wait(d, target, next)
		return
	}
	// Check again, because the process may have been suspended during the read.
	if !r.HoldsLease() {
		r.requeueAfter(key, errorRetry)
		return
	}
	recorded, err := r.Attempter.Attempt(ctx, d, target, next.Cause, sent)
	switch {
	case err == nil:
		r.forget(key)
		if target, next = r.decide(recorded); next.Attempt {
			// A redelivery was requested during the attempt, or the clock has jumped.
			next.After = time.Millisecond
		}
		r.wait(recorded, target, next)
	case errors.Is(err, delivery.ErrGone):
		r.forget(key)
	case errors.Is(err, attempt.ErrInFlight):
		r.requeueAfter(key, inFlightRetry)
	case errors.Is(err, delivery.ErrUnrecordable):
		// The next decision finds no record of this attempt. Only a long delay keeps it from being repeated
		// endlessly.
		log.Error(err, "Attempt cannot be recorded; next try in 24h")
		r.requeueAfter(key, delivery.MaxDelay)
	default:
		log.Error(err, "Attempt not recorded; it will be repeated")
		r.requeueAfter(key, errorRetry)
	}
}

// requeueAfter queues a delivery, finished or not, after a time; 0 means never.
func (r *Reconciler) requeueAfter(key types.NamespacedName, after time.Duration) {
	if after > 0 {
		r.ReconcileFinished(key)
		r.addAfter(key, after)
	}
}

// wait requeues or parks a delivery according to a decision.
func (r *Reconciler) wait(d *v1alpha1.PostbackDelivery, decided *route.Route, next decision) {
	r.requeueAfter(client.ObjectKeyFromObject(d), next.After)
	if next.ForRoute {
		r.park(d, decided)
	}
}

// inherit sets when this replica took the retries over; zero means that the predecessor released them.
func (r *Reconciler) inherit(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inherited = at
}

// begin reports whether an attempt may begin. If so, the caller must call attempts.Done once it is recorded.
func (r *Reconciler) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finishing {
		return false
	}
	r.attempts.Add(1)
	return true
}

// inheritedAt returns the time of the last inherit.
func (r *Reconciler) inheritedAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inherited
}

// Finish lets no further attempt begin, and returns once those in flight are recorded. Then another replica can own
// the retries without repeating an attempt.
func (r *Reconciler) Finish() {
	r.mu.Lock()
	r.finishing = true
	r.mu.Unlock()
	r.attempts.Wait()
}

// firstSeen returns the sighting of a delivery without a recorded attempt, and records it at the first call.
func (r *Reconciler) firstSeen(d *v1alpha1.PostbackDelivery, target *route.Route, now time.Time) sighting {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Status.AttemptCount > 0 {
		return sighting{inherited: r.inherited}
	}
	if r.seen == nil {
		r.seen = map[types.NamespacedName]sighting{}
	}
	key := client.ObjectKeyFromObject(d)
	seen, ok := r.seen[key]
	if !ok || seen.of != d.UID {
		seen = sighting{of: d.UID, at: now}
		if target != nil {
			seen.timeout = target.Timeout.Duration
		}
		r.seen[key] = seen
	}
	seen.inherited = r.inherited
	return seen
}

// ReconcileFinished makes the next reconcile of a delivery find it even if it is finished.
func (r *Reconciler) ReconcileFinished(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayBeFinished == nil {
		r.mayBeFinished = map[types.NamespacedName]struct{}{}
	}
	r.mayBeFinished[key] = struct{}{}
}

// popMayBeFinished reports whether ReconcileFinished was called for a delivery since the previous popMayBeFinished.
func (r *Reconciler) popMayBeFinished(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.mayBeFinished[key]
	delete(r.mayBeFinished, key)
	return ok
}

// forget drops the sighting of a delivery that has a recorded attempt now, or is gone.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, key)
}
