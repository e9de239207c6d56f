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

package feed

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// source keeps the objects of one kind current by a watch. It implements cache.ReflectorStore.
type source struct {
	feed *Feed
	kind string
	// optional says that the pages work without this kind.
	optional bool
	// put adds an object, drop removes one, and replace replaces all. The caller holds the feed's lock.
	put, drop func(any)
	replace   func([]any)

	// The feed's lock protects synced and err.
	synced bool
	err    error
}

// set applies a change and wakes the subscribers.
func (s *source) set(apply func()) error {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	apply()
	s.feed.wake()
	return nil
}

func (s *source) Add(object any) error    { return s.set(func() { s.put(object) }) }
func (s *source) Update(object any) error { return s.Add(object) }
func (s *source) Delete(object any) error { return s.set(func() { s.drop(object) }) }
func (s *source) Resync() error           { return nil }

func (s *source) Replace(objects []any, _ string) error {
	return s.set(func() {
		s.replace(objects)
		s.synced = true
		s.feed.noteStatus()
	})
}

// heard records the error of a request to the API server, or nil.
func (s *source) heard(err error) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if (s.err == nil) != (err == nil) || err != nil && s.err.Error() != err.Error() {
		s.err = err
		s.feed.noteStatus()
		s.feed.wake()
	}
}

// run lists and watches until ctx ends.
func (s *source) run(ctx context.Context, c client.WithWatch, namespace string, list client.ObjectList, object runtime.Object) {
	quiet := logr.Discard()
	ctx = klog.NewContext(ctx, quiet)
	options := func(o metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{Namespace: namespace, Raw: &o}
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			page, _ := list.DeepCopyObject().(client.ObjectList)
			err := c.List(ctx, page, options(o))
			s.heard(err)
			if err == nil {
				err = meta.EachListItem(page, func(o runtime.Object) error { stripObject(o); return nil })
			}
			return page, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := c.Watch(ctx, list, options(o))
			s.heard(err)
			if err != nil {
				return nil, err
			}
			return watch.Filter(w, func(e watch.Event) (watch.Event, bool) { stripObject(e.Object); return e, true }), nil
		},
	}
	cache.NewReflectorWithOptions(lw, object, s, cache.ReflectorOptions{
		Name: s.kind, Logger: ptr.To(quiet), Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 8, Cap: 2 * time.Second},
	}).RunWithContext(ctx)
}

// stripObject removes unneeded fields of an object as soon as it is read, to save memory.
func stripObject(object runtime.Object) {
	switch o := object.(type) {
	case *v1alpha1.PostbackDelivery:
		strip(o)
	case client.Object:
		o.SetManagedFields(nil)
	}
}
