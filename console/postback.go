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
	"net/url"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/chart"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/action"
	"github.com/postback-dev/postback-operator/internal/statistics"
	"github.com/postback-dev/postback-operator/internal/waiting"
)

// pageSize is the number of rows on a page of the log.
const pageSize = 50

// postbackPage is one Postback with its log and, if an event is chosen, the sheet of that event.
type postbackPage struct {
	frame
	Head  head
	Log   logPage
	Sheet *sheet
}

// head is the part above the log.
type head struct {
	P             *v1alpha1.Postback
	Path          string
	Title         string
	State, Health label
	// Wait is the reason why all deliveries wait, if they do. Note describes it and the health.
	Wait waiting.Why
	Note string
	// Backlog is the wait of the deliveries in the waiting stream, if there are some.
	Backlog wait
	// OldKeyEnds is the time at which the previous key stops signing, or zero.
	OldKeyEnds time.Time
	Counts     feed.Counts
	Traffic    traffic
	Span       time.Duration
	Spans      []choice
	Outcomes   chart.Chart
	Latency    chart.Chart
	Redelivery *v1alpha1.Redelivery
	May        actions
	// Tool is the tool that manages the object, such as Argo CD, and ToolName its name for the object.
	Tool, ToolName string
}

// traffic are the counts that the figures and charts show.
type traffic struct {
	// Unknown is the reason why there are no counts, or "".
	Unknown string
	// Rate is Succeeded in percent of Attempts. Delivered is the part of the finished Deliveries that succeeded.
	Attempts, Succeeded, Rate, Deliveries, Delivered int
	// Counted is the time of the last update of the counts, or zero.
	Counted time.Time
	// Median and NinetyFifth are estimates of the duration of an attempt.
	Median, NinetyFifth time.Duration
}

// choice is one value of a filter.
type choice struct {
	Value, Text string
	Count       int
	Href        string
	Chosen      bool
}

// logPage is a page of the log.
type logPage struct {
	Path     string
	Query    url.Values
	Phases   []choice
	Events   []choice
	Times    []choice
	Text     string
	Filtered bool
	Rows     []logRow
	Page     feed.Page
	// Newer and Older are the links to the neighbouring pages, or "". Newest is the link to the first page.
	Newer, Older, Newest string
	MayRedeliver         string
	// Unlisted is the number of deliveries in the waiting stream that have no row, because the rows are bounded.
	Unlisted int
	// NoLonger is the note at the end of the log about the time before which deliveries were pruned.
	NoLonger string
	// Empty says that the Postback has no deliveries.
	Empty bool
}

// From returns the number of the first row, from 1.
func (p logPage) From() int { return p.Page.First + 1 }

// To returns the number of the last row.
func (p logPage) To() int { return p.Page.First + len(p.Page.Rows) }

// logRow is one row of the log.
type logRow struct {
	*feed.Row
	ID, Href string
	Phase    label
	Last     feed.Sample
	Wait     wait
	// MayRedeliver is "" if the user can select the row, or the reason why not.
	MayRedeliver string
}

// menuItem is an action in the menu of a Postback. Why is the reason why the user may not do it, or "".
type menuItem struct {
	Text, Href, Why string
	Danger          bool
}

// InStream returns the number of deliveries in the waiting stream, by the status of the Postback.
func (h head) InStream() int { return int(h.P.Status.GetBacklog()) }

// Menu returns the actions without a button.
func (h head) Menu() []menuItem {
	var items []menuItem
	for _, s := range []struct {
		state v1alpha1.PostbackState
		text  string
	}{{v1alpha1.PostbackEnabled, "Enable"}, {v1alpha1.PostbackPaused, "Pause"}, {v1alpha1.PostbackDisabled, "Disable"}} {
		if h.P.Spec.GetState() != s.state {
			items = append(items, menuItem{Text: s.text, Href: h.Path + "/do/state?state=" + string(s.state), Why: h.May.Edit})
		}
	}
	if h.InStream() > 0 {
		items = append(items, menuItem{Text: "Drop waiting events", Href: h.Path + "/do/drop", Why: h.May.Drop, Danger: true})
	}
	return append(items,
		menuItem{Text: "Redeliver many", Href: h.Path + "/do/again", Why: h.May.Edit},
		menuItem{Text: "Rotate signing key", Href: h.Path + "/do/rotate", Why: h.May.Rotate},
		menuItem{Text: "Show signing secret", Href: h.Path + "/do/secret", Why: h.May.Secret},
		menuItem{Text: "Show YAML", Href: h.Path + "/do/yaml"},
		menuItem{Text: "Delete", Href: h.Path + "/do/delete", Why: h.May.Delete, Danger: true})
}

var spans = []time.Duration{24 * time.Hour, v1alpha1.StatisticsSpan}

