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
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func (s *suite) createWaiting(t testing.TB) {
	t.Helper()
	stream := jetstream.StreamConfig{Name: names.WaitingStream(), Subjects: names.WaitingSubjects("", ""), AllowDirect: true}
	if _, err := s.js.CreateStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
}

// wait puts the deliveries of n events into the waiting stream, and returns the ids of the events.
func (s *suite) wait(t testing.TB, r *route.Route, n int) (ids []string) {
	t.Helper()
	for range n {
		s.n++
		id := fmt.Sprintf("evt_%06d", s.n)
		d, err := delivery.New(r.Namespace, v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, "", &event.Event{
			ID: id, Type: "lead.created", CreatedAt: time.Now(), Data: []byte(`{}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.js.PublishMsgAsync(names.Waiting(d, time.Now()), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	s.published(t)
	return ids
}

// waitingIDs collects the event ids of all selected deliveries, page by page.
func (s *suite) waitingIDs(t *testing.T, q Query, limit int) (ids []string, pages int) {
	t.Helper()
	for before := uint64(0); ; {
		p, err := s.waiting.List(t.Context(), q, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Deliveries) > limit {
			t.Fatalf("a page of %d has %d", limit, len(p.Deliveries))
		}
		for _, d := range p.Deliveries {
			ids = append(ids, d.Spec.Event.ID)
		}
		pages++
		if before = p.Before; before == 0 {
			return ids, pages
		}
	}
}

func TestWaitingDeliveriesAreListed(t *testing.T) {
	s := newSuite(t)
	if _, err := s.waiting.List(t.Context(), Query{}, 0, 10); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without the stream: %v", err)
	}
	s.createWaiting(t)
	stored := time.Now().Truncate(time.Second) // An object has its times in seconds.
	crm, shop, other := s.postback("acme", "crm"), s.postback("acme", "shop"), s.postback("globex", "crm")
	first := s.wait(t, crm, 7)
	ofShop := s.wait(t, shop, 600)
	second := s.wait(t, crm, 7)
	ofOther := s.wait(t, other, 3)
	deleted := s.postback("acme", "deleted")
	s.wait(t, deleted, 2)
	s.routes.Delete(deleted.UID)
	for name, test := range map[string]struct {
		query Query
		limit int
		want  []string
	}{
		"of a Postback":              {Query{Namespace: "acme", Postback: "crm"}, 3, reversed(first, second)},
		"of a namespace":             {Query{Namespace: "acme"}, 500, reversed(first, ofShop, second)},
		"of another namespace":       {Query{Namespace: "globex"}, 500, reversed(ofOther)},
		"of all namespaces":          {Query{}, 500, reversed(first, ofShop, second, ofOther)},
		"of a Postback that is none": {Query{Namespace: "acme", Postback: "other"}, 10, nil},
		"of a deleted Postback":      {Query{Namespace: "acme", Postback: "deleted"}, 10, nil},
		"of an event":                {Query{Namespace: "acme", EventID: first[0]}, 10, first[:1]},
		"of an event, elsewhere":     {Query{Namespace: "globex", EventID: first[0]}, 10, nil},
		"by the beginning of an id":  {Query{Namespace: "acme", Prefix: "evt_00061"}, 10, reversed(second[2:])},
		"of another type":            {Query{Namespace: "acme", EventType: "sale.created"}, 10, nil},
		"of the future":              {Query{Namespace: "acme", Since: time.Now().Add(time.Hour)}, 10, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := s.waitingIDs(t, test.query, test.limit); !slices.Equal(got, test.want) {
				t.Errorf("%d deliveries %v, want %d: %v", len(got), got, len(test.want), test.want)
			}
		})
	}
	p, err := s.waiting.List(t.Context(), Query{Namespace: "acme", Postback: "crm"}, 0, 1)
	if err != nil || len(p.Deliveries) != 1 || p.Before == 0 {
		t.Fatalf("one of more: %+v, %v", p, err)
	}
	if d := p.Deliveries[0]; d.Status.Phase != v1alpha1.DeliveryPending || d.ResourceVersion == "" || d.UID != "" || d.CreationTimestamp.Time.Before(stored) || d.CreationTimestamp.After(time.Now()) {
		t.Errorf("a waiting delivery: %+v", d)
	}
}

// page returns a Page of deliveries with these sequences.
func page(before uint64, sequences ...uint64) Page {
	p := Page{Before: before}
	for _, sequence := range sequences {
		d := &v1alpha1.PostbackDelivery{}
		d.ResourceVersion = strconv.FormatUint(sequence, 10)
		p.Deliveries = append(p.Deliveries, d)
	}
	return p
}

func TestPagesOfSeveralSubjectsAreMerged(t *testing.T) {
	for name, test := range map[string]struct {
		pages  []Page
		want   []uint64
		before uint64
	}{
		"none":                           {nil, nil, 0},
		"one":                            {[]Page{page(0, 9, 5)}, []uint64{9, 5}, 0},
		"one that goes on":               {[]Page{page(5, 9, 5)}, []uint64{9, 5}, 5},
		"two in turns":                   {[]Page{page(0, 9, 5), page(0, 7)}, []uint64{9, 7, 5}, 0},
		"more than the limit":            {[]Page{page(0, 9, 5), page(0, 7, 3)}, []uint64{9, 7, 5}, 5},
		"the other goes on before both":  {[]Page{page(0, 9, 5), page(6, 8)}, []uint64{9, 8}, 6},
		"nothing found up to a sequence": {[]Page{page(4), page(0, 3)}, nil, 4},
	} {
		t.Run(name, func(t *testing.T) {
			newest, before := merge(test.pages, 3)
			var got []uint64
			for _, d := range newest {
				got = append(got, sequenceOf(d))
			}
			if !slices.Equal(got, test.want) || before != test.before {
				t.Errorf("%v before %d, want %v before %d", got, before, test.want, test.before)
			}
		})
	}
}

// A search among many deliveries is bounded: it takes several requests, each of which says where to continue.
func TestSearchesAmongManyAreBounded(t *testing.T) {
	s := newSuite(t)
	s.createWaiting(t)
	crm := s.postback("acme", "crm")
	oldest := s.wait(t, crm, 1)
	s.wait(t, crm, 12_000)
	if got, pages := s.waitingIDs(t, Query{Namespace: "acme", EventType: "sale.created"}, 10); len(got) != 0 || pages < 2 {
		t.Errorf("%v in %d pages", got, pages)
	}
	start := time.Now()
	got, pages := s.waitingIDs(t, Query{Namespace: "acme", EventID: oldest[0]}, 10)
	if !slices.Equal(got, oldest) {
		t.Errorf("%v in %d pages", got, pages)
	}
	t.Logf("the oldest of 12,001 in %d pages, %s", pages, time.Since(start))
}
