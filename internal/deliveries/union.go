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

package deliveries

import "k8s.io/apimachinery/pkg/types"

// Union merges PostbackDeliveries, entries of the delivery log and deliveries of the waiting stream. It shows one copy
// of each delivery: the PostbackDelivery, and after its deletion the entry again. A waiting copy counts only if there
// is no other, because a delivery is stored elsewhere before it leaves that stream. V is the caller's form of a delivery. Union is not safe
// for concurrent use.
type Union[V comparable] struct {
	most int
	show func(before, now V)

	objects, logged, waiting map[types.NamespacedName]V
	// order lists the keys of logged, oldest first.
	order []types.NamespacedName
}

// NewUnion returns a Union that keeps the newest entries of the delivery log, up to most. It calls show after each
// change of a shown copy; the zero value stands for no copy.
func NewUnion[V comparable](most int, show func(before, now V)) *Union[V] {
	return &Union[V]{most: most, show: show, objects: map[types.NamespacedName]V{}, logged: map[types.NamespacedName]V{}, waiting: map[types.NamespacedName]V{}}
}

// Get returns the shown copy of a delivery, or the zero value.
func (u *Union[V]) Get(key types.NamespacedName) V {
	if v, ok := u.objects[key]; ok {
		return v
	}
	if v, ok := u.logged[key]; ok {
		return v
	}
	return u.waiting[key]
}

// PutObject records a new or changed PostbackDelivery.
func (u *Union[V]) PutObject(key types.NamespacedName, v V) {
	before := u.Get(key)
	u.objects[key] = v
	u.changed(before, v)
}

// DropObject records the deletion of a PostbackDelivery.
func (u *Union[V]) DropObject(key types.NamespacedName) {
	before := u.Get(key)
	delete(u.objects, key)
	u.changed(before, u.Get(key))
}

// DropObjects drops the PostbackDeliveries that a complete list lacks.
func (u *Union[V]) DropObjects(listed map[types.NamespacedName]bool) {
	for key := range u.objects {
		if !listed[key] {
			u.DropObject(key)
		}
	}
}

// PutLogged records an entry of the delivery log.
func (u *Union[V]) PutLogged(key types.NamespacedName, v V) {
	before := u.Get(key)
	if _, known := u.logged[key]; !known {
		u.order = append(u.order, key)
	}
	u.logged[key] = v
	u.changed(before, u.Get(key))
	for len(u.order) > u.most {
		oldest := u.order[0]
		u.order = u.order[1:]
		before := u.Get(oldest)
		delete(u.logged, oldest)
		u.changed(before, u.Get(oldest))
	}
}

// PutWaiting records a delivery of the waiting stream.
func (u *Union[V]) PutWaiting(key types.NamespacedName, v V) {
	before := u.Get(key)
	u.waiting[key] = v
	u.changed(before, u.Get(key))
}

// DropWaiting records that a delivery left the waiting stream.
func (u *Union[V]) DropWaiting(key types.NamespacedName) {
	before := u.Get(key)
	delete(u.waiting, key)
	u.changed(before, u.Get(key))
}

func (u *Union[V]) changed(before, now V) {
	if before != now {
		u.show(before, now)
	}
}
