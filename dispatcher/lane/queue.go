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

// Work is an attempt that is due.
type Work struct {
	// Key of the delivery. A lane holds each at most once.
	Key types.NamespacedName
	// Due is the time by which the work of a lane is ordered, oldest first.
	Due time.Time
	// Manual marks an attempt that a person requested. It does not wait for an open circuit or a 410 to end, but is the probe.
	Manual bool
	// Do makes the attempt, unless it is no longer due, and records it. In between it calls sent with the result, because
	// the endpoint has room for another attempt then. ctx ends when the process has to end, and when the endpoint's
	// Postback is deleted, with ErrDeleted as its cause.
	Do func(ctx context.Context, sent func(*v1alpha1.Attempt))
	// Dropped, if not nil, is called instead of Do for dropped work. Its Postback is deleted, the process ends, or new
	// work for the same delivery replaces it. It must not block, and must not call Lanes.
	Dropped func()

	// entered is when it entered its lane.
	entered time.Time
}

func (w *Work) drop() {
	if w != nil && w.Dropped != nil {
		w.Dropped()
	}
}

// queue holds work in the order of its due times. Work that leaves it undone is dropped.
type queue struct {
	work *heap.Heap[types.NamespacedName, *Work]
}

func newQueue() *queue {
	return &queue{heap.New(func(w *Work) types.NamespacedName { return w.Key }, func(a, b *Work) bool {
		return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.Key.Name, b.Key.Name)) < 0
	})}
}

// put adds work, or replaces that of the same delivery.
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
