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
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// waitHealth waits until a Postback shows the health of its endpoint: in its condition, in kubectl's column, and by
// an Event.
func (n *tenant) waitHealth(name string, status metav1.ConditionStatus, reason string) {
	n.t.Helper()
	eventually(n.t, func() error {
		c := meta.FindStatusCondition(n.getPostback(name).Status.Conditions, v1alpha1.EndpointHealthyCondition)
		if c == nil || c.Status != status || c.Reason != reason {
			return fmt.Errorf("EndpointHealthy is %+v, want %s for %s", c, status, reason)
		}
		if events := n.kubectl("events", "--for", "postback/"+name); !strings.Contains(events, reason) {
			return fmt.Errorf("kubectl events prints %q, without %s", events, reason)
		}
		return nil
	})
	lines := strings.Split(n.kubectl("get", "postback", name), "\n")
	at := strings.Index(lines[0], "HEALTHY")
	if at < 0 || !strings.HasPrefix(lines[1][at:], string(status)) {
		n.t.Errorf("kubectl get prints\n%s", strings.Join(lines, "\n"))
	}
}

// waitDelivered waits until there are count deliveries, all of them Delivered.
func (n *tenant) waitDelivered(count int) {
	n.t.Helper()
	eventually(n.t, func() error {
		deliveries := n.deliveries()
		for id, d := range deliveries {
			if d.Status.Phase != v1alpha1.DeliveryDelivered {
				return fmt.Errorf("event %s is %s", id, d.Status.Phase)
			}
		}
		if len(deliveries) != count {
			return fmt.Errorf("there are %d deliveries, want %d", len(deliveries), count)
		}
		return nil
	})
}

// redeliver requests a redelivery of all deliveries.
func (n *tenant) redeliver(token string) {
	n.t.Helper()
	n.kubectl("annotate", "--overwrite", "postbackdelivery", "--all", v1alpha1.RedeliverAnnotation+"="+token)
}

// An endpoint that fails repeatedly is unhealthy, and healthy again once it accepts an event.
func TestEndpointHealth(t *testing.T) {
	t.Parallel()
	n := newTenant(t)
	n.postback("crm")
	if c := meta.FindStatusCondition(n.getPostback("crm").Status.Conditions, v1alpha1.EndpointHealthyCondition); c != nil {
		t.Errorf("without trouble there is %+v", c)
	}
	n.endpoint.Answer(hooks, unavailable(0))
	const failures = 5
	for i := range failures {
		n.post(lead(fmt.Sprintf("evt_%d", i)))
	}
	n.waitHealth("crm", metav1.ConditionFalse, string(v1alpha1.OutcomeFailed5xx))
	eventually(t, func() error {
		if wait := n.getPostback("crm").Status.Waiting; wait == nil || wait.Reason != v1alpha1.WaitCircuitOpen {
			return fmt.Errorf("status.waiting is %+v", wait)
		}
		return nil
	})
	if ready := meta.FindStatusCondition(n.getPostback("crm").Status.Conditions, v1alpha1.ReadyCondition); ready == nil || ready.Status != metav1.ConditionTrue {
		t.Errorf("of an endpoint in trouble Ready is %+v", ready)
	}
	n.endpoint.Answer(hooks)
	n.redeliver("1")
	n.waitHealth("crm", metav1.ConditionTrue, v1alpha1.EndpointRespondingReason)
	n.waitDelivered(failures)
	eventually(t, func() error {
		if wait := n.getPostback("crm").Status.Waiting; wait != nil {
			return fmt.Errorf("status.waiting of a healthy endpoint is %+v", wait)
		}
		return nil
	})
}

// An endpoint that answers 410 gets no further attempt until the spec changes or a user requests one.
func TestGoneEndpointIsSetAside(t *testing.T) {
	t.Parallel()
	n := newTenant(t)
	n.postback("crm")
	for i, release := range []func(){
		func() {
			n.kubectl("patch", "postback", "crm", "--type=merge", "-p", `{"spec":{"displayName":"moved"}}`)
		},
		func() { n.redeliver("1") },
	} {
		refused, waiting := fmt.Sprintf("evt_refused_%d", i), fmt.Sprintf("evt_waiting_%d", i)
		before := len(n.endpoint.Requests(hooks))
		n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusGone})
		n.post(lead(refused))
		d := n.waitPhase(refused, v1alpha1.DeliveryRetrying, 1)
		c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.DeliveredCondition)
		if d.Status.NextAttemptTime != nil || d.Status.Attempts[0].Outcome != v1alpha1.OutcomeGone || c == nil || c.Reason != v1alpha1.WaitingForEndpointReason {
			t.Errorf("the delivery is %+v", d.Status)
		}
		n.waitHealth("crm", metav1.ConditionFalse, string(v1alpha1.OutcomeGone))
		n.post(lead(waiting))
		gomega.NewWithT(t).Consistently(func() int { return len(n.endpoint.Requests(hooks)) }).
			WithTimeout(2*time.Second).WithPolling(100*time.Millisecond).Should(gomega.Equal(before+1), "an endpoint that is gone gets events")
		if op.NATS == nil {
			n.waitPhase(waiting, v1alpha1.DeliveryPending, 0)
		} else { // The delivery waits in a stream.
			eventually(t, func() error { return n.hasBacklog("crm", 1) })
		}

		n.endpoint.Answer(hooks)
		release()
		n.waitPhase(refused, v1alpha1.DeliveryDelivered, 2)
		n.waitPhase(waiting, v1alpha1.DeliveryDelivered, 1)
		n.waitHealth("crm", metav1.ConditionTrue, v1alpha1.EndpointRespondingReason)
	}
}

