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
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// phases are the phases of a finished delivery.
var phases = []v1alpha1.DeliveryPhase{v1alpha1.DeliveryDelivered, v1alpha1.DeliveryFailed}

// owner is the Postback that controls a delivery.
type owner struct {
	namespace string
	postback  v1alpha1.PostbackReference
	// restored is true for deliveries from a backup. There may be many, and they do not count against spec.history.
	restored bool
}

// entry is a finished delivery in the index. It takes less than 300 bytes, with its share of the index.
type entry struct {
	group           *group
	name            string
	uid             types.UID
	resourceVersion string
	// at is when the delivery finished, to the second.
	at time.Time
	// annotated is true if the delivery has a redeliver annotation, handled or not.
	annotated bool
	// notBefore is the earliest time of the next delete, after one that failed.
	notBefore time.Time
}

func (e *entry) key() types.NamespacedName {
	return types.NamespacedName{Namespace: e.group.owner.namespace, Name: e.name}
}

// older compares entries by when they finished, then by name, so that the order is unambiguous.
func older(a, b *entry) int {
	if c := a.at.Compare(b.at); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}

// group has the deliveries of one Postback that finished in one phase.
type group struct {
	owner owner
	phase v1alpha1.DeliveryPhase
	// entries are sorted, oldest first.
	entries []*entry
	// position is the index of the group in index.order.
	position int
}

type groupKey struct {
	owner owner
	phase v1alpha1.DeliveryPhase
}

// part is the scope of one watch: the deliveries that finished in one phase, in one namespace, or in all if scope is
// "".
type part struct {
	phase v1alpha1.DeliveryPhase
	scope string
}

// holds reports whether a group belongs to a part.
func (p part) holds(g groupKey) bool {
	return g.phase == p.phase && (p.scope == metav1.NamespaceAll || g.owner.namespace == p.scope)
}

// index has all finished deliveries. It is safe for concurrent use.
type index struct {
	mu     sync.Mutex
	groups map[groupKey]*group
	// order has the groups in the order of their turns; next is the position of the next turn.
	order []*group
	next  int
	// byKey separates the phases, because an object that changes its phase leaves one watch and enters another, in
	// either order.
	byKey map[v1alpha1.DeliveryPhase]map[types.NamespacedName]*entry
	// synced tells for each part whether it has been listed.
	synced map[part]bool
}

// newIndex returns an empty index of the watched namespaces; "" means all.
func newIndex(scopes []string) *index {
	x := &index{
		groups: map[groupKey]*group{},
		byKey:  map[v1alpha1.DeliveryPhase]map[types.NamespacedName]*entry{},
		synced: map[part]bool{},
	}
	for _, phase := range phases {
		x.byKey[phase] = map[types.NamespacedName]*entry{}
		for _, scope := range scopes {
			x.synced[part{phase, scope}] = false
		}
	}
	return x
}

// count returns the number of deliveries that finished in a phase.
func (x *index) count(phase v1alpha1.DeliveryPhase) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.byKey[phase])
}

// hasSynced reports whether all parts are listed. Before that, an unlisted delivery may be older than the listed
// ones.
func (x *index) hasSynced() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.allSynced()
}

func (x *index) allSynced() bool {
	for _, synced := range x.synced {
		if !synced {
			return false
		}
	}
	return true
}

// listed reports whether both phases of a namespace are listed.
func (x *index) listed(namespace string) bool {
	for _, phase := range phases {
		if !x.synced[part{phase, namespace}] && !x.synced[part{phase, metav1.NamespaceAll}] {
			return false
		}
	}
	return true
}

// set adds a delivery, or replaces its entry.
func (x *index) set(of owner, phase v1alpha1.DeliveryPhase, e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(phase, types.NamespacedName{Namespace: of.namespace, Name: e.name})
	g := x.group(of, phase)
	e.group = g
	at, _ := slices.BinarySearchFunc(g.entries, e, older)
	g.entries = slices.Insert(g.entries, at, e)
	x.byKey[phase][e.key()] = e
}

// group returns the group of a Postback and phase, and creates it if necessary.
func (x *index) group(of owner, phase v1alpha1.DeliveryPhase) *group {
	key := groupKey{of, phase}
	g := x.groups[key]
	if g == nil {
		g = &group{owner: of, phase: phase, position: len(x.order)}
		x.groups[key] = g
		x.order = append(x.order, g)
	}
	return g
}

// delete removes a delivery.
func (x *index) delete(phase v1alpha1.DeliveryPhase, key types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(phase, key)
}

// deleted removes a victim, unless another delivery of the same name has replaced it.
func (x *index) deleted(v *victim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.byKey[v.phase][v.key]; e != nil && e.uid == v.uid {
		x.remove(v.phase, v.key)
	}
}

// postpone excludes a delivery from choose until a time, or until it changes.
func (x *index) postpone(v *victim, until time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.byKey[v.phase][v.key]; e != nil && e.uid == v.uid && e.resourceVersion == v.resourceVersion {
		e.notBefore = until
	}
}

func (x *index) remove(phase v1alpha1.DeliveryPhase, key types.NamespacedName) {
	e := x.byKey[phase][key]
	if e == nil {
		return
	}
	delete(x.byKey[phase], key)
	g := e.group
	at, found := slices.BinarySearchFunc(g.entries, e, older)
	if !found {
		return
	}
	if at == 0 {
		// Usually the oldest entry is removed, which moves no other.
		g.entries[0] = nil
		g.entries = g.entries[1:]
	} else {
		g.entries = slices.Delete(g.entries, at, at+1)
	}
	if len(g.entries) == 0 {
		x.drop(g)
	}
}

// drop removes an empty group. The last group takes its position.
func (x *index) drop(g *group) {
	last := x.order[len(x.order)-1]
	x.order[g.position], last.position = last, g.position
	x.order[len(x.order)-1] = nil
	x.order = x.order[:len(x.order)-1]
	delete(x.groups, groupKey{g.owner, g.phase})
}

// replace replaces the deliveries of a part by those of a list.
func (x *index) replace(p part, owners []owner, entries []*entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	known, before := x.byKey[p.phase], map[types.NamespacedName]*entry{}
	for key, g := range x.groups {
		if !p.holds(key) {
			continue
		}
		for _, e := range g.entries {
			before[e.key()] = e
			delete(known, e.key())
		}
		x.drop(g)
	}
	for i, e := range entries {
		e.group = x.group(owners[i], p.phase)
		e.group.entries = append(e.group.entries, e)
		if old := before[e.key()]; old != nil && old.uid == e.uid && old.resourceVersion == e.resourceVersion {
			e.notBefore = old.notBefore
		}
		known[e.key()] = e
	}
	for key, g := range x.groups {
		if p.holds(key) {
			slices.SortFunc(g.entries, older)
		}
	}
	x.synced[p] = true
}
