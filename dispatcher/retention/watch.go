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

package retention

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/adopt"
)

// follow keeps a store equal to the API server's state until ctx ends. It reads only metadata.
func follow(ctx context.Context, c client.WithWatch, s *store) {
	selector := fields.OneTermEqualSelector("status.phase", string(s.part.phase)).String()
	list := func() *metav1.PartialObjectMetadataList {
		l := &metav1.PartialObjectMetadataList{}
		l.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
		return l
	}
	source := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			l := list()
			return l, c.List(ctx, l, &client.ListOptions{Namespace: s.part.scope, Raw: &options})
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return c.Watch(ctx, list(), &client.ListOptions{Namespace: s.part.scope, Raw: &options})
		},
	}
	kind := &metav1.PartialObjectMetadata{}
	kind.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDelivery"))
	reflector := toolscache.NewReflectorWithOptions(toolscache.ToListWatcherWithWatchListSemantics(source, c), kind,
		s, toolscache.ReflectorOptions{Name: string(s.part.phase) + " PostbackDeliveries"})
	reflector.RunWithContext(ctx)
}

// store receives the objects of one watch and applies them to the index.
type store struct {
	index *index
	part  part
	// request is called for each delivery with a redeliver annotation or without an owner.
	request func(types.NamespacedName)
}

var (
	_ toolscache.ReflectorStore    = &store{}
	_ toolscache.TransformingStore = &store{}
)

// Add implements cache.ReflectorStore.
func (s *store) Add(object any) error {
	d, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil
	}
	if d.DeletionTimestamp.IsZero() {
		s.index.set(ownerOf(d), s.part.phase, newEntry(d))
	} else {
		s.index.delete(s.part.phase, client.ObjectKeyFromObject(d))
	}
	s.requestIfMarked(d)
	return nil
}

// Update implements cache.ReflectorStore.
func (s *store) Update(object any) error { return s.Add(object) }

// Delete implements cache.ReflectorStore.
func (s *store) Delete(object any) error {
	if d, ok := object.(*metav1.PartialObjectMetadata); ok {
		s.index.delete(s.part.phase, client.ObjectKeyFromObject(d))
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *store) Replace(objects []any, _ string) error {
	owners, entries := make([]owner, 0, len(objects)), make([]*entry, 0, len(objects))
	for _, object := range objects {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok && d.DeletionTimestamp.IsZero() {
			owners, entries = append(owners, ownerOf(d)), append(entries, newEntry(d))
		}
	}
	s.index.replace(s.part, owners, entries)
	for _, object := range objects {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok {
			s.requestIfMarked(d)
		}
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *store) Resync() error { return nil }

// Transformer implements cache.TransformingStore: it keeps the memory of a list in progress small.
func (s *store) Transformer() toolscache.TransformFunc {
	return func(object any) (any, error) {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok {
			strip(d)
		}
		return object, nil
	}
}

// requestIfMarked calls request for a delivery with a redeliver annotation or without an owner.
func (s *store) requestIfMarked(d *metav1.PartialObjectMetadata) {
	if redeliverAnnotated(d) || !adopt.Owned(d) {
		s.request(client.ObjectKeyFromObject(d))
	}
}

// redeliverAnnotated reports whether a delivery has a redeliver annotation.
func redeliverAnnotated(d metav1.Object) bool {
	annotations := d.GetAnnotations()
	return annotations[v1alpha1.RedeliverAnnotation] != "" || annotations[v1alpha1.PassedRedeliverAnnotation] != ""
}

// ownerOf returns the Postback that controls a delivery. Metadata lacks spec.postbackRef, but the operator sets the
// owner reference to the same Postback. A delivery from a backup has none.
func ownerOf(d *metav1.PartialObjectMetadata) owner {
	of := owner{namespace: d.Namespace, restored: d.Labels[v1alpha1.RestoredLabel] == "true"}
	if reference := metav1.GetControllerOfNoCopy(d); reference != nil {
		of.postback = v1alpha1.PostbackReference{Name: reference.Name, UID: reference.UID}
	}
	return of
}

func newEntry(d *metav1.PartialObjectMetadata) *entry {
	return &entry{name: d.Name, uid: d.UID, resourceVersion: d.ResourceVersion, at: finishedAt(d), annotated: redeliverAnnotated(d)}
}

// finishedAt returns when a delivery finished. Metadata lacks status.completionTime, but its managed fields have the
// time of the last write of the status, to the second.
func finishedAt(d *metav1.PartialObjectMetadata) time.Time {
	at := d.CreationTimestamp.Time
	for i := range d.ManagedFields {
		if f := &d.ManagedFields[i]; f.Subresource == "status" && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// strip drops the metadata that newEntry does not need, which is most of it.
func strip(d *metav1.PartialObjectMetadata) {
	restored := d.Labels[v1alpha1.RestoredLabel] == "true"
	if d.Labels = nil; restored {
		d.Labels = map[string]string{v1alpha1.RestoredLabel: "true"}
	}
	d.ManagedFields = []metav1.ManagedFieldsEntry{{Subresource: "status", Time: &metav1.Time{Time: finishedAt(d)}}}
	kept := map[string]string{}
	for _, name := range []string{v1alpha1.RedeliverAnnotation, v1alpha1.PassedRedeliverAnnotation} {
		if value, ok := d.Annotations[name]; ok {
			kept[name] = value
		}
	}
	d.Annotations = kept
}
