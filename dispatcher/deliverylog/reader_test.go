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

package deliverylog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// all collects the names of all selected deliveries, page by page.
func (s *suite) all(t *testing.T, q Query, limit int) (names []string, pages int) {
	t.Helper()
	before := uint64(0)
	for {
		p, err := s.reader.List(t.Context(), q, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		if len(p.Deliveries) > limit {
			t.Fatalf("a page of %d has %d", limit, len(p.Deliveries))
		}
		for _, d := range p.Deliveries {
			names = append(names, d.Name)
		}
		if before = p.Before; before == 0 {
			return names, pages
		}
	}
}

func reversed(names ...[]string) []string {
	all := slices.Concat(names...)
	slices.Reverse(all)
	return all
}

// A Postback with a few old deliveries, before and among those of a busy Postback, takes only a few requests to list.
func TestListFindsTheFewAmongTheMany(t *testing.T) {
	s := newSuite(t)
	busy, quiet, other := s.postback("acme", "busy"), s.postback("acme", "quiet"), s.postback("globex", "busy")
	var of [3][]string
	for range 3 {
		of[1] = append(of[1], s.log(t, quiet, "lead.created", 7)...)
		of[0] = append(of[0], s.log(t, busy, "sale.created", 6000)...)
		of[2] = append(of[2], s.log(t, other, "sale.created", 3)...)
	}
	if p, err := s.reader.List(t.Context(), Query{Namespace: "globex"}, 0, 100); err != nil || len(p.Deliveries) != 9 || p.Before != 0 {
		t.Errorf("one page of the other namespace holds %d and says %d, %v", len(p.Deliveries), p.Before, err)
	}
	s.postback("acme", "new")
	if p, err := s.reader.List(t.Context(), Query{Namespace: "acme", Postback: "new"}, 0, 100); err != nil || len(p.Deliveries) != 0 || p.Before != 0 {
		t.Errorf("without any a page holds %d and says %d, %v", len(p.Deliveries), p.Before, err)
	}
	start := time.Now()
	got, pages := s.all(t, Query{Namespace: "acme", Postback: "quiet"}, 5)
	if !slices.Equal(got, reversed(of[1])) {
		t.Errorf("the quiet one has %v, want %v", got, reversed(of[1]))
	}
	t.Logf("%d pages in %s", pages, time.Since(start))
	if got, _ := s.all(t, Query{Namespace: "globex"}, 100); !slices.Equal(got, reversed(of[2])) {
		t.Errorf("the other namespace has %v, want %v", got, reversed(of[2]))
	}
	if got, _ := s.all(t, Query{Namespace: "acme", Postback: "busy"}, MaxLimit); !slices.Equal(got, reversed(of[0])) {
		t.Errorf("the busy one has %d, want %d in their order", len(got), len(of[0]))
	}
	if got, _ := s.all(t, Query{}, MaxLimit); len(got) != 3*6010 {
		t.Errorf("all namespaces have %d", len(got))
	}
	p, err := s.reader.List(t.Context(), Query{Namespace: "acme", EventType: "lead.created"}, 0, 3)
	if err != nil || len(p.Deliveries) != 0 || p.Before == 0 {
		t.Errorf("beyond its bounds a page holds %d and says %d, %v", len(p.Deliveries), p.Before, err)
	}
	if got, pages := s.all(t, Query{Namespace: "acme", EventType: "lead.created"}, 3); !slices.Equal(got, reversed(of[1])) || pages < 7 {
		t.Errorf("by the event's type: %v on %d pages", got, pages)
	}
	if got, _ := s.all(t, Query{Namespace: "acme", Prefix: "evt_000003"}, 3); !slices.Equal(got, of[1][2:3]) {
		t.Errorf("by the beginning of an id: %v", got)
	}
}

func TestGetAndEvent(t *testing.T) {
	s := newSuite(t)
	crm := s.postback("acme", "crm")
	s.postback("acme", "crm-2")
	names := s.log(t, crm, "lead.created", 2)
	d, err := s.reader.Get(t.Context(), "acme", names[0])
	if err != nil || d == nil || d.Name != names[0] || d.Status.Phase != v1alpha1.DeliveryDelivered || d.ResourceVersion != "1" {
		t.Fatalf("got %+v, %v", d, err)
	}
	for _, name := range []string{"crm", "crm-", "other-" + names[0], names[0] + "x", "crm-*", "crm->"} {
		t.Run(name, func(t *testing.T) {
			if d, err := s.reader.Get(t.Context(), "acme", name); err != nil || d != nil {
				t.Errorf("%s is %v, %v", name, d, err)
			}
		})
	}
	p, err := s.reader.List(t.Context(), Query{Namespace: "acme", EventID: d.Spec.Event.ID}, 0, 10)
	if err != nil || len(p.Deliveries) != 1 || p.Deliveries[0].Name != names[0] || p.Before != 0 {
		t.Errorf("by its event: %+v, %v", p, err)
	}
	if p, err := s.reader.List(t.Context(), Query{Namespace: "acme", EventID: "evt_none"}, 0, 10); err != nil || len(p.Deliveries) != 0 {
		t.Errorf("by another event: %+v, %v", p, err)
	}
}

// A new Postback or namespace does not expose the delivery log of its predecessor of the same name.
func TestADeletedPostbackTakesItsLogWithIt(t *testing.T) {
	s := newSuite(t)
	crm := s.postback("acme", "crm")
	names := s.log(t, crm, "lead.created", 3)
	s.routes.Delete(crm.UID)
	again := *crm
	again.UID = "another"
	s.routes.Set(&again)
	for name, q := range map[string]Query{
		"all": {}, "its namespace": {Namespace: "acme"}, "its name": {Namespace: "acme", Postback: "crm"}, "its event": {Namespace: "acme", EventID: "evt_000001"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := s.all(t, q, 10); len(got) > 0 {
				t.Errorf("%+v shows %v", q, got)
			}
		})
	}
	if d, err := s.reader.Get(t.Context(), "acme", names[0]); d != nil || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
}

