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

import "container/heap"

// wakes holds the lanes that have to be looked at again at a time, the soonest first, so that a look costs the same
// however many endpoints wait.
type wakes []*lane

// set takes over the time at which a lane has to be looked at again; the zero time takes it out.
func (w *wakes) set(l *lane) {
	switch waits := l.wakePlace > 0; {
	case l.wakeAt.IsZero() && waits:
		heap.Remove(w, l.wakePlace-1)
	case l.wakeAt.IsZero():
	case waits:
		heap.Fix(w, l.wakePlace-1)
	default:
		heap.Push(w, l)
	}
}

// Len implements heap.Interface.
func (w wakes) Len() int { return len(w) }

// Less implements heap.Interface.
func (w wakes) Less(i, j int) bool { return w[i].wakeAt.Before(w[j].wakeAt) }

// Swap implements heap.Interface.
func (w wakes) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].wakePlace, w[j].wakePlace = i+1, j+1
}

// Push implements heap.Interface.
func (w *wakes) Push(x any) {
	if l, ok := x.(*lane); ok {
		*w = append(*w, l)
		l.wakePlace = len(*w)
	}
}

// Pop implements heap.Interface.
func (w *wakes) Pop() any {
	last := len(*w) - 1
	l := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	l.wakePlace = 0
	return l
}
