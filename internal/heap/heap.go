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

// Package heap is a priority queue whose items have keys, so that each can be replaced, moved or removed. Callers
// have to lock it.
package heap

import (
	"container/heap"
	"slices"
)

// Heap holds at most one item for each key. Peek and Pop return the item that sorts first. It is not safe for concurrent
// use.
type Heap[K comparable, T any] struct{ items items[K, T] }

// New returns an empty Heap. Items with the same key are versions of one item; less orders the items.
func New[K comparable, T any](key func(T) K, less func(a, b T) bool) *Heap[K, T] {
	return &Heap[K, T]{items[K, T]{key: key, less: less, index: map[K]int{}}}
}

// Len returns the number of items.
func (h *Heap[K, T]) Len() int { return h.items.Len() }

// Put adds an item, or replaces and returns the item of the same key. After a change that affects an item's order,
// Put it again to restore the heap.
func (h *Heap[K, T]) Put(item T) (replaced T, ok bool) {
	i, ok := h.items.index[h.items.key(item)]
	if !ok {
		heap.Push(&h.items, item)
		return replaced, false
	}
	replaced, h.items.ordered[i] = h.items.ordered[i], item
	heap.Fix(&h.items, i)
	return replaced, true
}

// Peek returns the first item, or false if there is none.
func (h *Heap[K, T]) Peek() (first T, ok bool) {
	if h.Len() == 0 {
		return first, false
	}
	return h.items.ordered[0], true
}

// Pop removes and returns the first item, or returns false if there is none.
func (h *Heap[K, T]) Pop() (first T, ok bool) {
	if h.Len() == 0 {
		return first, false
	}
	first, ok = heap.Pop(&h.items).(T)
	return first, ok
}

// Remove removes and returns the item with a key, or returns false if there is none.
func (h *Heap[K, T]) Remove(key K) (removed T, ok bool) {
	i, ok := h.items.index[key]
	if !ok {
		return removed, false
	}
	removed, ok = heap.Remove(&h.items, i).(T)
	return removed, ok
}

// Has reports whether there is an item with a key.
func (h *Heap[K, T]) Has(key K) bool {
	_, ok := h.items.index[key]
	return ok
}

// Clear removes and returns all items, in no particular order.
func (h *Heap[K, T]) Clear() []T {
	all := h.items.ordered
	h.items.ordered = nil
	clear(h.items.index)
	return all
}

// items implements container/heap.Interface.
type items[K comparable, T any] struct {
	key     func(T) K
	less    func(a, b T) bool
	ordered []T
	index   map[K]int
}

func (x *items[K, T]) Len() int           { return len(x.ordered) }
func (x *items[K, T]) Less(i, j int) bool { return x.less(x.ordered[i], x.ordered[j]) }

func (x *items[K, T]) Swap(i, j int) {
	x.ordered[i], x.ordered[j] = x.ordered[j], x.ordered[i]
	x.index[x.key(x.ordered[i])], x.index[x.key(x.ordered[j])] = i, j
}

func (x *items[K, T]) Push(added any) {
	if item, ok := added.(T); ok {
		x.index[x.key(item)] = len(x.ordered)
		x.ordered = append(x.ordered, item)
	}
}

func (x *items[K, T]) Pop() any {
	last := len(x.ordered) - 1
	item := x.ordered[last]
	x.ordered = slices.Delete(x.ordered, last, last+1) // Delete zeroes the element, so that the item can be collected.
	delete(x.index, x.key(item))
	return item
}
