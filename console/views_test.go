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
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/console/feed"
)

var crm = types.NamespacedName{Namespace: "acme", Name: "crm"}

// TestPagesWithTheSameContentShareAView, and pages of users with other rights, or with another filter, do not.
func TestPagesWithTheSameContentShareAView(t *testing.T) {
	all, f, clock := newViews(), feed.New(nil, "acme", nil), testingclock.NewFakePassiveClock(time.Unix(0, 0))
	first := all.join(viewKey{postback: crm}, f, clock)
	if all.join(viewKey{postback: crm}, f, clock) != first {
		t.Error("equal pages have different views")
	}
	for name, key := range map[string]viewKey{
		"other rights":          {postback: crm, may: actions{Redeliver: "You may not redeliver"}},
		"another filter":        {postback: crm, query: "?phase=Failed"},
		"another Postback":      {postback: types.NamespacedName{Namespace: "acme", Name: "erp"}},
		"another delivery log":  {postback: crm, unread: "it is away"},
		"a console of the user": {postback: crm, hosted: true},
	} {
		t.Run(name, func(t *testing.T) {
			view := all.join(key, f, clock)
			defer all.leave(view)
			if view == first {
				t.Error("it shares the view")
			}
		})
	}
	all.leave(first)
	if len(all.open) != 1 {
		t.Errorf("%d views are open, want that of the page that stayed", len(all.open))
	}
	all.leave(first)
	if len(all.open) != 0 {
		t.Errorf("%d views are open without a page", len(all.open))
	}
}

// TestAnUpdateIsRenderedOnce: pages at the same revision get the same update, and a page that is behind gets its own.
func TestAnUpdateIsRenderedOnce(t *testing.T) {
	f, clock := feed.New(nil, "acme", nil), testingclock.NewFakePassiveClock(time.Unix(1000, 0))
	v := newViews().join(viewKey{postback: crm}, f, clock)
	rendered := 0
	render := func(from uint64) update {
		rendered++
		return update{from: from, to: f.Revision(), events: []event{{"rows", f.Revision(), []byte("[]")}}}
	}
	ask := func(from uint64) (update, time.Duration) { return v.rows(from, render) }
	f.StartAt(10)
	for range 3 {
		if u, again := ask(4); u.to != 10 || len(u.events) != 1 || again != 0 {
			t.Errorf("the page goes to %d, and again after %s", u.to, again)
		}
	}
	if rendered != 1 {
		t.Errorf("%d pages at one revision: rendered %d times", 3, rendered)
	}
	if u, _ := ask(10); len(u.events) != 0 || u.to != 10 {
		t.Errorf("a current page gets %v", u)
	}
	f.StartAt(12)
	if u, again := ask(10); len(u.events) != 0 || again != gatherTime {
		t.Errorf("before the next step a page gets %v, and asks again after %s", u, again)
	}
	if u, again := ask(11); u.to != 11 || again != gatherTime {
		t.Errorf("a page that is ahead of the others goes to %d, and asks again after %s", u.to, again)
	}
	clock.SetTime(clock.Now().Add(gatherTime))
	if u, again := ask(10); u.from != 10 || u.to != 12 || again != 0 {
		t.Errorf("after the step a page gets %v, and asks again after %s", u, again)
	}
	if u, _ := ask(4); u.from != 4 || u.to != 12 {
		t.Errorf("a page that is behind gets %v", u)
	}
	if rendered != 3 {
		t.Errorf("rendered %d times, want 3", rendered)
	}
}

func TestRememberedUpdatesAreBounded(t *testing.T) {
	v := &view{}
	for i := range uint64(10) {
		v.remember(update{from: i, to: i + 1, events: []event{{content: []byte(strings.Repeat("x", maxRemembered/4))}}})
	}
	size := 0
	for _, u := range v.updates {
		size += u.size()
	}
	if newest := v.updates[len(v.updates)-1]; size > maxRemembered || newest.to != 10 {
		t.Errorf("%d bytes are remembered, up to revision %d", size, newest.to)
	}
	v.remember(update{from: 10, to: 11, events: []event{{content: []byte(strings.Repeat("x", maxRemembered+1))}}})
	if len(v.updates) != 0 {
		t.Error("an update larger than the bound is remembered")
	}
}

// TestPartsAreDrawnOnceASecond, for all pages together.
func TestPartsAreDrawnOnceASecond(t *testing.T) {
	f, clock := feed.New(nil, "acme", nil), testingclock.NewFakePassiveClock(time.Unix(1000, 0))
	v := newViews().join(viewKey{postback: crm}, f, clock)
	drawn := 0
	draw := func() *parts { drawn++; return &parts{} }
	first, _ := v.around(0, draw)
	if second, wait := v.around(0, draw); second != first || wait != 0 || drawn != 1 {
		t.Errorf("drawn %d times for two pages", drawn)
	}
	// The feed has changed since.
	if p, wait := v.around(1, draw); p != nil || wait != headTime {
		t.Errorf("a page gets %v, and asks again after %s", p, wait)
	}
	clock.SetTime(clock.Now().Add(headTime))
	if p, wait := v.around(1, draw); p == nil || wait != 0 || drawn != 2 {
		t.Errorf("after a second a page gets %v, and asks again after %s", p, wait)
	}
}

func TestTheSoonerWaitCounts(t *testing.T) {
	for name, test := range map[string]struct{ a, b, want time.Duration }{
		"none": {}, "the first": {a: 1, want: 1}, "the second": {b: 2, want: 2}, "the shorter": {a: 3, b: 2, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sooner(test.a, test.b); got != test.want {
				t.Errorf("it is %s, want %s", got, test.want)
			}
		})
	}
}
