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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// finishedSelector selects the deliveries that the cache does not hold.
const finishedSelector = "status.phase!=" + string(v1alpha1.DeliveryPending) + ",status.phase!=" + string(v1alpha1.DeliveryRetrying)

// watchFinished calls request for each finished delivery that carries a redeliver annotation, now and later, until ctx
// ends. It keeps none of them, and asks for their metadata alone.
func watchFinished(ctx context.Context, c client.WithWatch, request func(types.NamespacedName)) {
	list := func() *metav1.PartialObjectMetadataList {
		l := &metav1.PartialObjectMetadataList{}
		l.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
		return l
	}
	source := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = finishedSelector
			l := list()
			return l, c.List(ctx, l, &client.ListOptions{Raw: &options})
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = finishedSelector
			return c.Watch(ctx, list(), &client.ListOptions{Raw: &options})
		},
	}
	kind := &metav1.PartialObjectMetadata{}
	kind.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	reflector := toolscache.NewReflectorWithOptions(toolscache.ToListWatcherWithWatchListSemantics(source, c), kind,
		requests(request), toolscache.ReflectorOptions{Name: "finished PostbackDeliveries"})
	reflector.RunWithContext(ctx)
}

// requests is a store that keeps nothing.
type requests func(types.NamespacedName)

var _ toolscache.ReflectorStore = requests(nil)

func (r requests) look(object any) error {
	d, ok := object.(*metav1.PartialObjectMetadata)
	if ok && d.Annotations[v1alpha1.RedeliverAnnotation] != "" {
		r(types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
	}
	return nil
}

// Add implements cache.ReflectorStore.
func (r requests) Add(object any) error { return r.look(object) }

// Update implements cache.ReflectorStore.
func (r requests) Update(object any) error { return r.look(object) }

// Delete implements cache.ReflectorStore.
func (r requests) Delete(any) error { return nil }

// Resync implements cache.ReflectorStore.
func (r requests) Resync() error { return nil }

// Replace implements cache.ReflectorStore.
func (r requests) Replace(objects []any, _ string) error {
	for _, object := range objects {
		_ = r.look(object)
	}
	return nil
}
