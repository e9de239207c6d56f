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
	"container/heap"
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Work is an attempt that is due.
type Work struct {
	// Key of the delivery. A lane holds each at most once.
	Key types.NamespacedName
	// Due is the time by which the work of a lane is ordered, oldest first.
	Due time.Time
	// Asked says that a person asked for this attempt. It does not wait for an open circuit or for an endpoint that is
	// gone, but tells whether that is over.
	Asked bool
	// Do makes the attempt, unless it is no longer due, and records it. In between it calls sent with how the attempt
	// ended, for then the endpoint has room for another one. ctx ends when the endpoint's Postback is deleted, with
	// ErrDeleted as its cause, and when the process has to end.
	Do func(ctx context.Context, sent func(*v1alpha1.Attempt))
	// Dropped, if it is there, is called instead of Do when the work will not be done: its Postback is deleted, the process
	// ends, or other work for the same delivery replaces it. It must not block, and must not call Lanes.
	Dropped func()

	// entered is when it came to its lane.
	entered time.Time
}

func (w *Work) drop() {
	if w != nil && w.Dropped != nil {
		w.Dropped()
	}
}

// queue holds work in the order of its due times.
type queue struct {
	items []*Work
	place map[types.NamespacedName]int
}

func newQueue() *queue { return &queue{place: map[types.NamespacedName]int{}} }

// put adds work, or replaces that of the same delivery.
func (q *queue) put(w *Work) {
	if i, ok := q.place[w.Key]; ok {
		q.items[i].drop()
		q.items[i] = w
		heap.Fix(q, i)
		return
	}
	heap.Push(q, w)
}

// take removes and returns the oldest work.
func (q *queue) take() *Work {
	w, _ := heap.Pop(q).(*Work)
	return w
}

func (q *queue) remove(key types.NamespacedName) {
	if i, ok := q.place[key]; ok {
		q.items[i].drop()
		heap.Remove(q, i)
	}
}

func (q *queue) dropAll() {
	for _, w := range q.items {
		w.drop()
	}
	q.items, q.place = nil, map[types.NamespacedName]int{}
}

func (q *queue) has(key types.NamespacedName) bool {
	_, ok := q.place[key]
	return ok
}

func (q *queue) empty() bool { return len(q.items) == 0 }

// Len implements heap.Interface.
func (q *queue) Len() int { return len(q.items) }

// Less implements heap.Interface.
func (q *queue) Less(i, j int) bool {
	a, b := q.items[i], q.items[j]
	return cmp.Or(a.Due.Compare(b.Due), strings.Compare(a.Key.Name, b.Key.Name)) < 0
}

// Swap implements heap.Interface.
func (q *queue) Swap(i, j int) {
	q.items[i], q.items[j] = q.items[j], q.items[i]
	q.place[q.items[i].Key], q.place[q.items[j].Key] = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	if w, ok := x.(*Work); ok {
		q.place[w.Key] = len(q.items)
		q.items = append(q.items, w)
	}
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(q.items) - 1
	w := q.items[last]
	q.items[last] = nil
	q.items = q.items[:last]
	delete(q.place, w.Key)
	return w
}
