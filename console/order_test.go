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
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/console/feed"
)

func TestListSortsAndFilters(t *testing.T) {
	now := time.Now()
	cards := func() []card {
		return []card{
			{Name: "calm", Health: label{Kind: "calm"}, Counts: feed.Counts{Pending: 3}},
			{Name: "down", Health: label{Kind: "bad"}, Counts: feed.Counts{Retrying: 9}, LastSuccess: now.Add(-time.Hour)},
			{Name: "fine", Health: label{Kind: "good"}, LastSuccess: now},
			{Name: "late", Health: label{Kind: "warn"}, LastSuccess: now.Add(-time.Minute)},
			{Name: "lost", Health: label{Kind: "bad"}},
		}
	}
	names := func(p *listPage) []string {
		var all []string
		for _, m := range p.members() {
			all = append(all, m.Name)
		}
		return all
	}
	for name, test := range map[string]struct {
		health, sort string
		want         []string
		live         string
	}{
		"by default":    {"", "", []string{"calm", "down", "fine", "late", "lost"}, "/live"},
		"by health":     {"", "health", []string{"down", "lost", "late", "calm", "fine"}, "/live?sort=health"},
		"by pending":    {"", "pending", []string{"down", "calm", "fine", "late", "lost"}, "/live?sort=pending"},
		"by success":    {"", "success", []string{"fine", "late", "down", "calm", "lost"}, "/live?sort=success"},
		"failing":       {"failing", "", []string{"down", "lost"}, "/live?health=failing"},
		"OK by pending": {"ok", "pending", []string{"calm", "fine"}, "/live?health=ok&sort=pending"},
		"unknown words": {"x", "y", []string{"calm", "down", "fine", "late", "lost"}, "/live"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &listPage{}
			p.choose(cards(), test.health, test.sort)
			if got := names(p); !slices.Equal(got, test.want) || p.LiveHref() != test.live {
				t.Errorf("%q at %s, want %q at %s", got, p.LiveHref(), test.want, test.live)
			}
			var counts []int
			for _, tally := range p.Tallies {
				counts = append(counts, tally.Count)
			}
			if fmt.Sprint(counts) != "[5 2 1 2]" {
				t.Errorf("the counts are %v", counts)
			}
		})
	}
	p := &listPage{}
	p.choose(cards(), "failing", "health")
	p.keepOrder([]types.NamespacedName{{Name: "lost"}, {Name: "down"}})
	if got := names(p); !slices.Equal(got, []string{"lost", "down"}) {
		t.Errorf("an open list moved: %q", got)
	}
	p.keepOrder([]types.NamespacedName{{Name: "other"}, {Name: "down"}})
	if got := names(p); !slices.Equal(got, []string{"lost", "down"}) {
		t.Errorf("another list gave the order: %q", got)
	}
}

// The list is sorted by the titles on its cards.
func TestListSortsByWhatItShows(t *testing.T) {
	p := &listPage{}
	p.choose([]card{{Name: "analytics", Title: "Pipeline"}, {Name: "crm", Title: "acme CRM"}, {Name: "legacy", Title: "Bridge"}}, "", "")
	var titles []string
	for i := range p.Cards {
		titles = append(titles, p.Cards[i].Title)
	}
	if want := []string{"acme CRM", "Bridge", "Pipeline"}; !slices.Equal(titles, want) {
		t.Errorf("got %q, want %q", titles, want)
	}
}
