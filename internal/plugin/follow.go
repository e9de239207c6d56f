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

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// followLog prints the log, oldest first, and then each change as it happens, until ctx ends.
func (o *eventsOptions) followLog(ctx context.Context, s *scope, q query, printObject func(*env, runtime.Object) error) error {
	// Versions of what has been printed, or was there before and is not to be.
	seen := map[types.UID]string{}
	newest, _, err := s.deliveries(ctx, q, printObject != nil, func(d *v1alpha1.PostbackDelivery) { seen[d.UID] = d.ResourceVersion })
	if err != nil {
		return err
	}
	slices.Reverse(newest)
	t := o.table(q)
	show := func(deliveries ...*v1alpha1.PostbackDelivery) error {
		if printObject == nil {
			return t.print(o.Out, logRows(deliveries, o.clock)...)
		}
		for _, d := range deliveries {
			if err := printObject(o.env, d); err != nil {
				return err
			}
		}
		return nil
	}
	// The names of the columns stand there before anything arrives.
	if err := show(newest...); err != nil {
		return err
	}
	w := watching{
		object: &v1alpha1.PostbackDelivery{}, list: &v1alpha1.PostbackDeliveryList{}, namespace: q.namespace, selector: q.selector(),
	}
	err = o.watch(ctx, s, w, func(c change) (bool, error) {
		d, ok := c.object.(*v1alpha1.PostbackDelivery)
		switch {
		case !ok:
			return false, nil
		case c.gone:
			delete(seen, d.UID)
			return false, nil
		case seen[d.UID] == d.ResourceVersion || !q.takes(d):
			return false, nil
		}
		seen[d.UID] = d.ResourceVersion
		return false, show(d)
	})
	if ctx.Err() != nil {
		// To be interrupted is how it ends.
		return nil
	}
	return err
}
