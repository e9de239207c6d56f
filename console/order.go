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
	"cmp"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// healthGroups are the choices of the health filter.
var healthGroups = []choice{{Text: "All"}, {Value: "failing", Text: "Failing"}, {Value: "attention", Text: "Attention"}, {Value: "ok", Text: "OK"}}

// healthGroup returns the group of a health.
func healthGroup(health label) string {
	switch health.Kind {
	case "bad":
		return "failing"
	case "warn":
		return "attention"
	default:
		return "ok"
	}
}

// sorts are the orders of the list. Equal cards are ordered by name.
var sorts = []struct {
	value, text string
	compare     func(a, b card) int
}{
	{"", "Sort by name", byTitle},
	{"health", "Worst health first", func(a, b card) int { return cmp.Compare(severity(b.Health), severity(a.Health)) }},
	{"pending", "Most pending first", func(a, b card) int { return cmp.Compare(b.Counts.Unfinished(), a.Counts.Unfinished()) }},
	{"success", "Latest success first", func(a, b card) int { return b.LastSuccess.Compare(a.LastSuccess) }},
}

// byTitle compares titles, which may be display names.
func byTitle(a, b card) int { return cmp.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title)) }

func severity(health label) int {
	return slices.Index([]string{"good", "calm", "warn", "bad"}, health.Kind)
}

// choose counts the cards by health group, and keeps those of the chosen group in the chosen order.
func (p *listPage) choose(cards []card, health, sort string) {
	counts := map[string]int{"": len(cards)}
	for i := range cards {
		counts[healthGroup(cards[i].Health)]++
	}
	slices.SortStableFunc(cards, byTitle)
	for _, s := range sorts {
		p.Sorts = append(p.Sorts, choice{Value: s.value, Text: s.text, Chosen: s.value == sort})
		if s.value == sort {
			p.Sort = sort
			slices.SortStableFunc(cards, s.compare)
		}
	}
	for _, g := range healthGroups {
		if g.Value == health {
			p.Health = health
		}
	}
	for _, g := range healthGroups {
		g.Count, g.Chosen, g.Href = counts[g.Value], g.Value == p.Health, listLink("/", p.Query, g.Value, p.Sort)
		p.Tallies = append(p.Tallies, g)
	}
	for i := range cards {
		if p.Health == "" || healthGroup(cards[i].Health) == p.Health {
			p.Cards = append(p.Cards, cards[i])
		}
	}
}

// keepOrder restores the order that the page shows, if it has the same cards. An open list does not move.
func (p *listPage) keepOrder(seen []types.NamespacedName) {
	places := map[types.NamespacedName]int{}
	for i, name := range seen {
		places[name] = i
	}
	for _, name := range p.members() {
		if _, known := places[name]; !known || len(seen) != len(p.Cards) {
			return
		}
	}
	slices.SortFunc(p.Cards, func(a, b card) int { return cmp.Compare(places[a.key()], places[b.key()]) })
}

func (c *card) key() types.NamespacedName {
	return types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
}

// listLink returns the path of a list with its query.
func listLink(path, query, health, sort string) string {
	values := url.Values{}
	for name, value := range map[string]string{"q": query, "health": health, "sort": sort} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}
