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

// Package feed keeps the console's data current: the Postbacks, PostbackSecrets, PostbackStatistics and deliveries of
// one namespace or all. It watches the API server and the delivery log, and passes changes on to its subscribers.
package feed

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// Feed is the data of the console. Its methods are safe for concurrent use. Callers must not change the results.
type Feed struct {
	client    client.WithWatch
	namespace string
	sources   []*source
	// stream is the client of the delivery log, or nil if there is none or it cannot be read.
	stream *deliveries.Client

	mu            sync.RWMutex
	postbacks     map[types.NamespacedName]*v1alpha1.Postback
	secrets       map[types.NamespacedName]*v1alpha1.PostbackSecret
	statistics    map[types.NamespacedName]*v1alpha1.PostbackStatistics
	logs          *logs
	subscriptions map[*Subscription]bool
	changed       Changes
	// generation counts the changes that subscribers were woken for.
	generation uint64
	// unread is the reason why the delivery log is not read, or nil. allObjects says that there is no delivery log.
	unread     error
	allObjects bool
	// watched has the Postbacks with open pages. waitingUnread is the reason why their waiting deliveries are not
	// current, or nil.
	watched       map[types.NamespacedName]*watchedStream
	waitingUnread error
}

// statisticsSource is the index of the PostbackStatistics in Feed.sources.
const statisticsSource = 3

// New returns a feed of a namespace, or of all if it is "". It includes the entries of the delivery log unless stream
// is nil.
func New(c client.WithWatch, namespace string, stream *deliveries.Client) *Feed {
	f := &Feed{
		client: c, namespace: namespace, stream: stream, allObjects: stream == nil,
		postbacks: map[types.NamespacedName]*v1alpha1.Postback{}, secrets: map[types.NamespacedName]*v1alpha1.PostbackSecret{},
		statistics:    map[types.NamespacedName]*v1alpha1.PostbackStatistics{},
		subscriptions: map[*Subscription]bool{}, watched: map[types.NamespacedName]*watchedStream{},
	}
	f.logs = newLogs(f.note)
	f.sources = []*source{
		objectsOf(f, "postbacks", f.postbacks, func(o *v1alpha1.Postback) types.NamespacedName { return client.ObjectKeyFromObject(o) }),
		objectsOf(f, "postbacksecrets", f.secrets, func(o *v1alpha1.PostbackSecret) types.NamespacedName { return client.ObjectKeyFromObject(o) }),
		f.deliveries(),
		objectsOf(f, "postbackstatistics", f.statistics, func(o *v1alpha1.PostbackStatistics) types.NamespacedName { return client.ObjectKeyFromObject(o) }),
	}
	f.sources[statisticsSource].optional = true
	return f
}

// objectsOf returns a source that keeps objects in a map.
func objectsOf[T any](f *Feed, kind string, objects map[types.NamespacedName]T, key func(T) types.NamespacedName) *source {
	s := &source{feed: f, kind: kind}
	s.put = func(o any) {
		if object, ok := o.(T); ok {
			objects[key(object)] = object
			f.changed.add(key(object))
		}
	}
	s.drop = func(o any) {
		if object, ok := o.(T); ok {
			delete(objects, key(object))
			f.changed.add(key(object))
		}
	}
	s.replace = func(all []any) {
		for name := range objects {
			f.changed.add(name)
		}
		clear(objects)
		for _, o := range all {
			s.put(o)
		}
	}
	return s
}

// note records that a row changed. The caller holds the lock.
func (f *Feed) note(r *Row) {
	f.changed.add(r.PostbackKey())
}

func (f *Feed) deliveries() *source {
	return &source{
		feed: f, kind: "postbackdeliveries",
		put: func(o any) {
			if d, ok := o.(*v1alpha1.PostbackDelivery); ok {
				r := NewRow(d)
				f.logs.union.PutObject(r.NamespacedName, r)
			}
		},
		drop: func(o any) {
			if d, ok := o.(*v1alpha1.PostbackDelivery); ok {
				f.logs.union.DropObject(client.ObjectKeyFromObject(d))
			}
		},
		replace: func(all []any) {
			rows := make([]*Row, 0, len(all))
			for _, o := range all {
				if d, ok := o.(*v1alpha1.PostbackDelivery); ok {
					rows = append(rows, NewRow(d))
				}
			}
			f.logs.replace(rows)
		},
	}
}

// Run watches until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { f.sources[0].run(ctx, f.client, f.namespace, &v1alpha1.PostbackList{}, &v1alpha1.Postback{}) })
	running.Go(func() {
		f.sources[1].run(ctx, f.client, f.namespace, &v1alpha1.PostbackSecretList{}, &v1alpha1.PostbackSecret{})
	})
	running.Go(func() {
		f.sources[2].run(ctx, f.client, f.namespace, &v1alpha1.PostbackDeliveryList{}, &v1alpha1.PostbackDelivery{})
	})
	running.Go(func() {
		f.sources[statisticsSource].run(ctx, f.client, f.namespace, &v1alpha1.PostbackStatisticsList{}, &v1alpha1.PostbackStatistics{})
	})
	if f.stream != nil {
		running.Go(func() { f.follow(ctx) })
		running.Go(func() { f.followWaiting(ctx) })
	}
	running.Wait()
}

