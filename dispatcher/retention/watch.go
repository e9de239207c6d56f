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
)

// follow keeps a shelf as the API server has it until ctx ends. It asks for metadata alone.
func follow(ctx context.Context, c client.WithWatch, s *shelf) {
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

// shelf is the store of one watch. What arrives goes into the index.
type shelf struct {
	index *index
	part  part
	// request is called for what carries a redeliver annotation.
	request func(types.NamespacedName)
}

var (
	_ toolscache.ReflectorStore    = &shelf{}
	_ toolscache.TransformingStore = &shelf{}
)

// Add implements cache.ReflectorStore.
func (s *shelf) Add(object any) error {
	d, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil
	}
	if d.DeletionTimestamp.IsZero() {
		s.index.set(ownerOf(d), s.part.phase, newEntry(d))
	} else {
		s.index.delete(s.part.phase, client.ObjectKeyFromObject(d))
	}
	s.look(d)
	return nil
}

// Update implements cache.ReflectorStore.
func (s *shelf) Update(object any) error { return s.Add(object) }

// Delete implements cache.ReflectorStore.
func (s *shelf) Delete(object any) error {
	if d, ok := object.(*metav1.PartialObjectMetadata); ok {
		s.index.delete(s.part.phase, client.ObjectKeyFromObject(d))
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *shelf) Replace(objects []any, _ string) error {
	owners, entries := make([]owner, 0, len(objects)), make([]*entry, 0, len(objects))
	for _, object := range objects {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok && d.DeletionTimestamp.IsZero() {
			owners, entries = append(owners, ownerOf(d)), append(entries, newEntry(d))
		}
	}
	s.index.replace(s.part, owners, entries)
	for _, object := range objects {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok {
			s.look(d)
		}
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *shelf) Resync() error { return nil }

// Transformer implements cache.TransformingStore: a list in progress holds no more than is needed.
func (s *shelf) Transformer() toolscache.TransformFunc {
	return func(object any) (any, error) {
		if d, ok := object.(*metav1.PartialObjectMetadata); ok {
			strip(d)
		}
		return object, nil
	}
}

func (s *shelf) look(d *metav1.PartialObjectMetadata) {
	if asked(d) {
		s.request(client.ObjectKeyFromObject(d))
	}
}

// asked reports whether a delivery carries a redeliver annotation.
func asked(d metav1.Object) bool {
	annotations := d.GetAnnotations()
	return annotations[v1alpha1.RedeliverAnnotation] != "" || annotations[v1alpha1.PassedRedeliverAnnotation] != ""
}

// ownerOf returns the Postback that controls a delivery. Metadata does not hold spec.postbackRef; the operator puts the
// same reference here. A delivery that somebody else made may have none: then only the bound of the cluster applies.
func ownerOf(d *metav1.PartialObjectMetadata) owner {
	of := owner{namespace: d.Namespace}
	if reference := metav1.GetControllerOfNoCopy(d); reference != nil {
		of.postback = v1alpha1.PostbackReference{Name: reference.Name, UID: reference.UID}
	}
	return of
}

func newEntry(d *metav1.PartialObjectMetadata) *entry {
	return &entry{name: d.Name, uid: d.UID, resourceVersion: d.ResourceVersion, at: finishedAt(d), asked: asked(d)}
}

// finishedAt returns when a delivery finished: when its status was written last. Metadata does not hold
// status.completionTime, but managed fields have the time of that write, to the second.
func finishedAt(d *metav1.PartialObjectMetadata) time.Time {
	at := d.CreationTimestamp.Time
	for i := range d.ManagedFields {
		if f := &d.ManagedFields[i]; f.Subresource == "status" && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// strip drops what an entry is not made of, which is most.
func strip(d *metav1.PartialObjectMetadata) {
	d.Labels = nil
	d.ManagedFields = []metav1.ManagedFieldsEntry{{Subresource: "status", Time: &metav1.Time{Time: finishedAt(d)}}}
	kept := map[string]string{}
	for _, name := range []string{v1alpha1.RedeliverAnnotation, v1alpha1.PassedRedeliverAnnotation} {
		if value, ok := d.Annotations[name]; ok {
			kept[name] = value
		}
	}
	d.Annotations = kept
}
