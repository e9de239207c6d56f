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

package dispatcher

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
)

// observe lets the lanes know what the attempts of other replicas say about endpoints.
func (r *replica) observe(ctx context.Context) error {
	informer, err := r.mgr.GetCache().GetInformer(ctx, &v1alpha1.PostbackDelivery{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch PostbackDeliveries: %w", err)
	}
	look := func(object any) {
		if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
			if a := delivery.Newest(d); a != nil {
				r.lanes.Observe(d.Spec.PostbackRef.UID, a)
			}
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, object any) { look(object) },
	})
	if err != nil {
		return fmt.Errorf("follow PostbackDeliveries: %w", err)
	}
	return nil
}

// unfinished returns the cached deliveries of a Postback. It is called with the first work for it, when the cache is
// there.
func (r *replica) unfinished(postback types.UID) []*v1alpha1.PostbackDelivery {
	deliveries, err := r.wake.Unfinished(context.Background(), postback)
	if err != nil {
		r.options.Log.Error(err, "Cannot list the deliveries of an endpoint", "uid", postback)
	}
	return deliveries
}