func TestFollow(t *testing.T) {
	s := newSuite(t)
	crm, other := s.postback("acme", "crm"), s.postback("globex", "crm")
	s.log(t, crm, "lead.created", 5)
	p, err := s.reader.List(t.Context(), Query{Namespace: "acme"}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := s.log(t, crm, "lead.created", 2)
	s.log(t, crm, "sale.created", 1)
	s.log(t, other, "lead.created", 1)
	want = append(want, s.log(t, crm, "lead.created", 1)...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	enough := errors.New("enough")
	err = s.reader.Follow(ctx, Query{Namespace: "acme", EventType: "lead.created"}, p.Newest, func(_ uint64, d *v1alpha1.PostbackDelivery) error {
		if d != nil {
			got = append(got, d.Name)
		}
		if len(got) == len(want) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

// A follower of a lost log gets every entry of its replacement in order, even when it follows from a sequence of the
// lost log.
func TestFollowALogMadeAnew(t *testing.T) {
	s := newSuite(t)
	crm := s.postback("acme", "crm")
	before := s.log(t, crm, "lead.created", 5)
	names := make(chan string)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	follow := func(ctx context.Context, after uint64) <-chan error {
		ended := make(chan error, 1)
		go func() {
			ended <- s.reader.Follow(ctx, Query{Namespace: "acme"}, after, func(_ uint64, d *v1alpha1.PostbackDelivery) error {
				select {
				case names <- d.Name:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
		return ended
	}
	expect := func(want []string) {
		t.Helper()
		for _, name := range want {
			select {
			case got := <-names:
				if got != name {
					t.Fatalf("told of %s, not of %s", got, name)
				}
			case <-ctx.Done():
				t.Fatalf("not told of %s", name)
			}
		}
	}
	following, end := context.WithCancel(ctx)
	ended := follow(following, 0)
	expect(before)
	if err := s.js.DeleteStream(ctx, s.reader.Names.LogStream()); err != nil {
		t.Fatal(err)
	}
	s.createLog(t)
	after := s.log(t, crm, "lead.created", 3)
	expect(after)
	end()
	<-ended
	follow(ctx, uint64(len(before)))
	expect(after)
}
