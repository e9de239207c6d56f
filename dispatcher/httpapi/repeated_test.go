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

package httpapi

import (
	"net/http"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/doors"
)

func TestSendingAgain(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(limitedClient(t, c), crm)
	server := testServer(t, options)
	first := []string{
		`{"id":"timed","event":"lead.created","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`,
		`{"id":"untimed","event":"lead.created","data":{"a":1}}`,
	}
	for _, body := range first {
		if got := post(t, server.URL, namespace, body); got.Events[0].Deliveries[0].Result != intake.Stored {
			t.Fatalf("got %d: %s", got.code, got.raw)
		}
	}
	later := options
	later.Clock = nil // The real time differs from that of the first server.
	server = testServer(t, later)
	tests := map[string]struct {
		body string
		want intake.Result
	}{
		"timed, same":          {first[0], intake.Duplicate},
		"timed, other zone":    {`{"id":"timed","event":"lead.created","createdAt":"2026-01-01T01:00:00+01:00","data":{"a":1}}`, intake.Duplicate},
		"timed, without":       {`{"id":"timed","event":"lead.created","data":{"a":1}}`, intake.Duplicate},
		"timed, other time":    {`{"id":"timed","event":"lead.created","createdAt":"2026-01-01T00:00:01Z","data":{"a":1}}`, intake.Conflict},
		"untimed, same":        {first[1], intake.Duplicate},
		"untimed, with a time": {`{"id":"untimed","event":"lead.created","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`, intake.Conflict},
		"other type":           {`{"id":"timed","event":"sale.created","createdAt":"2026-01-01T00:00:00Z","data":{"a":1}}`, intake.Conflict},
		"other data":           {`{"id":"timed","event":"lead.created","createdAt":"2026-01-01T00:00:00Z","data":{"a":2}}`, intake.Conflict},
		"other white space":    {`{"id":"timed","event":"lead.created","createdAt":"2026-01-01T00:00:00Z","data":{"a": 1}}`, intake.Conflict},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := post(t, server.URL, namespace, tt.body)
			code, kind := http.StatusAccepted, ""
			if tt.want == intake.Conflict {
				code, kind = http.StatusConflict, "urn:postback:problem:id-conflict"
			}
			expect(t, got, code, []accept.DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, got.Events[0].ID), Result: tt.want}})
			if got.Type != kind {
				t.Errorf("got problem %q, want %q", got.Type, kind)
			}
		})
	}
	if n := len(offered.Sorted()); n != 2 {
		t.Errorf("%d offers, want 2: what is sent again must not be attempted again", n)
	}
}

func TestBatchWithAConflict(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm, late := doors.PostbackRoute(t, c, namespace, "crm", "*"), doors.PostbackRoute(t, c, namespace, "late", "sale.created")
	options, _ := testOptions(c, crm, late)
	server := testServer(t, options)
	post(t, server.URL, namespace, `{"id":"evt_changed","event":"lead.created","data":{}}`)
	got := post(t, server.URL, namespace, `[{"id":"evt_twice","event":"lead.created","data":{}},{"id":"evt_changed","event":"sale.created","data":{}},{"id":"evt_twice","event":"lead.created","data":{}}]`)
	twice := []intake.Result{got.Events[0].Deliveries[0].Result, got.Events[2].Deliveries[0].Result}
	slices.Sort(twice)
	if got.code != http.StatusConflict || !slices.Equal(twice, []intake.Result{intake.Duplicate, intake.Stored}) {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	want := []accept.DeliveryResult{
		{Postback: "crm", Delivery: nameOf(crm, "evt_changed"), Result: intake.Conflict},
		{Postback: "late", Delivery: nameOf(late, "evt_changed"), Result: intake.Stored},
	}
	if !reflect.DeepEqual(got.Events[1].Deliveries, want) {
		t.Errorf("got %+v, want %+v", got.Events[1].Deliveries, want)
	}
	for _, d := range doors.Deliveries(t, c, namespace) {
		if d.Name == nameOf(crm, "evt_changed") && d.Spec.Event.Type != "lead.created" {
			t.Errorf("the first event was replaced: %s", d.Spec.Body)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	options, _ := testOptions(c, doors.PostbackRoute(t, c, namespace, "crm", "*"))
	server := testServer(t, options)
	send := func(key, body string) *reply {
		request := newPost(t, server.URL, namespace, []byte(body))
		request.Header.Set("Idempotency-Key", key)
		return do(t, request)
	}
	const body = `[{"event":"lead.created","data":{}},{"event":"lead.created","data":{}},{"id":"own","event":"lead.created","data":{}}]`
	first, again := send("order-1", body), send("order-1", body)
	for i, e := range first.Events {
		if e.Deliveries[0].Result != intake.Stored || again.Events[i].ID != e.ID || again.Events[i].Deliveries[0].Result != intake.Duplicate {
			t.Errorf("event %d: first %+v, again %+v", i, e, again.Events[i])
		}
	}
	if first.Events[0].ID == first.Events[1].ID || first.Events[2].ID != "own" {
		t.Errorf("got ids %s", first.raw)
	}
	if other := send("order-2", body); other.Events[0].ID == first.Events[0].ID {
		t.Errorf("two keys give one id: %s", other.raw)
	}
	if got := send("order-1", `{"event":"lead.created","data":{"another":true}}`); got.code != http.StatusConflict {
		t.Errorf("the key of another request: got %d: %s", got.code, got.raw)
	}
}

func TestSameIDFromManyProducers(t *testing.T) {
	const producers = 20
	c := doors.Client(t, cp.Config)
	namespace := doors.Namespace(t, c, "ingest-")
	crm := doors.PostbackRoute(t, c, namespace, "crm", "*")
	options, offered := testOptions(c, crm)
	options.Clock = nil
	server := testServer(t, options)
	var all sync.WaitGroup
	replies := make(chan *reply, producers)
	for range producers {
		all.Go(func() {
			replies <- post(t, server.URL, namespace, `{"id":"evt_1","event":"lead.created","data":{"a":1}}`)
		})
	}
	all.Wait()
	close(replies)
	counts := map[intake.Result]int{}
	for got := range replies {
		for _, d := range slices.Concat(got.results()...) {
			counts[d.Result]++
		}
	}
	if counts[intake.Stored] != 1 || counts[intake.Duplicate] != producers-1 || len(offered.Sorted()) != 1 {
		t.Errorf("got %v and %d offers", counts, len(offered.Sorted()))
	}
	if n := len(doors.Deliveries(t, c, namespace)); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}
