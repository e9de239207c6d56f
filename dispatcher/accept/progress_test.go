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
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

// slowStore is an API server that answers a limited number of requests, then runs out of time.
type slowStore struct {
	mu      sync.Mutex
	left    int
	stored  map[types.NamespacedName]*v1alpha1.PostbackDelivery
	creates int
}

var errNoTime = errors.New("no time left")

func (s *slowStore) allow(requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = requests
	if s.stored == nil {
		s.stored = map[types.NamespacedName]*v1alpha1.PostbackDelivery{}
	}
}

func (s *slowStore) request(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return errNoTime
	}
	s.left--
	return do()
}

func (s *slowStore) Create(_ context.Context, object client.Object, _ ...client.CreateOption) error {
	return s.request(func() error {
		s.creates++
		key := client.ObjectKeyFromObject(object)
		if s.stored[key] != nil {
			return apierrors.NewAlreadyExists(schema.GroupResource{}, key.Name)
		}
		s.stored[key] = object.(*v1alpha1.PostbackDelivery).DeepCopy()
		return nil
	})
}

func (s *slowStore) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	return s.request(func() error {
		have := s.stored[key]
		if have == nil {
			return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
		}
		have.DeepCopyInto(object.(*v1alpha1.PostbackDelivery))
		return nil
	})
}

// The server needs as many repeats of a request for 5,000 deliveries as its time demands, but none for the
// duplicates.
func TestRepeatsOfALargeRequestEnd(t *testing.T) {
	const events, postbacks, requestsInTime = 100, 50, 1000
	store := &slowStore{}
	options, offered := testOptions(store, doors.ManyRoutes(postbacks)...)
	a := newAcceptor(t, options)
	body := doors.Numbered(events)
	rounds := 0
	for {
		rounds++
		store.allow(requestsInTime)
		unstored := accepted(t, a, body).Tally()[intake.Unstored]
		if unstored == 0 {
			break
		}
		if rounds > events*postbacks/requestsInTime {
			t.Fatalf("round %d: %d are unstored with %d deliveries stored", rounds, unstored, len(store.stored))
		}
	}
	if len(store.stored) != events*postbacks || store.creates != events*postbacks || len(offered.Sorted()) != events*postbacks {
		t.Errorf("%d deliveries by %d creates, %d first attempts", len(store.stored), store.creates, len(offered.Sorted()))
	}
}

// A remembered request applies to the same events only, and expires.
func TestProgressIsOfTheSameEvent(t *testing.T) {
	store := &slowStore{}
	crm := doors.LooseRoute("acme", "crm", "", "*")
	options, _ := testOptions(store, crm)
	clock := clocktesting.NewFakePassiveClock(testNow)
	options.Clock, options.RequestStores = clock, 1
	a := newAcceptor(t, options)
	const first, other = `{"id":"evt_first","event":"lead.created","data":{"n":1}}`, `{"id":"evt_other","event":"lead.created","data":{}}`
	store.allow(1)
	got := accepted(t, a, "["+first+","+other+"]")
	if got[0].Deliveries[0].Result != intake.Stored || got[1].Deliveries[0].Result != intake.Unstored {
		t.Fatalf("got %+v", got)
	}
	for _, test := range []struct {
		name, body string
		passes     time.Duration
		requests   int
		want       intake.Result
	}{
		{name: "the same", body: first, want: intake.Duplicate},
		{name: "other data", body: `{"id":"evt_first","event":"lead.created","data":{"n": 1}}`, requests: 2, want: intake.Conflict},
		{name: "a time of its own", body: `{"id":"evt_first","event":"lead.created","createdAt":"2020-01-01T00:00:00Z","data":{"n":1}}`, requests: 2, want: intake.Conflict},
		{name: "the same, much later", body: first, passes: progressKept, requests: 2, want: intake.Duplicate},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock.SetTime(clock.Now().Add(test.passes))
			store.allow(test.requests)
			got := accepted(t, a, test.body)
			if d := got[0].Deliveries[0]; d.Result != test.want || d.Delivery != nameOf(crm, "evt_first") || store.left != 0 {
				t.Errorf("%d requests of %d left; got %+v", store.left, test.requests, got)
			}
		})
	}
}

func TestSameEventTwiceInARequest(t *testing.T) {
	store := &slowStore{}
	store.allow(1)
	crm := doors.LooseRoute("acme", "crm", "", "*")
	options, _ := testOptions(store, crm)
	const one = `{"id":"evt_twice","event":"lead.created","data":{}}`
	expect(t, accepted(t, newAcceptor(t, options), "["+one+","+one+"]"),
		[]DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "evt_twice"), Result: intake.Stored}},
		[]DeliveryResult{{Postback: "crm", Delivery: nameOf(crm, "evt_twice"), Result: intake.Duplicate}})
}

func TestFitting(t *testing.T) {
	tests := map[string]struct{ events, postbacks, deliveries, fit int }{
		"none":                     {events: 100, postbacks: 0, deliveries: 0, fit: 100},
		"as many as may be":        {events: 100, postbacks: 100, deliveries: 10_000, fit: 100},
		"one Postback too many":    {events: 100, postbacks: 101, deliveries: 10_100, fit: 99},
		"one event for everybody":  {events: 1, postbacks: 20_000, deliveries: 20_000, fit: 1},
		"two events for everybody": {events: 2, postbacks: 20_000, deliveries: 40_000, fit: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			matched := make([][]*route.Route, test.events)
			for i := range matched {
				matched[i] = make([]*route.Route, test.postbacks)
			}
			if deliveries, fit := fitting(matched); deliveries != test.deliveries || fit != test.fit {
				t.Errorf("%d deliveries, %d events fit; want %d and %d", deliveries, fit, test.deliveries, test.fit)
			}
		})
	}
}

// A stream may be lost and recreated, so its deliveries are looked up in the stream, not in memory.
func TestOnlyTheDeliveriesOfAnAPIServerAreRemembered(t *testing.T) {
	for _, remember := range []bool{true, false} {
		t.Run(fmt.Sprintf("remember %t", remember), func(t *testing.T) {
			options, _ := testOptions(&slowStore{})
			options.Remember = remember
			if a := newAcceptor(t, options); (a.progress != nil) != remember {
				t.Errorf("with Remember %t: %+v", remember, a.progress)
			}
		})
	}
}
