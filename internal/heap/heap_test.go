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

package heap

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

type job struct {
	name     string
	priority int
}

func newJobs(jobs ...job) *Heap[string, job] {
	h := New(func(j job) string { return j.name }, func(a, b job) bool { return a.priority < b.priority })
	for _, j := range jobs {
		h.Put(j)
	}
	return h
}

func drain(h *Heap[string, job]) (names []string) {
	for j, ok := h.Pop(); ok; j, ok = h.Pop() {
		names = append(names, j.name)
	}
	return names
}

func TestHeap(t *testing.T) {
	jobs := []job{{"low", 3}, {"high", 1}, {"middle", 2}}
	for _, test := range []struct {
		name   string
		change func(*testing.T, *Heap[string, job])
		want   []string
	}{
		{name: "Pop returns items in order", change: func(*testing.T, *Heap[string, job]) {}, want: []string{"high", "middle", "low"}},
		{name: "Put replaces the item of the same key and moves it", change: func(t *testing.T, h *Heap[string, job]) {
			if replaced, ok := h.Put(job{"low", 0}); !ok || replaced != (job{"low", 3}) {
				t.Errorf("Put replaced %v, %t", replaced, ok)
			}
		}, want: []string{"low", "high", "middle"}},
		{name: "Remove takes an item out of the middle", change: func(t *testing.T, h *Heap[string, job]) {
			if removed, ok := h.Remove("middle"); !ok || removed != (job{"middle", 2}) || h.Has("middle") {
				t.Errorf("Remove returned %v, %t", removed, ok)
			}
		}, want: []string{"high", "low"}},
		{name: "Remove of an unknown key changes nothing", change: func(t *testing.T, h *Heap[string, job]) {
			if removed, ok := h.Remove("unknown"); ok {
				t.Errorf("Remove returned %v", removed)
			}
		}, want: []string{"high", "middle", "low"}},
		{name: "Peek leaves the first item", change: func(t *testing.T, h *Heap[string, job]) {
			if first, ok := h.Peek(); !ok || first.name != "high" || h.Len() != len(jobs) {
				t.Errorf("Peek returned %v, %t and left %d items", first, ok, h.Len())
			}
		}, want: []string{"high", "middle", "low"}},
		{name: "Clear empties the heap", change: func(t *testing.T, h *Heap[string, job]) {
			if all := h.Clear(); len(all) != len(jobs) || h.Len() != 0 || h.Has("low") {
				t.Errorf("Clear returned %v and left %d items", all, h.Len())
			}
			if first, ok := h.Peek(); ok {
				t.Errorf("Peek returned %v", first)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newJobs(jobs...)
			test.change(t, h)
			if got := drain(h); !slices.Equal(got, test.want) {
				t.Errorf("popped %v, want %v", got, test.want)
			}
		})
	}
}

func TestHeapKeepsOrderUnderRandomChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h, model := newJobs(), map[string]job{}
	for range 5000 {
		j := job{name: string(rune('a' + random.IntN(26))), priority: random.IntN(100)}
		switch random.IntN(3) {
		case 0:
			h.Remove(j.name)
			delete(model, j.name)
		case 1:
			h.Put(j)
			model[j.name] = j
		default:
			first, ok := h.Peek()
			for _, other := range model {
				if !ok || other.priority < first.priority {
					t.Fatalf("Peek returned %v, %t although there is %v", first, ok, other)
				}
			}
			if ok {
				h.Pop()
				delete(model, first.name)
			}
		}
		if h.Len() != len(model) {
			t.Fatalf("%d items, want %d", h.Len(), len(model))
		}
	}
	left := h.Clear()
	slices.SortFunc(left, func(a, b job) int { return cmp.Compare(a.name, b.name) })
	for _, j := range left {
		if model[j.name] != j {
			t.Errorf("item %v, want %v", j, model[j.name])
		}
	}
}
