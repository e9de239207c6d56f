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

package route

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/postback-dev/postback-operator/internal/watched"
)

// CacheOptions restrict a cache of Secrets to the route Secrets in the install namespace.
func CacheOptions(namespace string) cache.ByObject {
	return cache.ByObject{
		Namespaces: map[string]cache.Config{namespace: {}},
		Field:      fields.OneTermEqualSelector("type", string(SecretType)),
	}
}

// Watch keeps an Index current, and records which route Secrets it has loaded.
type Watch struct {
	index   *Index
	watched watched.Namespaces
	log     logr.Logger
	changed func(r *Route)
	synced  func() bool

	mu sync.Mutex
	// loaded holds the resourceVersion of each route Secret that is in the index, by name.
	loaded map[string]string
}

// NewWatch watches route Secrets through a cache with CacheOptions, and keeps index current. After each change it
// calls changed, which must not block, with the new route, or with the old one after a deletion.
func NewWatch(ctx context.Context, c cache.Cache, index *Index, namespaces watched.Namespaces, log logr.Logger, changed func(r *Route)) (*Watch, error) {
	informer, err := c.GetInformer(ctx, &corev1.Secret{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch route Secrets: %w", err)
	}
	w := &Watch{index: index, watched: namespaces, log: log, changed: changed, loaded: map[string]string{}}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    w.set,
		UpdateFunc: func(_, object any) { w.set(object) },
		DeleteFunc: w.delete,
	})
	if err != nil {
		return nil, fmt.Errorf("follow route Secrets: %w", err)
	}
	w.synced = registration.HasSynced
	return w, nil
}

// HasSynced reports whether the index holds the routes that existed at the start.
func (w *Watch) HasSynced() bool { return w.synced() }

func (w *Watch) set(object any) {
	secret, ok := object.(*corev1.Secret)
	if !ok || secret.Type != SecretType {
		return
	}
	r, err := FromSecret(secret)
	if err != nil {
		// The last good route stays in force. The manager compares the Secret with the desired route, and repairs it.
		w.log.Error(err, "Ignoring a route Secret", "secret", klog.KObj(secret))
		return
	}
	if !w.watched.Has(r.Namespace) {
		w.log.V(1).Info("Ignoring the route of a namespace that is not watched", "postback", r.Key())
		return
	}
	w.index.Set(r)
	w.mu.Lock()
	w.loaded[secret.Name] = secret.ResourceVersion
	w.mu.Unlock()
	w.log.V(1).Info("Route loaded", "postback", r.Key(), "generation", r.Generation)
	w.changed(r)
}

func (w *Watch) delete(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return
	}
	w.mu.Lock()
	delete(w.loaded, secret.Name)
	w.mu.Unlock()
	if postback, ok := UIDOf(secret.Name); ok {
		removed := w.index.Delete(postback)
		w.log.V(1).Info("Route removed", "uid", postback)
		if removed != nil {
			w.changed(removed)
		}
	}
}

// Loaded returns the highest resourceVersion among the route Secrets in the index, or "" if there is none.
func (w *Watch) Loaded() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	highest := ""
	for _, version := range w.loaded {
		if highest == "" {
			highest = version
		} else if order, err := resourceversion.CompareResourceVersion(version, highest); err == nil && order > 0 {
			highest = version
		}
	}
	return highest
}
