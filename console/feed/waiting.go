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
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/internal/deliveries"
)

const (
	// waitingEvery is the interval at which the waiting deliveries of an open page are read, because the waiting stream
	// has no watch.
	waitingEvery = 5 * time.Second
	// waitingKept is how long they are kept after the page was closed, because a reload opens it again.
	waitingKept = 30 * time.Second
	// MaxWaiting bounds the rows of waiting deliveries of one Postback, maxWatched the Postbacks with such rows.
	MaxWaiting = 200
	maxWatched = 32
	// firstRead bounds the time for which a page waits for its first rows, waitingRead that of the other reads.
	firstRead   = 3 * time.Second
	waitingRead = 15 * time.Second
)

// watchedStream is the part of the waiting stream that belongs to a Postback with an open page.
type watchedStream struct {
	pages  int
	closed time.Time
	// readAt is the time of the last read, rows its deliveries.
	readAt time.Time
	rows   map[types.NamespacedName]bool
}

// WatchWaiting keeps the waiting deliveries of a Postback current until close is called. For the first page of a
// Postback it reads them before it returns.
func (f *Feed) WatchWaiting(ctx context.Context, postback types.NamespacedName) (done func()) {
	if f.stream == nil {
		return func() {}
	}
	f.mu.Lock()
	w := f.watched[postback]
	if w == nil && len(f.watched) >= maxWatched {
		f.mu.Unlock()
		return func() {}
	}
	if w == nil {
		w = &watchedStream{rows: map[types.NamespacedName]bool{}}
		f.watched[postback] = w
	}
	w.pages++
	first := w.readAt.IsZero() && f.hasBacklog(postback)
	f.mu.Unlock()
	if first {
		bounded, cancel := context.WithTimeout(ctx, firstRead)
		defer cancel()
		f.readWaiting(bounded, postback)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		w.pages--
		w.closed = time.Now()
	}
}

// hasBacklog reports whether deliveries of a Postback may be in the waiting stream. The caller holds the lock.
func (f *Feed) hasBacklog(postback types.NamespacedName) bool {
	p := f.postbacks[postback]
	return p != nil && p.Status.GetBacklog() > 0
}

// followWaiting reads the waiting deliveries of open pages until ctx ends.
func (f *Feed) followWaiting(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, postback := range f.dueWaiting(time.Now()) {
			bounded, cancel := context.WithTimeout(ctx, waitingRead)
			f.readWaiting(bounded, postback)
			cancel()
		}
	}
}

// dueWaiting returns the Postbacks whose waiting deliveries are to be read, and drops the rows of closed pages.
func (f *Feed) dueWaiting(now time.Time) (due []types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for postback, w := range f.watched {
		switch {
		case w.pages == 0 && now.Sub(w.closed) >= waitingKept:
			f.putWaiting(w, nil)
			delete(f.watched, postback)
		case w.pages > 0 && now.Sub(w.readAt) >= waitingEvery && (f.hasBacklog(postback) || len(w.rows) > 0):
			due = append(due, postback)
		}
	}
	f.wake()
	return due
}

// readWaiting reads the newest waiting deliveries of a Postback.
func (f *Feed) readWaiting(ctx context.Context, postback types.NamespacedName) {
	page, err := f.stream.ListWaiting(ctx, deliveries.Query{Namespace: postback.Namespace, Postback: postback.Name, Limit: MaxWaiting})
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.wake()
	if (f.waitingUnread == nil) != (err == nil) {
		f.noteStatus()
	}
	f.waitingUnread = err
	w := f.watched[postback]
	if w == nil {
		return
	}
	if w.readAt = time.Now(); err != nil {
		return
	}
	rows := make([]*Row, 0, len(page.Items))
	for i := range page.Items {
		strip(&page.Items[i])
		r := NewRow(&page.Items[i])
		r.Waiting = true
		rows = append(rows, r)
	}
	f.putWaiting(w, rows)
}

// putWaiting replaces the rows of the waiting deliveries of a Postback. The caller holds the lock.
func (f *Feed) putWaiting(w *watchedStream, rows []*Row) {
	listed := make(map[types.NamespacedName]bool, len(rows))
	for _, r := range rows {
		listed[r.NamespacedName] = true
		f.logs.union.PutWaiting(r.NamespacedName, r)
	}
	for key := range w.rows {
		if !listed[key] {
			f.logs.union.DropWaiting(key)
		}
	}
	w.rows = listed
}

// ForgetWaiting reads the waiting deliveries of a Postback anew, after the user dropped or restored some.
func (f *Feed) ForgetWaiting(ctx context.Context, postback types.NamespacedName) {
	f.mu.RLock()
	w := f.watched[postback]
	shown := w != nil && len(w.rows) > 0
	f.mu.RUnlock()
	if !shown {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, firstRead)
	defer cancel()
	f.readWaiting(bounded, postback)
}
