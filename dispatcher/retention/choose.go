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

// duplicateWindow is the least time for which a finished delivery is kept, whatever the counts of spec.history. Until
// then, a producer that repeats its event gets Duplicate. Producers without an answer repeat within seconds or
// minutes.
const duplicateWindow = history.Grace

// These are the reasons of a deletion, as labels of the metric.
const (
	// reasonCount means spec.history.delivered or spec.history.failed.
	reasonCount = "Count"
	// reasonTTL means spec.history.ttl.
	reasonTTL = "TTL"
	// reasonClusterLimit means --max-finished-deliveries.
	reasonClusterLimit = "ClusterLimit"
)

// limit is the retention of a Postback for one phase.
type limit struct {
	keep int
	ttl  time.Duration
}

// bounds limit one prune.
type bounds struct {
	// total is the number of finished deliveries that the cluster keeps; 0 means no bound.
	total int
	// batch is the largest number of victims.
	batch int
}

// victim is a delivery to delete, as it was when it was chosen.
type victim struct {
	key             types.NamespacedName
	phase           v1alpha1.DeliveryPhase
	uid             types.UID
	resourceVersion string
	annotated       bool
	reason          string
}

// choose returns the deliveries to delete now. First come deliveries beyond the bounds of their Postback, one of each
// Postback in turn, so that a large history delays no other. Then come deliveries beyond the bound of the cluster,
// oldest first. Among these, deliveries beyond the count of their Postback, which are kept only to recognise
// duplicates, precede all others. So a Postback with many events does not shorten the history of others without need.
//
// An unlisted namespace does not delay the others, but the bound of the cluster applies only once all namespaces are
// listed.
func (x *index) choose(of func(owner, v1alpha1.DeliveryPhase) (limit, bool), b bounds, now time.Time) []victim {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.order) == 0 {
		return nil
	}
	x.next %= len(x.order)
	cursors := make([]cursor, len(x.order))
	for i := range x.order {
		// Each call begins with the next Postback, so each has its turn even if a batch does not reach all.
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

// cursor iterates over a group, oldest first.
type cursor struct {
	group *group
	limit limit
	// known is true if the Postback has a limit.
	known bool
	at    int
}

// surplus returns how many deliveries of a group exceed the count of its Postback.
func (c *cursor) surplus() int {
	if !c.known {
		return 0
	}
	return max(len(c.group.entries)-c.limit.keep, 0)
}

func (c *cursor) all() int { return len(c.group.entries) }

// peek advances to the next entry before end whose notBefore has passed, and returns it. It returns nil if there is
// none.
func (c *cursor) peek(end int, now time.Time) *entry {
	for ; c.at < end; c.at++ {
		if e := c.group.entries[c.at]; !e.notBefore.After(now) {
			return e
		}
	}
	return nil
}

// pop returns the current entry as a victim, and advances.
func (c *cursor) pop(reason string) victim {
	e := c.group.entries[c.at]
	c.at++
	return victim{key: e.key(), phase: c.group.phase, uid: e.uid, resourceVersion: e.resourceVersion, annotated: e.annotated, reason: reason}
}

// unwanted returns the reason why the bounds of the Postback exclude the current entry, or "".
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

// unwanted chooses at most n deliveries beyond the bounds of their Postbacks, one of each Postback in turn. served is
// the number of cursors that had a turn in the last round.
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

// oldest chooses the n oldest deliveries among the entries before end of each group, and advances the cursors past
// them.
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

// head is the current entry of a cursor.
type head struct {
	entry  *entry
	cursor *cursor
}
