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

package console

import (
	"encoding/json"
	"html/template"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// maxRemembered bounds the updates of rows that a view remembers for its other pages, in bytes.
const maxRemembered = 128 << 10

// viewKey is everything of a live page of a Postback that its content depends on, apart from the data. Pages with
// equal keys show the same.
type viewKey struct {
	postback types.NamespacedName
	query    string
	may      actions
	unread   string
	hosted   bool
}

// views are the live pages of Postbacks. Pages with the same content share a view, which renders each update once.
type views struct {
	mu   sync.Mutex
	open map[viewKey]*view
}

func newViews() *views { return &views{open: map[viewKey]*view{}} }

// join returns the view of a key, with one more page.
func (v *views) join(key viewKey, f *feed.Feed, c clock.PassiveClock) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	joined := v.open[key]
	if joined == nil {
		joined = &view{key: key, feed: f, clock: c}
		v.open[key] = joined
	}
	joined.pages++
	return joined
}

// leave forgets the view when its last page leaves.
func (v *views) leave(left *view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if left.pages--; left.pages == 0 {
		delete(v.open, left.key)
	}
}

// view is the content of live pages.
type view struct {
	key   viewKey
	feed  *feed.Feed
	clock clock.PassiveClock
	// pages is the number of pages. The lock of views protects it.
	pages int

	mu sync.Mutex
	// revision is the revision of the log that the pages show, since stepped.
	revision uint64
	stepped  time.Time
	updates  []update
	// parts are the parts around the log, of a generation of the feed, since drawn.
	parts      *parts
	generation uint64
	drawn      time.Time
}

// update leads a page from one revision of the log to another. Without events there is nothing to send.
type update struct {
	from, to uint64
	events   []event
}

// event is an event of a stream. Its content is encoded once for all pages.
type event struct {
	name string
	// id is a revision, or 0.
	id      uint64
	content []byte
}

// parts are the parts of a page around the rows of its log.
type parts struct {
	// gone says that there is no such Postback.
	gone     bool
	elements []element
	// wait is the reason for waiting that the waiting rows show. waiting has those rows.
	wait    waiting.Why
	waiting []event
}

// element is a part of a page that an event replaces.
type element struct {
	id    string
	html  template.HTML
	event event
}

// newElement renders an element. It returns none if the template fails, which would be a mistake in this package.
func newElement(id, name string, data any) []element {
	html, err := render(name, data)
	if err != nil {
		return nil
	}
	return []element{{id, html, newEvent("patch", 0, []patch{{ID: id, HTML: html}})}}
}

// newEvent returns an event. Its data are strings and numbers, which JSON can always hold.
func newEvent(name string, id uint64, data any) event {
	content, _ := json.Marshal(data)
	return event{name, id, content}
}

// rows returns the update from a revision to the present one. render makes it for the first page that needs it. again
// is the time after which there may be another update, or 0.
func (v *view) rows(from uint64, render func(from uint64) update) (u update, again time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// All pages step at the same times, so that many of them need the same update.
	if now, newest := v.clock.Now(), v.feed.Revision(); newest != v.revision {
		if rest := gatherTime - now.Sub(v.stepped); rest > 0 && v.revision != 0 {
			again = rest
		} else {
			v.revision, v.stepped = newest, now
		}
	}
	if from == v.revision || from > v.revision && from <= v.feed.Revision() {
		return update{from: from, to: from}, again
	}
	for _, u := range v.updates {
		if u.from == from && u.to >= v.revision {
			return u, again
		}
	}
	u = render(from)
	v.revision = max(v.revision, u.to)
	v.remember(u)
	return u, again
}

// remember adds an update, and forgets the oldest ones beyond maxRemembered.
func (v *view) remember(u update) {
	v.updates = append(v.updates, u)
	size := 0
	for i := range slices.Backward(v.updates) {
		if size += v.updates[i].size(); size > maxRemembered {
			v.updates = slices.Clone(v.updates[i+1:])
			return
		}
	}
}

func (u update) size() (n int) {
	for _, e := range u.events {
		n += len(e.content)
	}
	return n
}

// around returns the parts around the log, of a generation of the feed or a later one. render makes them, at most once
// in headTime for all pages. Otherwise around returns nil, and the time after which to ask again.
func (v *view) around(generation uint64, render func() *parts) (*parts, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.parts != nil && v.generation >= generation {
		return v.parts, 0
	}
	if rest := headTime - v.clock.Since(v.drawn); rest > 0 && v.parts != nil {
		return nil, rest
	}
	v.generation, v.drawn = v.feed.Generation(), v.clock.Now()
	v.parts = render()
	return v.parts, 0
}