// Retry-After delays all deliveries to an endpoint, including redeliveries.
func TestRetryAfterHoldsTheEndpoint(t *testing.T) {
	t.Parallel()
	n := newTenant(t)
	n.postback("crm")
	n.endpoint.Answer(hooks, receiver.Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"20"}}, Times: 1})
	n.post(lead("evt_refused"))
	d := n.waitPhase("evt_refused", v1alpha1.DeliveryRetrying, 1)
	until := d.Status.Attempts[0].RetryAfterTime
	if until == nil || d.Status.NextAttemptTime == nil || d.Status.NextAttemptTime.Before(until) {
		t.Fatalf("the delivery is %+v", d.Status)
	}
	n.post(lead("evt_new"))
	n.redeliver("1")
	n.waitDelivered(2)
	for _, request := range n.wait(3)[1:] {
		if request.Time.Before(until.Time) {
			t.Errorf("event %s came at %s, before %s", request.ID(), request.Time, until)
		}
	}
}

// The limits of a Postback apply to first attempts and to redeliveries, whichever replica took the events.
func TestLimitsHoldAcrossReplicas(t *testing.T) {
	t.Parallel()
	other := startDispatcher(t, "postback-dispatcher-limits")
	t.Run("maxConcurrent", func(t *testing.T) {
		t.Parallel()
		const most, takes = 2, 300 * time.Millisecond
		n := newTenant(t)
		n.postback("crm", fmt.Sprintf("limits: {maxConcurrent: %d}", most))
		times := n.overload(other, 16, takes)
		for i := range times[:len(times)-most] {
			// Each request is in flight for at least the duration of its response.
			if between := times[i+most].Sub(times[i]); between < takes {
				t.Errorf("%d requests came within %s, each of which takes %s", most+1, between, takes)
			}
		}
	})
	t.Run("perSecond", func(t *testing.T) {
		t.Parallel()
		const rate = 10
		n := newTenant(t)
		n.postback("crm", fmt.Sprintf("limits: {perSecond: %d}", rate))
		began := time.Now()
		times := n.overload(other, 60, 0)
		// The first request may be late, but not earlier than its post. Two replicas with this rate each would need
		// half the time.
		least := time.Duration(len(times)-1) * time.Second / rate
		if took := times[len(times)-1].Sub(began); took < least {
			t.Errorf("%d requests came within %s, which must take %s", len(times), took, least)
		}
	})
}

// overload posts to both replicas concurrently. The endpoint refuses some events, for which overload requests a
// redelivery. It returns the times of all requests, once everything is delivered.
func (n *tenant) overload(other *operator.Process, events int, takes time.Duration) []time.Time {
	n.t.Helper()
	const refused = 4
	refusal := unavailable(refused)
	refusal.Delay = takes
	n.endpoint.Answer(hooks, refusal, receiver.Answer{Delay: takes})
	for i := range events {
		if err := n.postTo(lead(fmt.Sprintf("evt_%d", i)), []*operator.Process{dispatcher, other}[i%2]); err != nil {
			n.t.Fatal(err)
		}
	}
	eventually(n.t, func() error {
		for id, d := range n.deliveries() {
			switch {
			case d.Status.Phase == v1alpha1.DeliveryRetrying && d.Annotations[v1alpha1.RedeliverAnnotation] == "":
				n.kubectl("annotate", "postbackdelivery", d.Name, v1alpha1.RedeliverAnnotation+"=1")
				fallthrough
			case d.Status.Phase != v1alpha1.DeliveryDelivered:
				return fmt.Errorf("event %s is %s", id, d.Status.Phase)
			}
		}
		return nil
	})
	requests := n.wait(events + refused)
	times := make([]time.Time, 0, len(requests))
	for _, request := range requests {
		times = append(times, request.Time)
	}
	// On a busy machine, the schedule may retry a refused event just before its redelivery is requested.
	if len(times) > events+2*refused {
		n.t.Errorf("%d requests came, want %d", len(times), events+refused)
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// A Postback with too many unfinished deliveries refuses further events, and its condition says so. Other Postbacks
// are not affected.
func TestFullBacklogIsRefused(t *testing.T) {
	t.Parallel()
	const most = 3
	n := newTenant(t)
	n.postback("full", "state: Paused", fmt.Sprintf("limits: {maxPending: %d}", most), "triggers: [lead.created, order.created]")
	n.postback("other", "triggers: [lead.created]")
	stored := 0
	order := func() *reply {
		r, err := n.tryPost(t.Context(), dispatcher, event{Type: "order.created", Data: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	eventually(t, func() error {
		r := order()
		if r.result() == "Stored" {
			stored++
			return fmt.Errorf("%d events are stored", stored)
		}
		if r.Status != http.StatusTooManyRequests || r.Type != "urn:postback:problem:no-room" || r.RetryAfter == "" ||
			r.result() != "Refused" || r.Events[0].Deliveries[0].Reason != "BacklogFull" {
			t.Errorf("ingest answers %+v", r)
		}
		return nil
	})
	if stored < most {
		t.Errorf("%d events are stored, fewer than spec.limits.maxPending", stored)
	}
	for _, d := range n.post(lead("evt_both")).Events[0].Deliveries {
		if want := map[string]string{"full": "Refused", "other": "Stored"}[d.Postback]; d.Result != want {
			t.Errorf("for Postback %s the event is %s", d.Postback, d.Result)
		}
	}
	n.waitPhase("evt_both", v1alpha1.DeliveryDelivered, 1)
	if got := len(n.deliveries()); got != stored+1 {
		t.Errorf("there are %d deliveries, %d were stored", got, stored+1)
	}

	n.setState("full", "Enabled")
	eventually(t, func() error {
		if r := order(); r.result() != "Stored" {
			return fmt.Errorf("ingest answers %+v", r)
		}
		return nil
	})
}
