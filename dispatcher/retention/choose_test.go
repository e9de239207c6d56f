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

package retention

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	isDelivered = v1alpha1.DeliveryDelivered
	isFailed    = v1alpha1.DeliveryFailed
)

// fill adds a delivery to an index that finished some time ago.
func fill(x *index, postback, name string, phase v1alpha1.DeliveryPhase, ago time.Duration) {
	of := owner{namespace: "ns-" + postback, postback: v1alpha1.PostbackReference{Name: postback, UID: types.UID("uid-" + postback)}}
	x.set(of, phase, &entry{name: name, uid: types.UID("uid-" + name), resourceVersion: "1", at: noon.Add(-ago)})
}

func syncedIndex() *index {
	x := newIndex([]string{metav1.NamespaceAll})
	for _, phase := range phases {
		x.replace(part{phase: phase}, nil, nil)
	}
	return x
}

// chosen formats victims as "name:reason".
func chosen(victims []victim) []string {
	var names []string
	for _, v := range victims {
		names = append(names, v.key.Name+":"+v.reason)
	}
	return names
}

func TestWhatIsDeleted(t *testing.T) {
	type finished struct {
		postback, name string
		phase          v1alpha1.DeliveryPhase
		ago            time.Duration
	}
	hours := func(n int) time.Duration { return time.Duration(n) * time.Hour }
	week := limit{keep: 1, ttl: 168 * time.Hour}
	for name, test := range map[string]struct {
		finished []finished
		limit    limit
		unknown  bool
		total    int
		want     []string
	}{
		"nothing": {limit: week},
		"as many as wanted": {
			finished: []finished{{"crm", "1", isDelivered, hours(1)}}, limit: week,
		},
		"more than wanted, the oldest first": {
			finished: []finished{{"crm", "new", isDelivered, hours(1)}, {"crm", "older", isDelivered, hours(2)}, {"crm", "oldest", isDelivered, hours(3)}},
			limit:    week, want: []string{"oldest:Count", "older:Count"},
		},
		"none wanted": {
			finished: []finished{{"crm", "1", isDelivered, hours(1)}}, limit: limit{keep: 0, ttl: hours(9)}, want: []string{"1:Count"},
		},
		"phases count by themselves": {
			finished: []finished{{"crm", "1", isDelivered, hours(2)}, {"crm", "2", isFailed, hours(3)}}, limit: week,
		},
		"Postbacks count by themselves": {
			finished: []finished{{"crm", "1", isDelivered, hours(2)}, {"shop", "2", isDelivered, hours(3)}}, limit: week,
		},
		"a count waits for late duplicates": {
			finished: []finished{{"crm", "1", isDelivered, duplicateWindow - time.Second}, {"crm", "2", isDelivered, 0}}, limit: week,
		},
		"and no longer": {
			finished: []finished{{"crm", "1", isDelivered, duplicateWindow}, {"crm", "2", isDelivered, 0}}, limit: week, want: []string{"1:Count"},
		},
		"what finished ahead of this clock stays": {
			finished: []finished{{"crm", "1", isDelivered, -hours(1)}, {"crm", "2", isDelivered, -hours(2)}}, limit: limit{keep: 0, ttl: time.Minute},
		},
		"a ttl does not wait": {
			finished: []finished{{"crm", "1", isDelivered, time.Minute}, {"crm", "2", isDelivered, time.Minute - time.Second}},
			limit:    limit{keep: 9, ttl: time.Minute}, want: []string{"1:TTL"},
		},
		"no limit is known": {
			finished: []finished{{"crm", "1", isDelivered, hours(9999)}, {"crm", "2", isFailed, hours(9999)}}, unknown: true, total: 2,
		},
		"the cluster's bound does not ask": {
			finished: []finished{{"crm", "1", isDelivered, hours(3)}, {"shop", "2", isFailed, hours(2)}, {"crm", "3", isDelivered, hours(1)}},
			unknown:  true, total: 1, want: []string{"1:ClusterLimit", "2:ClusterLimit"},
		},
		"the cluster's bound does not wait": {
			finished: []finished{{"crm", "1", isDelivered, 3}, {"crm", "2", isDelivered, 2}, {"crm", "3", isDelivered, 1}},
			limit:    week, total: 2, want: []string{"1:ClusterLimit"},
		},
		"the cluster's bound takes first what no Postback wants": {
			finished: []finished{
				{"quiet", "only", isFailed, hours(99)},
				{"busy", "1", isDelivered, 40 * time.Second},
				{"busy", "2", isDelivered, 30 * time.Second},
				{"busy", "3", isDelivered, 20 * time.Second},
				{"other", "4", isDelivered, 35 * time.Second},
				{"other", "5", isDelivered, 10 * time.Second},
			},
			limit: week, total: 2, want: []string{"1:ClusterLimit", "4:ClusterLimit", "2:ClusterLimit", "only:ClusterLimit"},
		},
		"what goes anyway counts for the cluster": {
			finished: []finished{{"crm", "1", isDelivered, hours(2)}, {"crm", "2", isDelivered, hours(1)}, {"shop", "3", isDelivered, hours(9)}},
			limit:    week, total: 2, want: []string{"1:Count"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := syncedIndex()
			for _, f := range test.finished {
				fill(x, f.postback, f.name, f.phase, f.ago)
			}
			of := func(owner, v1alpha1.DeliveryPhase) (limit, bool) { return test.limit, !test.unknown }
			if got := chosen(x.choose(of, bounds{total: test.total, batch: 100}, noon)); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func keepOne(owner, v1alpha1.DeliveryPhase) (limit, bool) {
	return limit{keep: 1, ttl: 168 * time.Hour}, true
}

func TestNothingIsDeletedBeforeAllIsKnown(t *testing.T) {
	x := newIndex([]string{metav1.NamespaceAll})
	x.replace(part{phase: isDelivered}, nil, nil)
	fill(x, "crm", "1", isDelivered, time.Hour)
	fill(x, "crm", "2", isDelivered, 2*time.Hour)
	if got := x.choose(keepOne, bounds{total: 1, batch: 10}, noon); got != nil {
		t.Errorf("chosen: %v", chosen(got))
	}
}

// Each watched namespace is listed separately. One that cannot be listed delays no other, but then the bound of the
// cluster does not apply.
func TestNamespacesAreListedApart(t *testing.T) {
	x := newIndex([]string{"ns-crm", "ns-shop"})
	list := func(postback string, names ...string) {
		for _, phase := range phases {
			var owners []owner
			var entries []*entry
			for i, name := range names {
				if phase == isDelivered {
					owners = append(owners, owner{namespace: "ns-" + postback})
					entries = append(entries, &entry{name: name, uid: types.UID(name), resourceVersion: "1", at: noon.Add(-time.Duration(i+1) * time.Hour)})
				}
			}
			x.replace(part{phase, "ns-" + postback}, owners, entries)
		}
	}
	choose := func(total int, want ...string) {
		t.Helper()
		if got := chosen(x.choose(keepOne, bounds{total: total, batch: 10}, noon)); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	list("crm", "a1", "a2", "a3")
	choose(1, "a3:Count", "a2:Count")
	if x.hasSynced() {
		t.Error("everything is listed")
	}
	list("shop", "b1", "b2")
	choose(0, "a3:Count", "b2:Count", "a2:Count")
	choose(1, "a3:Count", "b2:Count", "a2:Count", "a1:ClusterLimit")
	if !x.hasSynced() || x.count(isDelivered) != 5 {
		t.Errorf("%d deliveries, listed: %t", x.count(isDelivered), x.hasSynced())
	}
	x.postpone(&victim{key: types.NamespacedName{Namespace: "ns-shop", Name: "b2"}, phase: isDelivered, uid: "b2", resourceVersion: "1"}, noon.Add(time.Minute))
	list("crm", "a4")
	list("shop", "b1", "b2")
	choose(0)
	if x.count(isDelivered) != 3 {
		t.Errorf("%d deliveries", x.count(isDelivered))
	}
}

// One Postback with a large surplus leaves the others their turn in each batch.
func TestALargeLogHoldsUpNoOther(t *testing.T) {
	x := syncedIndex()
	for i := range 5000 {
		fill(x, "large", fmt.Sprintf("large-%d", i), isDelivered, 100*time.Hour+time.Duration(i)*time.Second)
	}
	for p := range 50 {
		for i := range 3 {
			fill(x, fmt.Sprintf("small%d", p), fmt.Sprintf("small%d-%d", p, i), isDelivered, time.Duration(i+1)*time.Hour)
		}
	}
	victims := x.choose(keepOne, bounds{batch: batchSize}, noon)
	small := 0
	for _, v := range victims {
		if strings.HasPrefix(v.key.Name, "small") {
			small++
		}
	}
	if len(victims) != batchSize || small != 100 {
		t.Errorf("%d chosen, %d of them of the small logs; want %d and 100", len(victims), small, batchSize)
	}
}

// With more Postbacks than a batch has room for, each has its turn in one of the batches.
func TestEachPostbackHasItsTurn(t *testing.T) {
	x := syncedIndex()
	const postbacks = 37
	for p := range postbacks {
		for i := range 100 {
			fill(x, fmt.Sprintf("p%d", p), fmt.Sprintf("p%d-%d", p, i), isDelivered, time.Duration(i+1)*time.Hour)
		}
	}
	turns := map[string]int{}
	for range postbacks {
		for _, v := range x.choose(keepOne, bounds{batch: 10}, noon) {
			turns[v.key.Namespace]++
			x.deleted(&v)
		}
	}
	for namespace, n := range turns {
		if n != 10 {
			t.Errorf("%s had %d turns", namespace, n)
		}
	}
	if len(turns) != postbacks {
		t.Errorf("%d had a turn", len(turns))
	}
}

// A postponed delivery is not chosen before its time, unless it changes.
func TestPostpone(t *testing.T) {
	x := syncedIndex()
	for i := range 4 {
		fill(x, "crm", fmt.Sprint(i), isDelivered, time.Duration(4-i)*time.Hour)
	}
	all := x.choose(keepOne, bounds{batch: 10}, noon)
	x.postpone(&all[1], noon.Add(time.Minute))
	stale := all[2]
	stale.resourceVersion = "0"
	x.postpone(&stale, noon.Add(time.Minute))
	for at, want := range map[time.Duration][]string{
		0: {"0:Count", "2:Count"}, time.Minute - 1: {"0:Count", "2:Count"}, time.Minute: {"0:Count", "1:Count", "2:Count"},
	} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			if got := chosen(x.choose(keepOne, bounds{batch: 10}, noon.Add(at))); !slices.Equal(got, want) {
				t.Errorf("after %s: %q, want %q", at, got, want)
			}
		})
	}
	fill(x, "crm", "1", isDelivered, 3*time.Hour)
	if got := chosen(x.choose(keepOne, bounds{batch: 10}, noon)); len(got) != 3 {
		t.Errorf("after a change: %q", got)
	}
}

// After random changes, the index equals a plain list with the same changes.
func TestIndexHoldsWhatItIsTold(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	x := syncedIndex()
	type id struct {
		postback, name string
		phase          v1alpha1.DeliveryPhase
	}
	want := map[id]time.Duration{}
	for range 20000 {
		of := id{fmt.Sprint("p", random.IntN(20)), fmt.Sprint("d", random.IntN(200)), phases[random.IntN(2)]}
		switch random.IntN(3) {
		case 0, 1:
			ago := time.Duration(random.IntN(100)) * time.Second
			want[of] = ago
			fill(x, of.postback, of.name, of.phase, ago)
		default:
			delete(want, of)
			x.delete(of.phase, types.NamespacedName{Namespace: "ns-" + of.postback, Name: of.name})
		}
	}
	found := 0
	for position, g := range x.order {
		if g.position != position || x.groups[groupKey{g.owner, g.phase}] != g || len(g.entries) == 0 {
			t.Fatalf("group %v at %d", g, position)
		}
		if !slices.IsSortedFunc(g.entries, older) {
			t.Errorf("group %v is in no order", g.owner)
		}
		for _, e := range g.entries {
			found++
			ago, ok := want[id{g.owner.postback.Name, e.name, g.phase}]
			if !ok || !e.at.Equal(noon.Add(-ago)) {
				t.Errorf("%s of %s is there with %s", e.name, g.owner.postback.Name, e.at)
			}
		}
	}
	if count := x.count(isDelivered) + x.count(isFailed); found != len(want) || count != len(want) {
		t.Errorf("%d are there, %d are counted; want %d", found, count, len(want))
	}
}

func BenchmarkChoose(b *testing.B) {
	x := syncedIndex()
	for p := range 10000 {
		for i := range 10 {
			fill(x, fmt.Sprint("p", p), fmt.Sprintf("p%d-%d", p, i), isDelivered, time.Duration(i)*time.Minute)
		}
	}
	keep := func(owner, v1alpha1.DeliveryPhase) (limit, bool) { return limit{keep: 10, ttl: time.Hour}, true }
	for name, total := range map[string]int{"nothing to do": 0, "over the bound": 50000} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				x.choose(keep, bounds{total: total, batch: batchSize}, noon)
			}
		})
	}
}

func TestMoreAreDeletedAtATimeWhileBatchesAreFull(t *testing.T) {
	atATime := workers
	for _, next := range []struct{ batch, want int }{
		{batchSize, 2 * workers}, {batchSize, 4 * workers}, {batchSize, mostWorkers}, {batchSize, mostWorkers}, {batchSize - 1, workers}, {1, workers},
	} {
		if atATime = nextAtATime(atATime, next.batch); atATime != next.want {
			t.Errorf("after a batch of %d: %d at a time, want %d", next.batch, atATime, next.want)
		}
	}
}
