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
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Index holds the routes in memory. It is safe for concurrent use. Callers must not change the routes that it
// returns.
type Index struct {
	mu          sync.RWMutex
	byUID       map[types.UID]*Route
	byNamespace map[string]map[types.UID]*Route
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{byUID: map[types.UID]*Route{}, byNamespace: map[string]map[types.UID]*Route{}}
}

// Set adds a route, or replaces the one with the same UID.
func (x *Index) Set(r *Route) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byUID[r.UID] = r
	namespace := x.byNamespace[r.Namespace]
	if namespace == nil {
		namespace = map[types.UID]*Route{}
		x.byNamespace[r.Namespace] = namespace
	}
	namespace[r.UID] = r
}

// Delete removes the route of a Postback, and returns it, or nil if there was none.
func (x *Index) Delete(postback types.UID) *Route {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, ok := x.byUID[postback]
	if !ok {
		return nil
	}
	delete(x.byUID, postback)
	delete(x.byNamespace[r.Namespace], postback)
	if len(x.byNamespace[r.Namespace]) == 0 {
		delete(x.byNamespace, r.Namespace)
	}
	return r
}

// Of returns the route of the Postback that a delivery names, or nil. namespace is that of the delivery. A delivery
// that names a Postback of another namespace has no route: the right to write deliveries must not permit use of other
// tenants' keys.
func (x *Index) Of(namespace string, postback v1alpha1.PostbackReference) *Route {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.byUID[postback.UID]
	if r == nil || r.Namespace != namespace || r.Name != postback.Name {
		return nil
	}
	return r
}

// Get returns the route of a Postback, or nil.
func (x *Index) Get(postback types.UID) *Route {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byUID[postback]
}

// All returns all routes, in no particular order.
func (x *Index) All() []*Route {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Collect(maps.Values(x.byUID))
}

// Match returns the routes of a namespace whose triggers select an event type. It ignores their state, and has no
// order.
func (x *Index) Match(namespace, eventType string) []*Route {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var matches []*Route
	for _, r := range x.byNamespace[namespace] {
		if Subscribed(r.Triggers, eventType) {
			matches = append(matches, r)
		}
	}
	return matches
}

// In returns the routes of a namespace, in no particular order.
func (x *Index) In(namespace string) []*Route {
	x.mu.RLock()
	defer x.mu.RUnlock()
	routes := make([]*Route, 0, len(x.byNamespace[namespace]))
	for _, r := range x.byNamespace[namespace] {
		routes = append(routes, r)
	}
	return routes
}
