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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// maxFollowed bounds the log entries that are remembered as printed.
const maxFollowed = 20000

// followLog prints the deliveries, oldest first, and then each change as it happens, until ctx ends.
func (o *eventsOptions) followLog(ctx context.Context, s *scope, q deliveries.Query, printObject func(*env, runtime.Object) error) error {
	// Both watches call show concurrently. The union holds the version of each delivery that was printed or skipped.
	var one sync.Mutex
	changed := false
	union := deliveries.NewUnion(maxFollowed, func(_, now string) { changed = changed || now != "" })
	put := func(d *v1alpha1.PostbackDelivery) (news bool) {
		changed = false
		if deliveries.IsObject(d) {
			union.PutObject(client.ObjectKeyFromObject(d), d.ResourceVersion)
		} else {
			union.PutLogged(client.ObjectKeyFromObject(d), d.ResourceVersion)
		}
		return changed && q.Selects(d)
	}
	page, err := s.deliveries(ctx, q, printObject != nil, func(d *v1alpha1.PostbackDelivery) { put(d) })
	if err != nil {
		return err
	}
	slices.Reverse(page.Deliveries)
	t, waits := o.table(q), o.waits(ctx, s, q.Namespace)
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
	// This prints the header even if there are no deliveries yet.
	if err := show(page.Deliveries...); err != nil {
		return err
	}
	w := watching{
		object: &v1alpha1.PostbackDelivery{}, list: &v1alpha1.PostbackDeliveryList{}, namespace: q.Namespace, selector: q.Selector(),
	}
	stop := o.followEntries(ctx, s, q, page, func(deliveries ...*v1alpha1.PostbackDelivery) error {
		one.Lock()
		defer one.Unlock()
		return show(slices.DeleteFunc(deliveries, func(d *v1alpha1.PostbackDelivery) bool { return !put(d) })...)
	})
	defer stop()
	err = o.watch(ctx, s, func(c change) (bool, error) {
		one.Lock()
		defer one.Unlock()
		d, ok := c.object.(*v1alpha1.PostbackDelivery)
		switch {
		case !ok:
			return false, nil
		case c.gone:
			union.DropObject(client.ObjectKeyFromObject(d))
			return false, nil
		case !put(d):
			return false, nil
		}
		return false, show(d)
	}, w)
	if ctx.Err() != nil {
		// An interrupt ends the command without an error.
		return nil
	}
	return err
}

// followEntries prints new entries of the delivery log, if there is one, until the returned function is called. It
// retries if the delivery log could not be read before.
func (o *eventsOptions) followEntries(ctx context.Context, s *scope, q deliveries.Query, page *deliveries.Page, show func(...*v1alpha1.PostbackDelivery) error) (stop func()) {
	if q.Failed || q.Unfinished || s.log.client == nil || page.Version == "" && (page.Unread == nil || deliveries.IsRefused(page.Unread)) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		err := s.log.client.Follow(ctx, q, page.Version, deliveries.Follower{
			Deliveries: show,
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
			s.log.warnUnread(err)
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}
