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

// Package retry is the elected replica's part: it attempts what is due, takes over first attempts that were never
// recorded, and answers requests for redelivery.
package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

const (
	// inFlightRetry is when to look again at a delivery that this replica is attempting.
	inFlightRetry = time.Second
	// errorRetry is when to look again at a delivery that the API server could not be asked about.
	errorRetry = 2 * time.Second
)

// Attempter makes and records an attempt.
type Attempter interface {
	Attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, r *route.Route, cause attempt.Cause, sent func(*v1alpha1.Attempt)) (*v1alpha1.PostbackDelivery, error)
}

// Lanes have the attempts of each endpoint made in their turn.
type Lanes interface {
	// Observe takes in what an attempt of another replica says about an endpoint.
	Observe(postback types.UID, a *v1alpha1.Attempt)
	Submit(r *route.Route, w *lane.Work)
}

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;list;watch
// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries/status,verbs=update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler has the deliveries that are due attempted, while this replica is elected.
type Reconciler struct {
	// Cache holds the unfinished deliveries, without their bodies.
	Cache client.Reader
	// Live reads from the API server: what is about to be sent must not be decided on a stale copy.
	Live      client.Reader
	Routes    attempt.Routes
	Lanes     Lanes
	Attempter Attempter
	Clock     clock.PassiveClock
	// Wake has a delivery looked at again.
	Wake *Wake
	// Elected reports whether this replica owns the retries, and so looks at deliveries.
	Elected func() bool
	// Held reports whether it does so certainly, and so may attempt them.
	Held func() bool

	mu sync.Mutex
	// attempts are those that this replica is making as the owner of the retries. None begins once draining is set.
	attempts sync.WaitGroup
	draining bool
	// inherited is when this replica took the retries over from one that did not hand them over, or zero.
	inherited time.Time
	// seen is the first sight of each delivery that has no attempt on record.
	seen map[types.NamespacedName]sighting
	// requested are deliveries with a redeliver annotation that are to be looked at although they are not in the cache.
	requested map[types.NamespacedName]struct{}
}

// Reconcile hands a delivery that is due over to the lane of its endpoint, and says when to look again at one that is
// not.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	key := request.NamespacedName
	r.Wake.Release(key)
	requested := r.takeRequest(key)
	if !r.Elected() {
		r.forget(key)
		return ctrl.Result{}, nil
	}
	d, err := r.find(ctx, key, requested)
	if err != nil {
		if requested {
			r.Request(key)
		}
		return ctrl.Result{}, err
	}
	if d == nil {
		return ctrl.Result{}, nil
	}
	target, next := r.decide(d)
	if !next.Attempt {
		if requested && next.After > 0 {
			// The next look must find a finished delivery, too.
			r.Request(key)
		}
		if next.ForRoute {
			r.hold(d, target)
		}
		return ctrl.Result{RequeueAfter: next.After}, nil
	}
	r.Lanes.Submit(target, &lane.Work{
		Key: key, Due: dueSince(d), Asked: next.Asked,
		Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) { r.attempt(ctx, key, sent) },
	})
	return ctrl.Result{}, nil
}

func (r *Reconciler) decide(d *v1alpha1.PostbackDelivery) (*route.Route, decision) {
	now := r.Clock.Now()
	target := r.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	return target, decide(d, target, r.firstSeen(d, target, now), now)
}

// find returns the delivery as the cache has it, which must not be changed. A finished one is not there: it is read only if
// somebody asked for its redelivery.
func (r *Reconciler) find(ctx context.Context, key types.NamespacedName, requested bool) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	err := r.Cache.Get(ctx, key, d, client.UnsafeDisableDeepCopy)
	switch {
	case err == nil:
		return d, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("get PostbackDelivery %s from the cache: %w", key, err)
	case !requested:
		r.forget(key)
		return nil, nil
	}
	return r.read(ctx, key)
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

// attempt decides once more, on the delivery as the API server has it, and makes the attempt.
func (r *Reconciler) attempt(ctx context.Context, key types.NamespacedName, sent func(*v1alpha1.Attempt)) {
	if ctx.Err() != nil || !r.begin() {
		r.forget(key)
		return
	}
	defer r.attempts.Done()
	if !r.Held() {
		r.lookAgain(key, errorRetry)
		return
	}
	log := logf.FromContext(ctx).WithValues("delivery", key)
	d, err := r.read(ctx, key)
	if err != nil {
		log.Error(err, "Cannot read what is due; trying again")
		r.lookAgain(key, errorRetry)
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
	// Again, for this process may have been stopped while it waited for the answer.
	if !r.Held() {
		r.lookAgain(key, errorRetry)
		return
	}
	recorded, err := r.Attempter.Attempt(ctx, d, target, next.Cause, sent)
	switch {
	case err == nil:
		r.forget(key)
		if target, next = r.decide(recorded); next.Attempt {
			// Somebody asked again during the attempt, or the clock jumped.
			next.After = time.Millisecond
		}
		r.wait(recorded, target, next)
	case errors.Is(err, delivery.ErrGone):
		r.forget(key)
	case errors.Is(err, attempt.ErrInFlight):
		r.lookAgain(key, inFlightRetry)
	case errors.Is(err, delivery.ErrUnrecordable):
		// Nothing can be written down of it, not even that it was sent: it must not go out again and again.
		log.Error(err, "Setting a delivery aside")
		r.lookAgain(key, delivery.MaxDelay)
	default:
		log.Error(err, "Attempt not recorded; it will be repeated")
		r.lookAgain(key, errorRetry)
	}
}

// lookAgain has a delivery looked at after a time, finished or not; 0 means not at all.
func (r *Reconciler) lookAgain(key types.NamespacedName, after time.Duration) {
	if after > 0 {
		r.Request(key)
		r.Wake.AddAfter(key, after)
	}
}

// wait has a delivery looked at again when a decision says so.
func (r *Reconciler) wait(d *v1alpha1.PostbackDelivery, decided *route.Route, next decision) {
	r.lookAgain(client.ObjectKeyFromObject(d), next.After)
	if next.ForRoute {
		r.hold(d, decided)
	}
}

// hold has a delivery looked at again when its route is no longer the one that was decided on.
func (r *Reconciler) hold(d *v1alpha1.PostbackDelivery, decided *route.Route) {
	key := client.ObjectKeyFromObject(d)
	r.Wake.Hold(key, d.Spec.PostbackRef.UID)
	if r.Routes.Of(d.Namespace, d.Spec.PostbackRef) != decided {
		r.Wake.Add(key) // It changed before the delivery was held.
	}
}

// Inherit says that this replica is elected, and since when, if the one before did not hand the retries over; else at is
// zero.
func (r *Reconciler) Inherit(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inherited = at
}

// begin reports whether an attempt may begin; then attempts has to be told when it is done.
func (r *Reconciler) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return false
	}
	r.attempts.Add(1)
	return true
}

// Drain lets no further attempt begin and returns when those in flight are recorded. Then another replica may own the
// retries without repeating one.
func (r *Reconciler) Drain() {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	r.attempts.Wait()
}

// firstSeen returns the first sight of a delivery that has no attempt on record.
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

// Request says that a delivery, finished or not, carries a redeliver annotation.
func (r *Reconciler) Request(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requested == nil {
		r.requested = map[types.NamespacedName]struct{}{}
	}
	r.requested[key] = struct{}{}
}

// takeRequest reports whether Request was called for a delivery since the last time.
func (r *Reconciler) takeRequest(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.requested[key]
	delete(r.requested, key)
	return ok
}

// forget drops what was noted of a delivery that has an attempt on record by now, or is gone.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, key)
}
