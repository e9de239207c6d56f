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
)

// maxLogged bounds how many rows of the delivery log are kept: about ten megabytes.
const maxLogged = 20000

// maxRemoved bounds how many deletions are remembered for pages that were away.
const maxRemoved = 4096

// logs holds the rows of all Postbacks, each log in its order.
type logs struct {
	rows map[types.NamespacedName]*Row
	logs map[types.NamespacedName][]*Row

	// shadowed are the rows of the delivery log that a PostbackDelivery replaces, because a redelivery was
	// requested.
	shadowed map[types.NamespacedName]*Row
	// logged are the names of those of that log, the oldest first.
	logged []types.NamespacedName

	revision uint64
	removed  []removal
	// forgotten is the revision up to which deletions are remembered no more.
	forgotten uint64
}

type removal struct {
	row      *Row
	revision uint64
}

func newLogs() *logs {
	return &logs{
		rows: map[types.NamespacedName]*Row{}, logs: map[types.NamespacedName][]*Row{}, shadowed: map[types.NamespacedName]*Row{},
	}
}

func (l *logs) put(r *Row) {
	if known := l.rows[r.NamespacedName]; known != nil && known.Logged && !r.Logged {
		l.shadowed[r.NamespacedName] = known
	}
	l.revision++
	r.revision = l.revision
	log := l.logs[r.Log()]
	i, found := slices.BinarySearchFunc(log, r, newestFirst)
	if found {
		log[i] = r
	} else {
		l.drop(r.NamespacedName)
		log = slices.Insert(l.logs[r.Log()], i, r)
	}
	l.logs[r.Log()], l.rows[r.NamespacedName] = log, r
}

// putLogged adds a row of the delivery log, and returns the rows that changed. Beyond a number the oldest of them go.
func (l *logs) putLogged(r *Row) (changed []*Row) {
	known := l.rows[r.NamespacedName]
	if known == nil && l.shadowed[r.NamespacedName] == nil {
		l.logged = append(l.logged, r.NamespacedName)
	}
	if known != nil && !known.Logged {
		l.shadowed[r.NamespacedName] = r
	} else {
		l.put(r)
		changed = append(changed, r)
	}
	for len(l.logged) > maxLogged {
		oldest := l.logged[0]
		l.logged = l.logged[1:]
		delete(l.shadowed, oldest)
		if row := l.rows[oldest]; row != nil && row.Logged {
			changed = append(changed, l.drop(oldest))
		}
	}
	return changed
}

// forget takes out the row of a PostbackDelivery that went. If the delivery log has it, that row stands there again.
func (l *logs) forget(key types.NamespacedName) *Row {
	gone := l.drop(key)
	if logged := l.shadowed[key]; logged != nil {
		delete(l.shadowed, key)
		l.put(logged)
	}
	return gone
}

// drop takes a row out and returns it, or nil if it is not there.
func (l *logs) drop(key types.NamespacedName) *Row {
	r := l.rows[key]
	if r == nil {
		return nil
	}
	delete(l.rows, key)
	log := l.logs[r.Log()]
	if i, found := slices.BinarySearchFunc(log, r, newestFirst); found {
		log = slices.Delete(log, i, i+1)
	}
	if l.logs[r.Log()] = log; len(log) == 0 {
		delete(l.logs, r.Log())
	}
	l.revision++
	l.removed = append(l.removed, removal{r, l.revision})
	if len(l.removed) > maxRemoved {
		l.forgotten = l.removed[len(l.removed)-maxRemoved].revision
		l.removed = slices.Clone(l.removed[len(l.removed)-maxRemoved+1:])
	}
	return r
}

// replace makes the rows those of a list, and returns those that changed. In the order of the log each new one goes to its
// log's end.
func (l *logs) replace(rows []*Row) (changed []*Row) {
	present := make(map[types.NamespacedName]bool, len(rows))
	slices.SortFunc(rows, newestFirst)
	for _, r := range rows {
		present[r.NamespacedName] = true
		if known := l.rows[r.NamespacedName]; known == nil || known.version != r.version {
			l.put(r)
			changed = append(changed, r)
		}
	}
	var gone []types.NamespacedName
	for key, r := range l.rows {
		if !present[key] && !r.Logged {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		changed = append(changed, l.forget(key))
	}
	return changed
}

// since returns the rows of a log that changed after a revision, and those that were removed. ok is false if that is no
// longer known.
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
		if gone.revision > revision && gone.row.Log() == log && l.rows[gone.row.NamespacedName] == nil {
			removed = append(removed, gone.row)
		}
	}
	return changed, removed, true
}

// Counts are the deliveries of a Postback by phase.
type Counts struct {
	Pending, Retrying, Delivered, Failed int
}

// Total returns how many there are.
func (c Counts) Total() int { return c.Pending + c.Retrying + c.Delivered + c.Failed }

// Unfinished returns how many are on their way.
func (c Counts) Unfinished() int { return c.Pending + c.Retrying }

// Of returns the number of one phase, or of all if it is empty.
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
