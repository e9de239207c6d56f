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

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/e2e/apiproxy"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

func isCreate(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/postbackdeliveries")
}

func isRecord(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/postbackdeliveries/") && strings.HasSuffix(r.URL.Path, "/status")
}

// startProxy starts a proxy for the API server, which ends with the test.
func startProxy(t *testing.T) *apiproxy.Proxy {
	t.Helper()
	proxy, err := apiproxy.Start(cp.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}

// reached waits until a request is held.
func reached(t *testing.T, h *apiproxy.Hold, what string) {
	t.Helper()
	select {
	case <-h.Reached:
	case <-time.After(patience):
		t.Fatalf("%s: no such request within %s", what, patience)
	}
}

// crash is a moment in the life of an event at which its dispatcher is killed.
type crash struct {
	id     string
	moment apiproxy.Moment
	of     func(*http.Request) bool
	// stored, attempts and arrived are the expected state while the dispatcher is dead.
	stored   bool
	attempts int32
	arrived  int
	// accepted is true if the producer has received its response.
	accepted bool
	// finally is how often the event arrives in total.
	finally int
}

// crashes are the moments. One process is killed while each of the events is at its moment.
var crashes = []crash{
	{id: "evt_before_store", moment: apiproxy.Before, of: isCreate, finally: 1},
	{id: "evt_after_store", moment: apiproxy.After, of: isCreate, stored: true, finally: 1},
	{id: "evt_before_record", moment: apiproxy.Before, of: isRecord, stored: true, arrived: 1, accepted: true, finally: 2},
	{id: "evt_after_record", moment: apiproxy.After, of: isRecord, stored: true, arrived: 1, attempts: 1, accepted: true, finally: 1},
}

// TestDispatcherCrash kills (SIGKILL) a dispatcher before and after it stores an event, and before and after it
// records an attempt. The producer posts unaccepted events again, as it must.
func TestDispatcherCrash(t *testing.T) {
	onlyKubernetes(t, "TestDispatcherCrashBesideTheStream")
	n := newTenant(t)
	without(t, dispatcher)
	proxy := startProxy(t)
	victim := startDispatcher(t, "postback-dispatcher-victim", operator.WithAPIServer(proxy.Host(), proxy.CA()))
	n.postback("crm", "timeout: 5s")

	answers := map[string]chan error{}
	for _, c := range crashes {
		hold := proxy.Hold(c.moment, c.of)
		answers[c.id] = make(chan error, 1)
		go func() { answers[c.id] <- n.postTo(lead(c.id), victim) }()
		reached(t, hold, c.id)
		if c.accepted {
			if err := <-answers[c.id]; err != nil {
				t.Errorf("%s: %v", c.id, err)
			}
		}
	}
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, c := range crashes {
		n.checkDead(c, answers[c.id])
	}

	if err := victim.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.waitReady("crm")
	for _, c := range crashes {
		if c.accepted {
			continue
		}
		r, err := n.tryPost(t.Context(), victim, lead(c.id))
		if want := map[bool]string{true: "Duplicate", false: "Stored"}[c.stored]; err != nil || r.result() != want {
			t.Errorf("%s: sent again, ingest answers %+v (%v), want %s", c.id, r, err, want)
		}
	}
	for _, c := range crashes {
		n.checkRecovered(c)
	}
	if got := len(n.endpoint.Requests(hooks)); got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
}

// checkDead checks the record of an event while the dispatcher is dead.
func (n *tenant) checkDead(c crash, answer <-chan error) {
	n.t.Helper()
	if !c.accepted {
		if err := <-answer; err == nil {
			n.t.Errorf("%s: accepted by a dispatcher that died before it knew that the event was stored", c.id)
		}
	}
	if got := len(n.arrivals(c.id)); got != c.arrived {
		n.t.Errorf("%s: arrived %d times before the crash, want %d", c.id, got, c.arrived)
	}
	d := n.deliveries()[c.id]
	switch {
	case (d != nil) != c.stored:
		n.t.Errorf("%s: stored is %t, want %t", c.id, d != nil, c.stored)
	case d != nil && d.Status.AttemptCount != c.attempts:
		n.t.Errorf("%s: %d attempts on record after the crash, want %d", c.id, d.Status.AttemptCount, c.attempts)
	}
}

// checkRecovered waits until an event is delivered, and compares its arrivals with the record.
func (n *tenant) checkRecovered(c crash) {
	n.t.Helper()
	// The record of the lost attempt is missing; the record of its repeat exists.
	d := n.waitPhase(c.id, v1alpha1.DeliveryDelivered, 1)
	arrivals := n.arrivals(c.id)
	if len(arrivals) != c.finally {
		n.t.Errorf("%s: arrived %d times, want %d", c.id, len(arrivals), c.finally)
	}
	checkSame(n.t, arrivals, d)
	if a := d.Status.Attempts[0]; a.Outcome != v1alpha1.OutcomeSucceeded || a.Number != 1 {
		n.t.Errorf("%s: the log says %+v", c.id, a)
	}
	const rounding = 2 * time.Millisecond
	a, last := d.Status.Attempts[0], arrivals[len(arrivals)-1].Time
	if last.Before(a.Time.Add(-rounding)) || last.After(a.Time.Add(a.Duration.Duration+rounding)) {
		n.t.Errorf("%s: the log says that it was attempted at %s for %s, it arrived at %s", c.id, a.Time, a.Duration.Duration, last)
	}
}

func (n *tenant) arrivals(id string) []receiver.Request {
	var of []receiver.Request
	for _, r := range n.endpoint.Requests(hooks) {
		if r.ID() == id {
			of = append(of, r)
		}
	}
	return of
}

// TestDispatcherCrashTakenOver kills the dispatcher that owns the retries. Another one takes over.
func TestDispatcherCrashTakenOver(t *testing.T) {
	onlyKubernetes(t, "TestDispatcherCrashBesideTheStream")
	n := newTenant(t)
	without(t, dispatcher)
	proxy := startProxy(t)
	victim := startDispatcher(t, "postback-dispatcher-mortal", operator.WithAPIServer(proxy.Host(), proxy.CA()))
	heir := startDispatcher(t, "postback-dispatcher-heir")
	n.postback("crm", "timeout: 5s")
	hold := proxy.Hold(apiproxy.Before, isRecord)
	if err := n.postTo(lead("evt_1"), victim); err != nil {
		t.Fatal(err)
	}
	reached(t, hold, "record")
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	// The Lease of the election first expires, after 15 s.
	d := n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 1)
	if arrivals := n.arrivals("evt_1"); len(arrivals) != 2 {
		t.Errorf("arrived %d times, want 2", len(arrivals))
	} else {
		checkSame(t, arrivals, d)
	}
	if err := n.postTo(lead("evt_2"), heir); err != nil {
		t.Error(err)
	}
	n.waitPhase("evt_2", v1alpha1.DeliveryDelivered, 1)
}
