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

package lane

import (
	"cmp"
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/heap"
)

// Work is a due attempt.
type Work struct {
	// Key names the delivery. A lane holds at most one Work for each.
	Key types.NamespacedName
	// Due orders the work of a lane, oldest first.
	Due time.Time
	// Manual is true if a user requested the attempt. It passes an open circuit, as its probe, and a 410.
	Manual bool
	// Do makes the attempt, if it is still due, and records it. Between the two it calls sent with the result,
	// because the endpoint then has room for another attempt. ctx ends when the process must end, or, with the cause
	// ErrDeleted, when the Postback is deleted.
	Do func(ctx context.Context, sent func(*v1alpha1.Attempt))
	// Dropped, if not nil, is called instead of Do if the work is dropped: the Postback is deleted, the process ends,
	// or newer work replaces this. It must not block, and must not call Lanes.
	Dropped func()

	// entered is when the work entered its lane.
	entered time.Time
}

func (w *Work) drop() {
	if w != nil && w.Dropped != nil {
		w.Dropped()
	}
}

// queue orders work by Due. It calls Dropped for work that it removes without popping it.
type queue struct {
	work *heap.Heap[types.NamespacedName, *Work]
}

func newQueue() *queue {
	return &queue{heap.New(func(w *Work) types.NamespacedName { return w.Key }, func(a, b *Work) bool {
		return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.Key.Name, b.Key.Name)) < 0
	})}
}

// put adds work and drops the work that it replaces.
func (q *queue) put(w *Work) {
	replaced, _ := q.work.Put(w)
	replaced.drop()
}

// pop removes and returns the oldest work, or nil.
func (q *queue) pop() *Work {
	w, _ := q.work.Pop()
	return w
}

func (q *queue) remove(key types.NamespacedName) {
	w, _ := q.work.Remove(key)
	w.drop()
}

func (q *queue) dropAll() {
	for _, w := range q.work.Clear() {
		w.drop()
	}
}

func (q *queue) has(key types.NamespacedName) bool { return q.work.Has(key) }

func (q *queue) len() int { return q.work.Len() }
