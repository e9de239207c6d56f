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
	"fmt"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// change is an object that was added, changed or deleted. gone says that it was deleted.
type change struct {
	object client.Object
	gone   bool
}

// watching selects the objects of a watch.
type watching struct {
	object    client.Object
	list      client.ObjectList
	namespace string
	selector  fields.Selector
}

// watch calls f with each existing object and each change, one at a time, until f is done or ctx ends. It reconnects
// after a lost connection, and says so once. It fails if the caller may not watch.
func (e *env) watch(ctx context.Context, s *scope, f func(change) (done bool, err error), all ...watching) error {
	ctx, stop := context.WithCancel(ctx)
	var informers sync.WaitGroup
	defer func() { stop(); informers.Wait() }()
	changes := make(chan change)
	trouble := &trouble{env: e, refused: make(chan error, 1)}
	for _, w := range all {
		informer, err := s.informer(ctx, w, changes, trouble)
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		informers.Go(func() { informer.RunWithContext(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-trouble.refused:
			return err
		case c := <-changes:
			trouble.told.Store(false)
			if done, err := f(c); done || err != nil {
				return err
			}
		}
	}
}

// informer returns an informer that sends each change to a channel until ctx ends.
func (s *scope) informer(ctx context.Context, w watching, changes chan<- change, trouble *trouble) (cache.SharedInformer, error) {
	send := func(object any, gone bool) {
		if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = unknown.Obj
		}
		if o, ok := object.(client.Object); ok {
			select {
			case changes <- change{o, gone}:
			case <-ctx.Done():
			}
		}
	}
	worked := &atomic.Bool{}
	informer := cache.NewSharedInformer(s.listWatch(w, worked), w.object, 0)
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		trouble.handle(ctx, err, worked.Load())
	}); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { send(object, false) },
		UpdateFunc: func(_, object any) { send(object, false) },
		DeleteFunc: func(object any) { send(object, true) },
	})
	return informer, err
}

// trouble handles the errors of a watch.
type trouble struct {
	*env
	// told says that the present error has been printed.
	told atomic.Bool
	// refused receives the error that ends the watch.
	refused chan error
}

// handle prints once that the watch is lost. It ends a watch that never worked and that the API server refuses.
func (t *trouble) handle(ctx context.Context, err error, worked bool) {
	switch {
	case ctx.Err() != nil:
	case isRefused(err) && !worked:
		select {
		case t.refused <- fmt.Errorf("watch: %w", err):
		default:
		}
	case t.told.CompareAndSwap(false, true):
		say(t.ErrOut, "%s; trying again: %s", whyLost(err), explain(err))
	}
}

// isRefused reports whether the API server does not let the caller watch.
func isRefused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// whyLost describes why a watch that worked has ended.
func whyLost(err error) string {
	if isRefused(err) {
		return "The API server does not let you watch any more"
	}
	return "The API server does not answer"
}

// listWatch returns the list and watch functions of an informer. It sets worked when one succeeds.
func (s *scope) listWatch(w watching, worked *atomic.Bool) *cache.ListWatch {
	options := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{Namespace: w.namespace, FieldSelector: w.selector, Raw: &raw}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			list, ok := w.list.DeepCopyObject().(client.ObjectList)
			if !ok {
				return nil, fmt.Errorf("%T is no list", w.list)
			}
			return list, s.List(ctx, list, options(raw))
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			found, err := s.Watch(ctx, w.list, options(raw))
			if err == nil {
				worked.Store(true)
			}
			return found, err
		},
	}
}

// await watches one object until f is done. It fails if the object is deleted before.
func (e *env) await(ctx context.Context, s *scope, object client.Object, list client.ObjectList, f func(client.Object) (done bool, err error)) error {
	return e.watch(ctx, s, unlessGone(f), only(object, list))
}

// only selects one object for a watch.
func only(object client.Object, list client.ObjectList) watching {
	return watching{
		object: object, list: list, namespace: object.GetNamespace(), selector: fields.OneTermEqualSelector("metadata.name", object.GetName()),
	}
}

// unlessGone returns a function for watch that fails if an object is deleted, and calls f with every other change.
func unlessGone(f func(client.Object) (done bool, err error)) func(change) (bool, error) {
	return func(c change) (bool, error) {
		if c.gone {
			return false, fmt.Errorf("%q was deleted", c.object.GetName())
		}
		return f(c.object)
	}
}
