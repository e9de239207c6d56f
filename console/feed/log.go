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

package feed

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// maxLogged bounds the rows from the delivery log: about ten megabytes.
const maxLogged = 20000

// maxRemoved bounds the removals that are remembered for pages that reconnect.
const maxRemoved = 4096

// logs holds the rows of all Postbacks, each log sorted.
type logs struct {
	union *deliveries.Union[*Row]
	logs  map[types.NamespacedName][]*Row
	// note is called with each row that was changed or removed.
	note func(*Row)

	revision uint64
	removed  []removal
	// forgotten is the revision of the newest removal that is no longer remembered.
	forgotten uint64
}

type removal struct {
	row      *Row
	revision uint64
}

func newLogs(note func(*Row)) *logs {
	l := &logs{logs: map[types.NamespacedName][]*Row{}, note: note}
	l.union = deliveries.NewUnion(maxLogged, l.show)
	return l
}

// show replaces a row by another one of the same delivery. Either may be nil.
func (l *logs) show(before, now *Row) {
	if before != nil && now != nil && before.version == now.version && before.Logged == now.Logged && before.Waiting == now.Waiting {
		return
	}
	if before != nil && (now == nil || now.PostbackKey() != before.PostbackKey() || now.Compare(before.Place) != 0) {
		l.remove(before)
	}
	if now == nil {
		l.note(before)
		return
	}
	l.revision++
	now.revision = l.revision
	log := l.logs[now.PostbackKey()]
	i, found := slices.BinarySearchFunc(log, now, newestFirst)
	if found {
		log[i] = now
	} else {
		log = slices.Insert(log, i, now)
	}
	l.logs[now.PostbackKey()] = log
	l.note(now)
}

// remove removes a row from its log.
func (l *logs) remove(r *Row) {
	log := l.logs[r.PostbackKey()]
	if i, found := slices.BinarySearchFunc(log, r, newestFirst); found {
		log = slices.Delete(log, i, i+1)
	}
	if l.logs[r.PostbackKey()] = log; len(log) == 0 {
		delete(l.logs, r.PostbackKey())
	}
	l.revision++
	l.removed = append(l.removed, removal{r, l.revision})
	if len(l.removed) > maxRemoved {
		l.forgotten = l.removed[len(l.removed)-maxRemoved].revision
		l.removed = slices.Clone(l.removed[len(l.removed)-maxRemoved+1:])
	}
}

// replace replaces the rows of PostbackDeliveries by those of a list. It inserts the newest first, so that each is
// appended.
func (l *logs) replace(rows []*Row) {
	listed := make(map[types.NamespacedName]bool, len(rows))
	slices.SortFunc(rows, newestFirst)
	for _, r := range rows {
		listed[r.NamespacedName] = true
		l.union.PutObject(r.NamespacedName, r)
	}
	l.union.DropObjects(listed)
}

// since returns the rows of a log that were changed after a revision, and those that were removed. ok is false if the
// removals are no longer known.
func (l *logs) since(log types.NamespacedName, revision uint64) (changed, removed []*Row, ok bool) {
	if revision < l.forgotten || revision > l.revision {
		return nil, nil, false
	}
	for _, r := range l.logs[log] {
		if r.revision > revision {
			changed = append(changed, r)
		}
	}
	for _, gone := range l.removed {
		if gone.revision > revision && gone.row.PostbackKey() == log && l.union.Get(gone.row.NamespacedName) == nil {
			removed = append(removed, gone.row)
		}
	}
	return changed, removed, true
}

// Counts are the numbers of a Postback's deliveries by phase.
type Counts struct {
	Pending, Retrying, Delivered, Failed int
	// Waiting is the number of those in the waiting stream.
	Waiting int
}

// WithBacklog adds those of n deliveries in the waiting stream that have no row.
func (c Counts) WithBacklog(n int64) Counts {
	c.Pending += max(int(n)-c.Waiting, 0)
	return c
}

// Total returns the number of all deliveries.
func (c Counts) Total() int { return c.Pending + c.Retrying + c.Delivered + c.Failed }

// Unfinished returns the number of unfinished deliveries.
func (c Counts) Unfinished() int { return c.Pending + c.Retrying }

// Of returns the number of deliveries in a phase, or of all if phase is "".
func (c Counts) Of(phase v1alpha1.DeliveryPhase) int {
	switch phase {
	case v1alpha1.DeliveryPending:
		return c.Pending
	case v1alpha1.DeliveryRetrying:
		return c.Retrying
	case v1alpha1.DeliveryDelivered:
		return c.Delivered
	case v1alpha1.DeliveryFailed:
		return c.Failed
	default:
		return c.Total()
	}
}

// Count counts rows by phase.
func Count(rows []*Row) (c Counts) {
	for _, r := range rows {
		if r.Waiting {
			c.Waiting++
		}
		switch r.Phase {
		case v1alpha1.DeliveryPending:
			c.Pending++
		case v1alpha1.DeliveryRetrying:
			c.Retrying++
		case v1alpha1.DeliveryDelivered:
			c.Delivered++
		case v1alpha1.DeliveryFailed:
			c.Failed++
		}
	}
	return c
}
