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
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/history"
)

// waitingChoice is the filter of unfinished deliveries, in place of a phase.
const waitingChoice = "Waiting"

var (
	phases = []v1alpha1.DeliveryPhase{
		"", v1alpha1.DeliveryDelivered, v1alpha1.DeliveryRetrying, v1alpha1.DeliveryPending, v1alpha1.DeliveryFailed,
	}
	// times are the time spans by which the log can be filtered.
	times = []struct{ value, text string }{
		{"", "Any time"}, {"15m", "Last 15 minutes"}, {"1h", "Last hour"}, {"24h", "Last 24 hours"}, {"168h", "Last 7 days"},
	}
)

// filterOf returns the filter in the query of a page.
func (c *Console) filterOf(query url.Values) feed.Filter {
	f := feed.Filter{Event: query.Get("event"), Text: strings.TrimSpace(query.Get("text"))}
	if phase := v1alpha1.DeliveryPhase(query.Get("phase")); slices.Contains(phases, phase) {
		f.Phase = phase
	}
	f.Unfinished = query.Get("phase") == waitingChoice
	if span, err := time.ParseDuration(query.Get("time")); err == nil && span > 0 {
		f.Since = c.clock.Now().Add(-span)
	}
	return f
}

// log returns the page of a Postback's log for a request.
func (c *Console) log(p *v1alpha1.Postback, may actions, r *http.Request) logPage {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	filter := c.filterOf(r.Form)
	path := pathOf(key)
	all := c.feed.Rows(key)
	log := logPage{
		Path: path, Query: r.Form, Text: filter.Text, Filtered: filter != feed.Filter{}, Empty: len(all) == 0,
		Page: c.feed.Page(key, filter, r.FormValue("after"), r.FormValue("before"), pageSize), MayRedeliver: may.Redeliver,
		Newest: link(path, r.Form, "after", "", "before", ""),
	}
	for _, row := range log.Page.Rows {
		log.Rows = append(log.Rows, c.logRow(p, row, r.Form, may))
	}
	if rows := log.Page.Rows; len(rows) > 0 {
		if log.Page.Newer() {
			log.Newer = link(path, r.Form, "after", "", "before", rows[0].Cursor())
		}
		if log.Page.Older() {
			log.Older = link(path, r.Form, "before", "", "after", rows[len(rows)-1].Cursor())
		}
	}
	if log.Older == "" && c.unread == "" && c.feed.Status().AllObjects {
		log.NoLonger = noLonger(p, all, c.clock.Now())
	}
	if counts := feed.Count(all); counts.Waiting >= feed.MaxWaiting {
		log.Unlisted = max(int(p.Status.GetBacklog())-counts.Waiting, 0)
	}
	log.choices(all, filter, r.Form)
	return log
}

// noLonger returns a note about the time before which deliveries of a Postback were pruned, or "". It is only for
// logs without a delivery log, which has its own retention.
func noLonger(p *v1alpha1.Postback, all []*feed.Row, now time.Time) string {
	kept := &history.Kept{}
	for _, row := range all {
		finished := row.Created
		if last := row.Last(); !last.Time.IsZero() {
			finished = last.Time.Add(last.Duration)
		}
		kept.AddFinished(row.Phase, finished)
	}
	_, why := kept.Since(p, now)
	return why
}

// choices fills in the filters. The count of a phase applies the other filters.
func (p *logPage) choices(all []*feed.Row, filter feed.Filter, query url.Values) {
	var rest []*feed.Row
	events := map[string]bool{}
	other := filter
	other.Phase, other.Unfinished = "", false
	for _, row := range all {
		events[row.Event] = true
		if other.Match(row) {
			rest = append(rest, row)
		}
	}
	counts := feed.Count(rest)
	for _, phase := range phases {
		text := string(phase)
		if phase == "" {
			text = "All"
		}
		p.Phases = append(p.Phases, choice{
			Value: string(phase), Text: text, Count: counts.Of(phase), Chosen: phase == filter.Phase && !filter.Unfinished,
			Href: link(p.Path, query, "phase", string(phase), "after", "", "before", ""),
		})
	}
	p.Phases = append(p.Phases, choice{
		Value: waitingChoice, Text: waitingChoice, Count: counts.Unfinished(), Chosen: filter.Unfinished,
		Href: link(p.Path, query, "phase", waitingChoice, "after", "", "before", ""),
	})
	p.Events = []choice{{Text: "All events", Chosen: filter.Event == ""}}
	if filter.Event != "" {
		events[filter.Event] = true
	}
	for _, event := range slices.Sorted(maps.Keys(events)) {
		p.Events = append(p.Events, choice{Value: event, Text: event, Chosen: event == filter.Event})
	}
	for _, t := range times {
		p.Times = append(p.Times, choice{Value: t.value, Text: t.text, Chosen: t.value == query.Get("time")})
	}
}

// logRow returns a row of the log. Its link keeps the filters, which the sheet's links to its neighbours need.
func (c *Console) logRow(p *v1alpha1.Postback, row *feed.Row, query url.Values, may actions) logRow {
	path := pathOf(row.PostbackKey())
	return logRow{
		Row: row, ID: "d-" + row.Name, Href: link(path+"/d/"+row.Name, query), Phase: phaseOf(row.Phase), Last: row.Last(),
		Wait: c.whyRow(p, row), MayRedeliver: may.Redeliver,
	}
}

// Outcome describes the outcome of the newest attempt.
func (r logRow) Outcome() string { return healthWords[string(r.Last.Outcome)] }

// LiveHref returns the path of the stream that updates the page.
func (p logPage) LiveHref() string {
	return link(p.Path+"/live", p.Query)
}

// Here returns the path of the page without a sheet.
func (p logPage) Here() string { return link(p.Path, p.Query) }

// Kept returns the query values that the filter form submits as hidden fields.
func (p logPage) Kept() []choice {
	var kept []choice
	for _, name := range []string{"phase", "span"} {
		if v := p.Query.Get(name); v != "" {
			kept = append(kept, choice{Value: name, Text: v})
		}
	}
	return kept
}
