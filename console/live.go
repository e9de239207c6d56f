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
	"context"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/console/feed"
)

const (
	// gatherTime is how long changes are collected before an update of a page. Users do not notice it.
	gatherTime = 100 * time.Millisecond
	// headTime is the least time between updates of the parts above the log.
	headTime = time.Second
	// maxRows bounds the rows in one update of a page.
	maxRows = 4 * pageSize
)

// stream writes Server-Sent Events.
type stream struct {
	w       http.ResponseWriter
	flusher *http.ResponseController
	// sent holds the last content of each part of the page, so that only changed parts are sent.
	sent map[string]template.HTML
}

// patch replaces an element of the page, or removes it if HTML is "".
type patch struct {
	ID   string        `json:"id"`
	HTML template.HTML `json:"html"`
	// Cursor is the position of a row that the page does not have yet, and Key its name.
	Cursor string `json:"cursor,omitempty"`
	Key    string `json:"key,omitempty"`
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	s := &stream{w: w, flusher: http.NewResponseController(w), sent: map[string]template.HTML{}}
	_, _ = fmt.Fprint(w, "retry: 500\n\n")
	_ = s.flusher.Flush()
	return s
}

// send sends events of the stream.
func (s *stream) send(events ...event) {
	if len(events) == 0 {
		return
	}
	for _, e := range events {
		if e.id > 0 {
			_, _ = fmt.Fprintf(s.w, "id: %d\n", e.id)
		}
		_, _ = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", e.name, e.content)
	}
	_ = s.flusher.Flush()
}

// replace sends an element if it differs from the last one sent.
func (s *stream) replace(id, name string, data any) { s.update(newElement(id, name, data)...) }

// update sends those elements that differ from the last ones sent.
func (s *stream) update(elements ...element) {
	var changed []event
	for _, e := range elements {
		if s.sent[e.id] != e.html {
			s.sent[e.id] = e.html
			changed = append(changed, e.event)
		}
	}
	s.send(changed...)
}

// follow calls tell at once and after each change, until the client disconnects or the console ends. A duration that
// tell returns triggers another call after that time.
func (c *Console) follow(ctx context.Context, subscription *feed.Subscription, tell func(feed.Changes) time.Duration) {
	defer subscription.Close()
	again := tell(feed.Changes{Status: true})
	for {
		var due <-chan time.Time
		if again > 0 {
			due = time.After(again)
		}
		select {
		case <-ctx.Done():
			return
		case <-c.ended:
			return
		case <-due:
		case <-subscription.C:
			select {
			case <-ctx.Done():
				return
			case <-time.After(gatherTime):
			}
		}
		again = tell(subscription.Take())
	}
}

// listLive streams the changes of the list: the whole list at first and after a card is added or removed, otherwise
// the changed cards.
func (c *Console) listLive(w http.ResponseWriter, r *http.Request) {
	subscription := c.feed.Subscribe()
	s := newStream(w)
	var known []types.NamespacedName
	waiting := map[types.NamespacedName]bool{}
	all, first := false, true
	var drawn time.Time
	c.follow(r.Context(), subscription, func(changes feed.Changes) time.Duration {
		if changes.Status {
			s.replace("problem", "problem", c.frame(""))
			all = true
		}
		maps.Copy(waiting, changes.Objects)
		if wait := headTime - c.clock.Since(drawn); wait > 0 && !first {
			return wait
		}
		page := c.listPage(r)
		page.keepOrder(known)
		if now := page.members(); all || first || !slices.Equal(known, now) {
			known = now
			s.replace("cards", "cards", page)
		} else {
			s.replace("tallies", "tallies", page)
			for i := range page.Cards {
				if waiting[page.members()[i]] {
					s.replace(page.Cards[i].ID, "card", page.Cards[i])
				}
			}
		}
		drawn, first, all = c.clock.Now(), false, false
		clear(waiting)
		return 0
	})
}