// follow adds new entries of the delivery log until ctx ends, or a dispatcher refuses the request.
func (f *Feed) follow(ctx context.Context) {
	// LeftOut is not set, because a page cannot show that many deliveries anyway.
	err := f.stream.Follow(ctx, deliveries.Query{Namespace: f.namespace}, "", deliveries.Follower{Trim: strip, Deliveries: f.putLogged, Trouble: f.heardStream})
	if err != nil && ctx.Err() == nil {
		f.heardStream(err)
	}
}

// putLogged adds entries of the delivery log, oldest first.
func (f *Feed) putLogged(deliveries ...*v1alpha1.PostbackDelivery) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range deliveries {
		r := NewRow(d)
		r.Logged = true
		f.logs.union.PutLogged(r.NamespacedName, r)
	}
	f.wake()
	return nil
}

// heardStream records the error of the delivery log, or nil.
func (f *Feed) heardStream(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if deliveries.IsNoLog(err) {
		f.allObjects, err = true, nil
	}
	f.unread = err
	f.noteStatus()
	f.wake()
}

// Status says whether the feed is current.
type Status struct {
	// Loading is a kind that has not been read yet, or "" if all have.
	Loading string
	// Kind is a kind that cannot be read, and Err the reason.
	Kind string
	Err  error
	// Unread is the reason why the deliveries of the streams are not current, or nil. AllObjects says that there is
	// no delivery log.
	Unread     error
	AllObjects bool
	// Uncounted is the reason why the PostbackStatistics cannot be read, or nil.
	Uncounted error
}

// Status returns whether the feed is current.
func (f *Feed) Status() Status {
	f.mu.RLock()
	defer f.mu.RUnlock()
	status := Status{Unread: cmp.Or(f.unread, f.waitingUnread), AllObjects: f.allObjects}
	for _, s := range f.sources {
		if s.optional {
			status.Uncounted = s.err
			continue
		}
		if s.err != nil && status.Err == nil {
			status.Kind, status.Err = s.kind, s.err
		}
		if !s.synced && status.Loading == "" {
			status.Loading = s.kind
		}
	}
	return status
}

// Postbacks returns all Postbacks, sorted by namespace and name.
func (f *Feed) Postbacks() []*v1alpha1.Postback {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]*v1alpha1.Postback, 0, len(f.postbacks))
	for _, p := range f.postbacks {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *v1alpha1.Postback) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Postback returns a Postback, or nil.
func (f *Feed) Postback(key types.NamespacedName) *v1alpha1.Postback {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.postbacks[key]
}

// Secret returns a PostbackSecret, or nil.
func (f *Feed) Secret(key types.NamespacedName) *v1alpha1.PostbackSecret {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.secrets[key]
}

// Statistics returns the counts of a Postback, or nil if there are none. known says whether the counts have been
// read.
func (f *Feed) Statistics(postback types.NamespacedName) (s *v1alpha1.PostbackStatistics, known bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.statistics[postback], f.sources[statisticsSource].synced
}

// Rows returns the log of a Postback, newest first.
func (f *Feed) Rows(postback types.NamespacedName) []*Row {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.logs.logs[postback])
}

// Row returns the row of a delivery, or nil.
func (f *Feed) Row(key types.NamespacedName) *Row {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.logs.union.Get(key)
}

// Page returns a part of a Postback's log: the rows after or before a cursor, or the newest.
func (f *Feed) Page(postback types.NamespacedName, filter Filter, after, before string, size int) Page {
	f.mu.RLock()
	defer f.mu.RUnlock()
	p := page(f.selected(postback, filter), parseCursor(postback.Namespace, after), parseCursor(postback.Namespace, before), size)
	p.Revision = f.logs.revision
	return p
}

// selected returns the rows of a log that a filter selects.
func (f *Feed) selected(postback types.NamespacedName, filter Filter) []*Row {
	var rows []*Row
	for _, r := range f.logs.logs[postback] {
		if filter.Match(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

// Neighbours returns the selected rows before and after a row, or nil. The filter need not select the row itself.
func (f *Feed) Neighbours(of *Row, filter Filter) (newer, older *Row) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	rows := f.selected(of.PostbackKey(), filter)
	i, found := slices.BinarySearchFunc(rows, of, newestFirst)
	if i > 0 {
		newer = rows[i-1]
	}
	if found {
		i++
	}
	if i < len(rows) {
		older = rows[i]
	}
	return newer, older
}

// StartAt sets the first revision, before any change. Feeds of other processes, which a page may have seen before,
// need other revisions.
func (f *Feed) StartAt(revision uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logs.revision, f.logs.forgotten = revision, revision
}

// Revision returns the present revision of the logs.
func (f *Feed) Revision() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.logs.revision
}

// Generation returns a number that grows with each change.
func (f *Feed) Generation() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.generation
}

// Since returns the changes of a log after a revision, and the present revision. ok is false if they are no longer
// known.
func (f *Feed) Since(postback types.NamespacedName, revision uint64) (changed, removed []*Row, now uint64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	changed, removed, ok = f.logs.since(postback, revision)
	return changed, removed, f.logs.revision, ok
}
