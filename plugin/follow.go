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

package plugin

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliverylog"
)

// followLog prints the log, oldest first, and then each change as it happens, until ctx ends.
func (o *eventsOptions) followLog(ctx context.Context, s *scope, q query, printObject func(*env, runtime.Object) error) error {
	// Versions of the deliveries that were printed, or existed before.
	seen := map[types.NamespacedName]string{}
	f, err := s.deliveries(ctx, q, printObject != nil, func(d *v1alpha1.PostbackDelivery) { seen[client.ObjectKeyFromObject(d)] = d.ResourceVersion })
	if err != nil {
		return err
	}
	slices.Reverse(f.newest)
	t, waits := o.table(q), o.waits(ctx, s, q.namespace)
	show := func(deliveries ...*v1alpha1.PostbackDelivery) error {
		if printObject == nil {
			return t.print(o.Out, logRows(deliveries, waits)...)
		}
		for _, d := range deliveries {
			if err := printObject(o.env, d); err != nil {
				return err
			}
		}
		return nil
	}
	// The names of the columns stand there before anything arrives.
	if err := show(f.newest...); err != nil {
		return err
	}
	w := watching{
		object: &v1alpha1.PostbackDelivery{}, list: &v1alpha1.PostbackDeliveryList{}, namespace: q.namespace, selector: q.selector(),
	}
	// Both tell at the same time.
	var one sync.Mutex
	stopLog := o.followSuccesses(ctx, s, q, f.logVersion, func(d *v1alpha1.PostbackDelivery) error {
		one.Lock()
		defer one.Unlock()
		return show(d)
	})
	defer stopLog()
	err = o.watch(ctx, s, w, func(c change) (bool, error) {
		one.Lock()
		defer one.Unlock()
		d, ok := c.object.(*v1alpha1.PostbackDelivery)
		switch {
		case !ok:
			return false, nil
		case c.gone:
			delete(seen, client.ObjectKeyFromObject(d))
			return false, nil
		case seen[client.ObjectKeyFromObject(d)] == d.ResourceVersion || !q.takes(d):
			return false, nil
		}
		seen[client.ObjectKeyFromObject(d)] = d.ResourceVersion
		return false, show(d)
	})
	if ctx.Err() != nil {
		// To be interrupted is how it ends.
		return nil
	}
	return err
}

// followSuccesses prints the deliveries of the delivery log, if the intake has one, until the returned function is called.
func (o *eventsOptions) followSuccesses(ctx context.Context, s *scope, q query, version string, show func(*v1alpha1.PostbackDelivery) error) (stop func()) {
	l, ok := q.logQuery()
	log := s.log.client
	if !ok || log == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		err := log.Follow(ctx, l, version, deliverylog.Follower{
			Delivery: func(d *v1alpha1.PostbackDelivery) error {
				if q.takes(d) {
					return show(d)
				}
				return nil
			},
			LeftOut: func(n int) {
				say(o.ErrOut, "%s omitted: more are delivered than can be read.", plural(n, "delivered event"))
			},
			Trouble: func(err error) {
				if err != nil {
					say(o.ErrOut, "The delivery log does not answer; trying again: %s", visible(err.Error()))
				}
			},
		})
		if err != nil && ctx.Err() == nil {
			s.log.missing(err)
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}
