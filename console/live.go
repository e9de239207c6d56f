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
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
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

// send sends one event of the stream.
func (s *stream) send(name string, revision uint64, data any) {
	content, err := json.Marshal(data)
	if err != nil {
		return
	}
	if revision > 0 {
		_, _ = fmt.Fprintf(s.w, "id: %d\n", revision)
	}
	_, _ = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, content)
	_ = s.flusher.Flush()
}

// replace sends an element if it differs from the last one sent.
func (s *stream) replace(id, name string, data any) {
	content, err := render(name, data)
	if err != nil || s.sent[id] == content {
		return
	}
	s.sent[id] = content
	s.send("patch", 0, []patch{{ID: id, HTML: content}})
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

// postbackLive streams the changes of a Postback's page: the rows of its log, and the parts above it.
func (c *Console) postbackLive(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	key := keyOf(r)
	subscription := c.feed.Subscribe()
	s := newStream(w)
	l := &logStream{stream: s, console: c, key: key, request: r}
	l.revision, _ = strconv.ParseUint(r.FormValue("revision"), 10, 64)
	if id, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		l.revision = id
	}
	c.follow(r.Context(), subscription, l.tell)
}

// logStream is the stream of one page of a Postback.
type logStream struct {
	*stream
	console  *Console
	key      types.NamespacedName
	request  *http.Request
	revision uint64
	drawn    time.Time
	stale    bool
	// wait is the reason for waiting that the rows on the page show.
	wait waiting.Why
}

func (l *logStream) tell(changes feed.Changes) time.Duration {
	if changes.Status {
		l.replace("problem", "problem", l.console.frame(""))
	}
	l.rows()
	l.stale = l.stale || changes.Objects[l.key] || changes.Status
	if !l.stale {
		return 0
	}
	if wait := headTime - l.console.clock.Since(l.drawn); wait > 0 && !l.drawn.IsZero() {
		return wait
	}
	l.drawn, l.stale = l.console.clock.Now(), false
	l.head()
	return 0
}

// rows sends the rows that changed since the last call.
func (l *logStream) rows() {
	changed, removed, now, ok := l.console.feed.Since(l.key, l.revision)
	// For a change of several pages, reloading is cheaper.
	if !ok || len(changed) > maxRows {
		l.revision = now
		l.send("reload", now, "main")
		return
	}
	if now == l.revision {
		return
	}
	l.revision = now
	p := l.console.feed.Postback(l.key)
	var patches []patch
	for _, row := range removed {
		patches = append(patches, patch{ID: "d-" + row.Name, Key: row.Name})
	}
	if p != nil {
		may := l.console.rights.of(l.request.Context(), p, l.console.feed.Secret(secretKey(p)))
		filter := l.console.filterOf(l.request.Form)
		for i := range changed {
			// The oldest row comes first, because the page puts each new row at the top.
			row := changed[len(changed)-1-i]
			told := patch{ID: "d-" + row.Name, Key: row.Name, Cursor: row.Cursor()}
			if filter.Match(row) {
				told.HTML, _ = render("row", l.console.logRow(p, row, l.request.Form, may))
			}
			patches = append(patches, told)
		}
	}
	if len(patches) > 0 {
		l.send("rows", now, patches)
	}
}

// head sends the parts above the log, and the counts of its filters.
func (l *logStream) head() {
	p := l.console.feed.Postback(l.key)
	if p == nil {
		if l.console.feed.Status().Loading == "" {
			l.send("reload", 0, "page")
		}
		return
	}
	may := l.console.rights.of(l.request.Context(), p, l.console.feed.Secret(secretKey(p)))
	h := l.console.head(p, may, l.request.Form)
	h.Spans = l.console.spans(p, l.request)
	l.replace("head", "head", h)
	l.replace("figures", "figures", h)
	log := l.console.log(p, may, l.request)
	l.replace("phases", "phases", log)
	l.replace("paging", "paging", log)
	if l.wait == h.Wait {
		return
	}
	// The reason for waiting belongs to the Postback, and every waiting row shows it.
	l.wait = h.Wait
	var patches []patch
	for i := range log.Rows {
		if row := &log.Rows[i]; row.Wait.Reason != "" {
			told := patch{ID: row.ID, Key: row.Name, Cursor: row.Cursor()}
			told.HTML, _ = render("row", row)
			patches = append(patches, told)
		}
	}
	if len(patches) > 0 {
		l.send("rows", l.revision, patches)
	}
}