func (c *Console) postback(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	key := keyOf(r)
	p := c.feed.Postback(key)
	if p == nil {
		c.noPostback(w, key)
		return
	}
	defer c.feed.WatchWaiting(r.Context(), key)()
	may := c.rights.of(r.Context(), p, c.feed.Secret(secretKey(p)))
	if fragment(r) == "sheet" {
		c.sheetFragment(w, r, p, may)
		return
	}
	page := postbackPage{frame: c.frame(titleOf(p)), Head: c.head(p, may, r.Form), Log: c.log(p, may, r)}
	page.Head.Spans = c.spans(p, r)
	if r.PathValue("delivery") != "" {
		page.Sheet = c.sheet(r, p, may)
	}
	switch fragment(r) {
	case "main":
		write(w, http.StatusOK, "postback-main", page)
	case "log":
		write(w, http.StatusOK, "log", page.Log)
	default:
		write(w, http.StatusOK, "postback", page)
	}
}

// noPostback answers a request for a Postback that does not exist, or has not been read yet.
func (c *Console) noPostback(w http.ResponseWriter, key types.NamespacedName) {
	status := c.feed.Status()
	switch {
	case status.Loading != "" && c.problem() == nil:
		w.Header().Set("Refresh", "1")
		refuse(w, http.StatusServiceUnavailable, "Loading.")
	case status.Loading != "":
		refuse(w, http.StatusServiceUnavailable, c.problem().Text+" "+c.problem().Hint)
	default:
		refuse(w, http.StatusNotFound, "There is no Postback "+key.Name+" in the namespace "+key.Namespace+".")
	}
}

// secretKey returns the namespace and name of the PostbackSecret that signs for a Postback.
func secretKey(p *v1alpha1.Postback) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.GetPostbackSecretName()}
}

func (c *Console) head(p *v1alpha1.Postback, may actions, query url.Values) head {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	rows, now, span := c.feed.Rows(key), c.clock.Now(), spanOf(query.Get("span"))
	health, why := healthOf(p, c.recent(rows)), c.whyPostback(p)
	h := head{
		P: p, Path: pathOf(key), Title: titleOf(p), State: stateOf(p), Health: healthLabel(health), Wait: why, Note: health.Note(why), Counts: feed.Count(rows).WithBacklog(p.Status.GetBacklog()), Span: span,
		Redelivery: p.Status.Redelivery, May: may, Backlog: c.whyBacklog(p),
	}
	h.OldKeyEnds = oldKeyEnds(c.feed.Secret(secretKey(p)), now)
	h.Tool, h.ToolName = action.ManagedBy(p)
	counted, known := c.feed.Statistics(key)
	hours := statistics.Hourly(counted, now, span)
	h.Outcomes, h.Latency = chart.Outcomes(hours), chart.Latency(hours)
	h.Traffic = trafficOf(statistics.Sum(hours), known, c.feed.Status().Uncounted)
	if counted != nil {
		h.Traffic.Counted = counted.LastUpdateTime.Time
	}
	return h
}

// trafficOf returns counts in the form that the page shows.
func trafficOf(counts statistics.Counts, known bool, err error) traffic {
	t := traffic{
		Attempts: int(counts.Attempts), Succeeded: int(counts.Succeeded), Rate: counts.Rate(),
		Deliveries: int(counts.Deliveries()), Delivered: int(counts.Delivered),
		Median: counts.Percentile(0.5), NinetyFifth: counts.Percentile(0.95),
	}
	switch {
	case known:
	case err != nil:
		t.Unknown = "The statistics cannot be read: " + err.Error()
	default:
		t.Unknown = "Loading"
	}
	return t
}

// spanOf returns the time span of the charts, 24 hours by default.
func spanOf(value string) time.Duration {
	if d, err := time.ParseDuration(value); err == nil && slices.Contains(spans, d) {
		return d
	}
	return spans[0]
}

// spans returns the time spans to choose from for the charts.
func (c *Console) spans(p *v1alpha1.Postback, r *http.Request) []choice {
	names := []string{"24 h", "7 d"}
	var choices []choice
	for i, span := range spans {
		choices = append(choices, choice{
			Text: names[i], Chosen: span == spanOf(r.FormValue("span")),
			Href: link(pathOf(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}), r.Form, "span", span.String()),
		})
	}
	return choices
}

// link returns a path with the query and some values replaced. An empty value is removed.
func link(path string, query url.Values, replaced ...string) string {
	q := url.Values{}
	for _, name := range []string{"phase", "event", "time", "text", "span", "after", "before"} {
		if v := query.Get(name); v != "" {
			q.Set(name, v)
		}
	}
	for i := 0; i+1 < len(replaced); i += 2 {
		if q.Del(replaced[i]); replaced[i+1] != "" {
			q.Set(replaced[i], replaced[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}
