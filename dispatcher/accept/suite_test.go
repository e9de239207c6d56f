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

package accept

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

var testNow = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

func looseRoute(namespace, name string, uid types.UID, triggers ...v1alpha1.Trigger) *route.Route {
	if uid == "" {
		uid = uuid.NewUUID()
	}
	return &route.Route{
		Namespace: namespace, Name: name, UID: uid, Triggers: triggers,
		State: v1alpha1.PostbackEnabled, MaxPending: v1alpha1.DefaultMaxPending,
	}
}

func nameOf(r *route.Route, id string) string {
	return delivery.Name(v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, id)
}

type backlog map[types.UID]int

func (b backlog) Full(r *route.Route) bool { return b[r.UID] >= int(r.MaxPending) }

// offers keeps the names of the offered first attempts.
type offers struct {
	mu    sync.Mutex
	names []string
}

func (o *offers) Reserve(*route.Route) func(*v1alpha1.PostbackDelivery) {
	return func(d *v1alpha1.PostbackDelivery) {
		if d == nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.names = append(o.names, d.Name)
	}
}

func (o *offers) sorted() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(slices.Values(o.names))
}

// emptyStore is an API server that stores everything and has nothing.
type emptyStore struct{}

func (emptyStore) Create(context.Context, client.Object, ...client.CreateOption) error { return nil }

func (emptyStore) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

func testOptions(store intake.Store, routes ...*route.Route) (Options, *offers) {
	o := &offers{}
	index := route.NewIndex()
	for _, r := range routes {
		index.Set(r)
	}
	return Options{
		Intake: &intake.Kubernetes{API: store, FirstAttempts: o}, Routes: index, Backlog: backlog{}, Remember: true,
		Clock: clocktesting.NewFakePassiveClock(testNow), Log: logr.Discard(),
	}, o
}

func newAcceptor(t *testing.T, o Options) *Acceptor {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// accepted has the events of a body accepted for the namespace acme.
func accepted(t *testing.T, a *Acceptor, body string) Results {
	t.Helper()
	posted, err := event.Decode([]byte(body), testNow, func(int) string { return event.NewID() })
	if err != nil {
		t.Fatal(err)
	}
	results, err := a.Accept(t.Context(), "acme", posted)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func expect(t *testing.T, got Results, want ...[]DeliveryResult) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d: %+v", len(got), len(want), got)
	}
	for i := range got {
		if !reflect.DeepEqual(got[i].Deliveries, want[i]) {
			t.Errorf("event %d: got %+v, want %+v", i, got[i].Deliveries, want[i])
		}
	}
}
