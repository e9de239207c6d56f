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
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/chart"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/statistics"
)

// sparkSpan is the time span of the small charts of the list.
const sparkSpan = 12 * time.Hour

// listPage is the list of Postbacks.
type listPage struct {
	frame
	Cards []card
	Query string
	// Health and Sort are the chosen filter and order, "" by default. Tallies and Sorts are the choices.
	Health, Sort   string
	Tallies, Sorts []choice
	Loading        bool
	// Create is the reason why the user may not add a Postback, or "".
	Create string
}

// card is one Postback in the list.
type card struct {
	ID, Href               string
	Namespace, Name, Title string
	Host                   string
	State, Health          label
	Triggers               []v1alpha1.Trigger
	More                   int
	Spark                  template.HTML
	Counts                 feed.Counts
	LastSuccess            time.Time
	ShowNamespace          bool
}

// shownTriggers bounds the triggers on a card.
const shownTriggers = 3

func (c *Console) list(w http.ResponseWriter, r *http.Request) {
	name := "list"
	if fragment(r) != "" {
		name = "cards"
	}
	write(w, http.StatusOK, name, c.listPage(r))
}

// listPage returns the list for a request, filtered and sorted.
func (c *Console) listPage(r *http.Request) listPage {
	page := listPage{
		frame: c.frame("Postbacks"), Query: strings.TrimSpace(r.FormValue("q")), Loading: c.feed.Status().Loading != "",
		Create: c.rights.create(r.Context(), c.namespace),
	}
	var cards []card
	for _, p := range c.feed.Postbacks() {
		if shown := c.card(p); found(p, shown.Health, page.Query) {
			cards = append(cards, shown)
		}
	}
	page.choose(cards, r.FormValue("health"), r.FormValue("sort"))
	return page
}

// LiveHref returns the path of the stream that updates the list.
func (p listPage) LiveHref() string { return listLink("/live", p.Query, p.Health, p.Sort) }

// members returns the names of the listed Postbacks.
func (p *listPage) members() []types.NamespacedName {
	var all []types.NamespacedName
	for i := range p.Cards {
		all = append(all, p.Cards[i].key())
	}
	return all
}

// found reports whether a Postback matches the words of a search.
func found(p *v1alpha1.Postback, health label, query string) bool {
	texts := []string{p.Namespace + "/" + p.Name, p.Spec.DisplayName, endpoint.Masked(p.Spec.URL), string(p.Spec.GetState()), health.Text}
	for _, t := range p.Spec.Triggers {
		texts = append(texts, string(t))
	}
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), word) }) {
			return false
		}
	}
	return true
}

func (c *Console) card(p *v1alpha1.Postback) card {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	rows := c.feed.Rows(key)
	counted, known := c.feed.Statistics(key)
	shown := card{
		ID: "p-" + p.Namespace + "-" + p.Name, Href: pathOf(key), Namespace: p.Namespace, Name: p.Name, Title: titleOf(p),
		Host: hostOf(p), State: stateOf(p), Health: healthLabel(healthOf(p, c.recent(rows))), Triggers: p.Spec.Triggers,
		Counts: feed.Count(rows).WithBacklog(p.Status.GetBacklog()), LastSuccess: lastSuccess(rows, counted),
		ShowNamespace: c.namespace == "",
	}
	if known {
		shown.Spark = chart.Spark(statistics.Hourly(counted, c.clock.Now(), sparkSpan))
	}
	if n := len(shown.Triggers) - shownTriggers; n > 0 {
		shown.Triggers, shown.More = shown.Triggers[:shownTriggers], n
	}
	return shown
}

// lastSuccess returns the time at which the endpoint last accepted an event.
func lastSuccess(rows []*feed.Row, counted *v1alpha1.PostbackStatistics) (newest time.Time) {
	if counted != nil && counted.LastSuccessTime != nil {
		newest = counted.LastSuccessTime.Time
	}
	for _, r := range rows {
		for _, s := range r.Recent {
			if s.Succeeded() && s.Time.After(newest) {
				newest = s.Time
			}
		}
	}
	return newest
}

// pathOf returns the path of a Postback's page.
func pathOf(key types.NamespacedName) string { return "/p/" + key.Namespace + "/" + key.Name }
