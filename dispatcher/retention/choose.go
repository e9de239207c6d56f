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
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/heap"
	"github.com/postback-dev/postback-operator/internal/history"
)

// duplicateWindow is the minimum time for which a finished delivery is kept, regardless of the counts of spec.history.
// As long as it exists, a producer that sends its event again gets the answer Duplicate. Producers that got no answer
// send again within seconds or a few minutes.
const duplicateWindow = history.Grace

// Reasons why a delivery is deleted, as the metric has them.
const (
	// reasonCount is spec.history.delivered or .failed.
	reasonCount = "Count"
	// reasonTTL is spec.history.ttl.
	reasonTTL = "TTL"
	// reasonClusterLimit is --max-finished-deliveries.
	reasonClusterLimit = "ClusterLimit"
)

// limit is the retention of a Postback for one phase.
type limit struct {
	keep int
	ttl  time.Duration
}

// bounds of one run.
type bounds struct {
	// total is the number of finished deliveries that the cluster keeps; 0 means any number.
	total int
	// batch is the number of deliveries that are chosen at most.
	batch int
}

// victim is a delivery that is to be deleted, as it was when that was decided.
type victim struct {
	key             types.NamespacedName
	phase           v1alpha1.DeliveryPhase
	uid             types.UID
	resourceVersion string
	annotated       bool
	reason          string
}

// choose returns the deliveries to delete now. Deliveries beyond the bounds of their Postback come first, one of each Postback
// in turn, so that a large history delays no other. Then come the deliveries beyond the bound of the cluster, oldest first:
// those beyond the count of their Postback, kept only to recognise duplicates, before all others. So a Postback with many
// events does not shorten the history of the others while the cluster's bound has room for it.
//
// A namespace that is not listed yet delays no other. The cluster bound applies only after all namespaces are listed.
func (x *index) choose(of func(owner, v1alpha1.DeliveryPhase) (limit, bool), b bounds, now time.Time) []victim {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.order) == 0 {
		return nil
	}
	x.next %= len(x.order)
	cursors := make([]cursor, len(x.order))
	for i := range x.order {
		// The one that is served first begins, so that each has its turn however many there are.
		g := x.order[(x.next+i)%len(x.order)]
		if cursors[i] = (cursor{group: g}); x.listed(g.owner.namespace) {
			cursors[i].limit, cursors[i].known = of(g.owner, g.phase)
		}
	}
	victims, served := unwanted(cursors, b.batch, now)
	x.next += served
	total := 0
	for _, deliveries := range x.byKey {
		total += len(deliveries)
	}
	if b.total > 0 && x.allSynced() {
		excess := total - b.total - len(victims)
		for _, end := range []func(*cursor) int{(*cursor).surplus, (*cursor).all} {
			n := min(excess, b.batch-len(victims))
			more := oldest(cursors, end, n, now)
			victims, excess = append(victims, more...), excess-len(more)
		}
	}
	return victims
}

// cursor goes through a group, the oldest first.
type cursor struct {
	group *group
	limit limit
	// known says whether there is a limit.
	known bool
	at    int
}

// surplus returns how many of a group are beyond the count of its Postback.
func (c *cursor) surplus() int {
	if !c.known {
		return 0
	}
	return max(len(c.group.entries)-c.limit.keep, 0)
}

func (c *cursor) all() int { return len(c.group.entries) }

// peek moves to the next entry before end whose notBefore has passed, and returns it, or nil.
func (c *cursor) peek(end int, now time.Time) *entry {
	for ; c.at < end; c.at++ {
		if e := c.group.entries[c.at]; !e.notBefore.After(now) {
			return e
		}
	}
	return nil
}

// pop returns the entry under the cursor as a victim, and moves on.
func (c *cursor) pop(reason string) victim {
	e := c.group.entries[c.at]
	c.at++
	return victim{key: e.key(), phase: c.group.phase, uid: e.uid, resourceVersion: e.resourceVersion, annotated: e.annotated, reason: reason}
}

// unwanted returns the reason why the Postback does not want the next entry, or "".
func (c *cursor) unwanted(now time.Time) string {
	if !c.known {
		return ""
	}
	e := c.peek(len(c.group.entries), now)
	switch {
	case e == nil:
		return ""
	case now.Sub(e.at) >= c.limit.ttl:
		return reasonTTL
	case c.at < c.surplus() && now.Sub(e.at) >= duplicateWindow:
		return reasonCount
	}
	return ""
}

// unwanted chooses at most n deliveries beyond the bounds of their Postbacks, one of each Postback in turn. It returns the
// number of cursors that had a turn in the last round.
func unwanted(cursors []cursor, n int, now time.Time) (victims []victim, served int) {
	active := make([]int, len(cursors))
	for i := range active {
		active[i] = i
	}
	for len(active) > 0 {
		var left []int
		for _, i := range active {
			if len(victims) == n {
				return victims, i
			}
			if reason := cursors[i].unwanted(now); reason != "" {
				victims = append(victims, cursors[i].pop(reason))
				left = append(left, i)
			}
		}
		active = left
	}
	return victims, 0
}

// oldest returns the n oldest deliveries before end in their groups, and moves the cursors past them.
func oldest(cursors []cursor, end func(*cursor) int, n int, now time.Time) []victim {
	if n <= 0 {
		return nil
	}
	heads := heap.New(func(h head) *cursor { return h.cursor }, func(a, b head) bool { return older(a.entry, b.entry) < 0 })
	for i := range cursors {
		if e := cursors[i].peek(end(&cursors[i]), now); e != nil {
			heads.Put(head{e, &cursors[i]})
		}
	}
	var victims []victim
	for len(victims) < n {
		first, ok := heads.Peek()
		if !ok {
			break
		}
		c := first.cursor
		victims = append(victims, c.pop(reasonClusterLimit))
		if e := c.peek(end(c), now); e != nil {
			heads.Put(head{e, c})
		} else {
			heads.Pop()
		}
	}
	return victims
}

// head is the next entry of a cursor.
type head struct {
	entry  *entry
	cursor *cursor
}
