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
	"net/http"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// postbackLive streams the changes of a Postback's page: the rows of its log, and the parts around it.
func (c *Console) postbackLive(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	defer c.feed.WatchWaiting(r.Context(), keyOf(r))()
	subscription := c.feed.Subscribe()
	l := &logStream{stream: newStream(w), console: c, key: keyOf(r), request: r}
	defer l.leave()
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
	// view is the content of the page, since the review of the user's rights at reviewed.
	view     *view
	reviewed time.Time
	// stale says that the page needs parts of the generation, or later ones.
	stale      bool
	generation uint64
	// wait is the reason for waiting that the rows on the page show.
	wait waiting.Why
}

func (l *logStream) tell(changes feed.Changes) time.Duration {
	if changes.Status {
		l.replace("problem", "problem", l.console.frame(""))
	}
	l.choose()
	again := l.rows()
	if changes.Objects[l.key] || changes.Status {
		l.stale, l.generation = true, l.console.feed.Generation()
	}
	if !l.stale {
		return again
	}
	parts, later := l.view.around(l.generation, l.parts)
	if parts != nil {
		l.stale = false
		l.show(parts)
	}
	return sooner(again, later)
}

// sooner returns the shorter one of two waits. 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// choose joins the view that fits the user's present rights, which it reviews once in headTime.
func (l *logStream) choose() {
	now := l.console.clock.Now()
	if l.view != nil && now.Sub(l.reviewed) < headTime {
		return
	}
	l.reviewed = now
	key := viewKey{postback: l.key, query: link("", l.request.Form), unread: l.console.unread, hosted: l.console.hosted}
	if p := l.console.feed.Postback(l.key); p != nil {
		key.may = l.console.rights.of(l.request.Context(), p, l.console.feed.Secret(secretKey(p)))
	}
	if l.view != nil && l.view.key == key {
		return
	}
	l.leave()
	l.view = l.console.views.join(key, l.console.feed, l.console.clock)
	l.stale, l.generation = true, l.console.feed.Generation()
}

func (l *logStream) leave() {
	if l.view != nil {
		l.console.views.leave(l.view)
	}
}

// rows sends the rows that changed since the last call. It returns the time after which to call again, or 0.
func (l *logStream) rows() time.Duration {
	u, again := l.view.rows(l.revision, l.changes)
	l.revision = u.to
	l.send(u.events...)
	return again
}

// changes renders the rows that changed since a revision.
func (l *logStream) changes(from uint64) update {
	changed, removed, now, ok := l.console.feed.Since(l.key, from)
	u := update{from: from, to: now}
	// For a change of several pages, reloading is cheaper.
	if !ok || len(changed) > maxRows {
		u.events = []event{newEvent("reload", now, "main")}
		return u
	}
	var patches []patch
	for _, row := range removed {
		patches = append(patches, patch{ID: "d-" + row.Name, Key: row.Name})
	}
	if p := l.console.feed.Postback(l.key); p != nil {
		filter := l.console.filterOf(l.request.Form)
		for i := range changed {
			// The oldest row comes first, because the page puts each new row at the top.
			row := changed[len(changed)-1-i]
			told := patch{ID: "d-" + row.Name, Key: row.Name, Cursor: row.Cursor()}
			if filter.Match(row) {
				told.HTML, _ = render("row", l.console.logRow(p, row, l.request.Form, l.view.key.may))
			}
			patches = append(patches, told)
		}
	}
	if len(patches) > 0 {
		u.events = []event{newEvent("rows", now, patches)}
	}
	return u
}

// parts renders the parts around the log, with the counts of its filters.
func (l *logStream) parts() *parts {
	p := l.console.feed.Postback(l.key)
	if p == nil {
		return &parts{gone: l.console.feed.Status().Loading == ""}
	}
	may := l.view.key.may
	h := l.console.head(p, may, l.request.Form)
	h.Spans = l.console.spans(p, l.request)
	log := l.console.log(p, may, l.request)
	made := &parts{wait: h.Wait}
	for _, e := range []struct {
		id   string
		data any
	}{{"head", h}, {"figures", h}, {"phases", log}, {"paging", log}} {
		made.elements = append(made.elements, newElement(e.id, e.id, e.data)...)
	}
	// The reason for waiting belongs to the Postback, and every waiting row shows it.
	var patches []patch
	for i := range log.Rows {
		if row := &log.Rows[i]; row.Wait.Reason != "" {
			told := patch{ID: row.ID, Key: row.Name, Cursor: row.Cursor()}
			told.HTML, _ = render("row", row)
			patches = append(patches, told)
		}
	}
	if len(patches) > 0 {
		made.waiting = []event{newEvent("rows", 0, patches)}
	}
	return made
}

// show sends the parts that the page does not show yet.
func (l *logStream) show(p *parts) {
	if p.gone {
		l.send(newEvent("reload", 0, "page"))
		return
	}
	l.update(p.elements...)
	if l.wait != p.wait {
		l.wait = p.wait
		l.send(p.waiting...)
	}
}
