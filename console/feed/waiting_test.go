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

package feed

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

// waitingStream stands in for a dispatcher, whose waiting stream holds changing deliveries.
type waitingStream struct {
	mu      sync.Mutex
	waiting []string
}

// seconds has the times at which the deliveries were accepted.
var seconds = map[string]int{"w1": 1, "w2": 2, "w3": 3}

func (s *waitingStream) set(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = names
}

func (s *waitingStream) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &v1alpha1.PostbackDeliveryList{}
	for _, name := range s.waiting {
		d := stored(name, seconds[name], "1")
		d.Status.Phase = v1alpha1.DeliveryPending
		list.Items = append(list.Items, *d)
	}
	_ = json.NewEncoder(w).Encode(list)
}

// The rows of waiting deliveries appear when a page opens, follow the stream, and go some time after the page closed.
func TestWaitingRowsOfAnOpenPage(t *testing.T) {
	s := &waitingStream{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	f := New(nil, "", deliveries.New(func(context.Context) (*deliveries.Connection, error) {
		return &deliveries.Connection{URL: server.URL, Transport: server.Client().Transport}, nil
	}))
	p := &v1alpha1.Postback{}
	p.Namespace, p.Name = crm.Namespace, crm.Name
	p.Status.Backlog = &v1alpha1.Backlog{Deliveries: 2}
	if err := f.sources[0].Add(p); err != nil {
		t.Fatal(err)
	}
	s.set("w2", "w1")
	done := f.WatchWaiting(t.Context(), crm)
	check(t, "an open page", f.Rows(crm), "w2", "w1")
	if c := Count(f.Rows(crm)).WithBacklog(5); c.Unfinished() != 5 || c.Waiting != 2 {
		t.Errorf("the counts are %+v", c)
	}
	if due := f.dueWaiting(time.Now()); len(due) != 0 {
		t.Errorf("read again at once: %v", due)
	}
	if due := f.dueWaiting(time.Now().Add(waitingEvery)); len(due) != 1 {
		t.Errorf("not read again: %v", due)
	}
	s.set("w1")
	f.ForgetWaiting(t.Context(), crm)
	check(t, "after a drop", f.Rows(crm), "w1")
	if err := f.putLogged(stored("w1", seconds["w1"], "9")); err != nil {
		t.Fatal(err)
	}
	if rows := f.Rows(crm); len(rows) != 1 || rows[0].Waiting {
		t.Errorf("a delivered one still waits: %+v", rows)
	}
	s.set("w3")
	f.ForgetWaiting(t.Context(), crm)
	check(t, "a new one", f.Rows(crm), "w3", "w1")
	done()
	f.dueWaiting(time.Now().Add(waitingKept))
	check(t, "a closed page", f.Rows(crm), "w1")
	if len(f.watched) != 0 {
		t.Errorf("watched are %v", f.watched)
	}
}
