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
	"reflect"
	"testing"
	"time"

	"github.com/go-logr/logr"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

var testNow = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

func nameOf(r *route.Route, id string) string {
	return delivery.Name(v1alpha1.PostbackReference{Name: r.Name, UID: r.UID}, id)
}

func testOptions(store intake.API, routes ...*route.Route) (Options, *doors.Offers) {
	o := &doors.Offers{}
	return Options{
		Intake: &intake.Kubernetes{API: store, FirstAttempts: o}, Routes: doors.Index(routes...), Backlog: doors.Backlog{}, Remember: true,
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

// accepted decodes a body and lets the Acceptor accept its events for the namespace acme.
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
