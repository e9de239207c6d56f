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

package attempt

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// FirstAttemptWindow is how long after storing a delivery its replica may begin the first attempt.
// The elected replica takes over after the window, the timeout of the Postback, and a grace.
const FirstAttemptWindow = 5 * time.Second

// Routes finds the route of a delivery.
type Routes interface {
	// Of returns nil if the delivery has no route.
	Of(namespace string, postback v1alpha1.PostbackReference) *route.Route
}

// First makes the first attempts of the deliveries that this replica stored. It keeps them in memory, not in the API
// server's queue.
type First struct {
	Attempter *Attempter
	Routes    Routes
	Lanes     *lane.Lanes
	Clock     clock.PassiveClock
}

// Admit implements intake.FirstAttempts. A delivery is left to the elected replica in three cases: the lane cannot
// begin it at once, the Postback is not Enabled, or only one replica can enforce its limits.
func (f *First) Admit(r *route.Route) func(*v1alpha1.PostbackDelivery) {
	if r.State != v1alpha1.PostbackEnabled || r.Exclusive() {
		return nil
	}
	submit := f.Lanes.Admit(r)
	if submit == nil {
		firstAttemptsDeferred.Inc()
		return nil
	}
	since := f.Clock.Now()
	return func(d *v1alpha1.PostbackDelivery) {
		if d == nil {
			submit(nil)
			return
		}
		submit(&lane.Work{
			Key: client.ObjectKeyFromObject(d), Due: since,
			Do: func(ctx context.Context, sent func(*v1alpha1.Attempt)) { f.attempt(ctx, d, since, sent) },
		})
	}
}

func (f *First) attempt(ctx context.Context, d *v1alpha1.PostbackDelivery, since time.Time, sent func(*v1alpha1.Attempt)) {
	r := f.Routes.Of(d.Namespace, d.Spec.PostbackRef)
	if ctx.Err() != nil || r == nil || r.State != v1alpha1.PostbackEnabled || f.Clock.Since(since) > FirstAttemptWindow {
		firstAttemptsDeferred.Inc()
		return
	}
	_, err := f.Attempter.Attempt(ctx, d, r, Cause{}, sent)
	if err != nil && !errors.Is(err, delivery.ErrGone) && !errors.Is(err, ErrInFlight) {
		logf.FromContext(ctx).Error(err, "First attempt not recorded; it will be repeated", "delivery", klog.KObj(d))
	}
}
