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

// Package adopt adopts deliveries without an owner. A restore from a backup, or a move to another cluster, strips
// owner references and UIDs, and usually the status.
package adopt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// statusGrace is how long a delivery without a status is left alone: a restore tool writes the status after the
	// object.
	statusGrace = 30 * time.Second
	// postbackGrace is how long an unfinished delivery with attempts on record waits for its Postback, which may be
	// restored later.
	postbackGrace = 10 * time.Minute
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=get;create;delete
// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries/status,verbs=update

// Routes finds the routes of a namespace.
type Routes interface {
	In(namespace string) []*route.Route
}

// Adopter adopts deliveries without an owner, on the elected replica.
type Adopter struct {
	// Client reads and writes past the cache.
	Client client.Client
	Routes Routes
	Clock  clock.PassiveClock

	mu sync.Mutex
	// parked are the deliveries that wait for a Postback to appear, by the key of that Postback.
	parked map[types.NamespacedName]map[types.NamespacedName]struct{}
}

// Owned reports whether a delivery has an owner. Every delivery that the operator makes has one.
func Owned(d metav1.Object) bool { return metav1.GetControllerOfNoCopy(d) != nil }

// Adopt takes a delivery without an owner one step further. It returns the time until the next call, or 0 if the
// delivery needs none before a Postback of its name appears. It returns false if the delivery needs no adoption.
func (a *Adopter) Adopt(ctx context.Context, key types.NamespacedName) (time.Duration, bool, error) {
	d := &v1alpha1.PostbackDelivery{}
	if err := a.Client.Get(ctx, key, d); err != nil {
		return 0, true, client.IgnoreNotFound(err)
	}
	if Owned(d) || !d.DeletionTimestamp.IsZero() {
		return 0, false, nil
	}
	postback := types.NamespacedName{Namespace: d.Namespace, Name: d.Spec.PostbackRef.Name}
	// Register the delivery before reading the routes, so that a route that appears in between finds it.
	a.wait(postback, key)
	target := a.routeOf(postback)
	switch next := decide(d, target, a.Clock.Now()); {
	case next.regular:
		a.forget(postback, key)
		return 0, false, nil
	case next.after > 0:
		return next.after, true, nil
	case next.park:
		park(d, target, a.Clock.Now())
		if err := a.Client.Status().Update(ctx, d, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
			return 0, true, fmt.Errorf("park PostbackDelivery %s: %w", key, err)
		}
		logf.FromContext(ctx).Info("A restored delivery waits for a redelivery request", "delivery", key, "postback", postback.Name)
		return time.Second, true, nil
	case next.adopt:
		a.forget(postback, key)
		return 0, true, a.adopt(ctx, d, target)
	}
	return 0, true, nil
}

// adopt replaces the delivery by a copy that the present Postback owns. Each step may be repeated.
func (a *Adopter) adopt(ctx context.Context, d *v1alpha1.PostbackDelivery, target *route.Route) error {
	adopted := adopted(d, target)
	status := adopted.Status
	err := a.Client.Create(ctx, adopted)
	if apierrors.IsAlreadyExists(err) {
		err = a.Client.Get(ctx, client.ObjectKeyFromObject(adopted), adopted)
	}
	if err != nil {
		return fmt.Errorf("adopt PostbackDelivery %s/%s: %w", d.Namespace, d.Name, err)
	}
	// An attempt on record means that the event was posted again, or that an earlier pass adopted the delivery.
	if adopted.Status.AttemptCount == 0 && !adopted.Status.Phase.Finished() {
		adopted.Status = status
		if err := a.Client.Status().Update(ctx, adopted, client.FieldOwner(v1alpha1.DispatcherFieldOwner)); err != nil {
			return fmt.Errorf("write the record of PostbackDelivery %s/%s: %w", d.Namespace, adopted.Name, err)
		}
	}
	err = a.Client.Delete(ctx, d, client.Preconditions{UID: &d.UID, ResourceVersion: &d.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete PostbackDelivery %s/%s, which is adopted as %s: %w", d.Namespace, d.Name, adopted.Name, err)
	}
	logf.FromContext(ctx).Info("Delivery adopted", "namespace", d.Namespace, "delivery", d.Name, "as", adopted.Name, "postback", target.Name)
	return nil
}

func (a *Adopter) routeOf(postback types.NamespacedName) *route.Route {
	routes := a.Routes.In(postback.Namespace)
	if i := slices.IndexFunc(routes, func(r *route.Route) bool { return r.Name == postback.Name }); i >= 0 {
		return routes[i]
	}
	return nil
}

// PopWaiting removes and returns the deliveries that wait for a Postback.
func (a *Adopter) PopWaiting(postback types.NamespacedName) []types.NamespacedName {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := make([]types.NamespacedName, 0, len(a.parked[postback]))
	for key := range a.parked[postback] {
		waiting = append(waiting, key)
	}
	slices.SortFunc(waiting, func(x, y types.NamespacedName) int { return strings.Compare(x.String(), y.String()) })
	delete(a.parked, postback)
	return waiting
}

func (a *Adopter) wait(postback, key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parked == nil {
		a.parked = map[types.NamespacedName]map[types.NamespacedName]struct{}{}
	}
	if a.parked[postback] == nil {
		a.parked[postback] = map[types.NamespacedName]struct{}{}
	}
	a.parked[postback][key] = struct{}{}
}

func (a *Adopter) forget(postback, key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if delete(a.parked[postback], key); len(a.parked[postback]) == 0 {
		delete(a.parked, postback)
	}
}
