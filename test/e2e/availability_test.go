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
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// producers is the number of concurrent posts.
const producers = 16

// startDispatcher starts another replica, which ends with the test.
func startDispatcher(t *testing.T, name string, options ...operator.Option) *operator.Process {
	t.Helper()
	p, err := op.StartDispatcher(t.Context(), name, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.Running() {
			terminate(t, p)
		}
		if err := p.DeletePod(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// terminate ends a process in order; it must exit with 0.
func terminate(t *testing.T, p *operator.Process) {
	t.Helper()
	code, err := p.Terminate(context.Background())
	if err != nil || code != 0 {
		t.Errorf("%s ended with exit code %d: %v", p.Name, code, err)
	}
}

// without stops one of the shared processes until the end of the test.
func without(t *testing.T, p *operator.Process) {
	t.Helper()
	terminate(t, p)
	t.Cleanup(func() {
		if err := p.Restart(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestGracefulShutdown ends a replica while it takes events and makes attempts. Another replica continues.
func TestGracefulShutdown(t *testing.T) {
	n := newTenant(t)
	n.endpoint.Answer(hooks, receiver.Answer{Delay: 50 * time.Millisecond})
	ending, staying := startDispatcher(t, "postback-dispatcher-ending"), dispatcher
	n.postback("crm")

	load := n.produce(ending, staying)
	// Ingest is answering requests and attempts are in flight.
	n.wait(2 * producers)
	code, err := ending.Terminate(t.Context())
	if err != nil || code != 0 {
		t.Errorf("the replica ended with exit code %d: %v", code, err)
	}
	n.wait(len(n.endpoint.Requests(hooks)) + 2*producers)
	ids := load.stop()
	t.Logf("%d events", len(ids))
	n.waitAllDelivered(len(ids))
	arrived := map[string]int{}
	for _, r := range n.endpoint.Requests(hooks) {
		arrived[r.ID()]++
		if !r.Verified() {
			t.Errorf("event %s is not signed", r.ID())
		}
	}
	for _, id := range ids {
		if arrived[id] != 1 {
			t.Errorf("event %s arrived %d times", id, arrived[id])
		}
	}
	if len(arrived) != len(ids) {
		t.Errorf("%d events arrived, %d were posted", len(arrived), len(ids))
	}
	if err := gone(t.Context(), operator.Namespace, presence.LeaseName(ending.Name), &coordinationv1.Lease{}); err != nil {
		t.Error(err)
	}
}

// waitAllDelivered waits until there are count deliveries, each delivered in one attempt.
func (n *tenant) waitAllDelivered(count int) {
	n.t.Helper()
	eventually(n.t, func() error {
		deliveries := n.deliveries()
		if len(deliveries) != count {
			return fmt.Errorf("there are %d deliveries, want %d", len(deliveries), count)
		}
		for id, d := range deliveries {
			if d.Status.Phase != v1alpha1.DeliveryDelivered || d.Status.AttemptCount != 1 {
				return fmt.Errorf("event %s is %s after %d attempts", id, d.Status.Phase, d.Status.AttemptCount)
			}
		}
		return nil
	})
}

// load is a stream of events.
type load struct {
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu  sync.Mutex
	ids []string
}

// produce posts events from several producers until stop. Each posts one event at a time, to the first replica, and
// repeats it to the next replica if that one does not accept it.
func (n *tenant) produce(replicas ...*operator.Process) *load {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	l := &load{cancel: cancel}
	for producer := range producers {
		l.workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("evt_%d_%d", producer, i)
				if err := n.postTo(lead(id), replicas...); err != nil {
					n.t.Errorf("event %s: %v", id, err)
					return
				}
				l.mu.Lock()
				l.ids = append(l.ids, id)
				l.mu.Unlock()
			}
		})
	}
	n.t.Cleanup(cancel)
	return l
}

func (l *load) stop() []string {
	l.cancel()
	l.workers.Wait()
	return l.ids
}

// postTo posts an event to the first replica that accepts it.
func (n *tenant) postTo(e event, replicas ...*operator.Process) error {
	var last error
	for _, replica := range replicas {
		r, err := n.tryPost(n.t.Context(), replica, e)
		if err == nil && r.Status == http.StatusAccepted && r.result() != "" {
			return nil
		}
		if err == nil {
			last = fmt.Errorf("ingest answers %+v", r)
		} else {
			last = err
		}
	}
	return last
}

// TestNoDispatcher: without a dispatcher, the Postback says that no event would be routed.
func TestNoDispatcher(t *testing.T) {
	n := newTenant(t)
	n.postback("crm")
	terminate(t, dispatcher)
	eventually(t, func() error {
		p := n.getPostback("crm")
		ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ReadyCondition)
		if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.NoDispatcherReason {
			return fmt.Errorf("Ready is %+v", ready)
		}
		return nil
	})
	if err := dispatcher.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.waitReady("crm")
	n.post(lead("evt_1"))
	n.waitPhase("evt_1", v1alpha1.DeliveryDelivered, 1)
}

// TestDeadReplica: the manager waits for a replica that was killed, with its node, no longer than its Lease lasts.
func TestDeadReplica(t *testing.T) {
	n := newTenant(t)
	dead := startDispatcher(t, "postback-dispatcher-dead")
	n.postback("crm")
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := dead.DeletePod(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.setState("crm", "Paused")
	n.setState("crm", "Enabled")
	// The garbage collector deletes the Lease of a deleted Pod.
	eventually(t, func() error {
		return gone(t.Context(), operator.Namespace, presence.LeaseName(dead.Name), &coordinationv1.Lease{})
	})
}

// TestAPIServerOutage: during an outage ingest refuses events. Events that are posted again afterwards arrive once.
func TestAPIServerOutage(t *testing.T) {
	onlyKubernetes(t, "TestStreamOutlivesTheAPIServer")
	// An API server that has just started may not know the operator's kinds yet. Kubernetes then ends a namespace
	// without deleting their objects, and other tests would find these.
	awaitNamespacesGone(t)
	n := newTenant(t)
	n.postback("crm")
	n.post(lead("evt_before"))
	n.waitPhase("evt_before", v1alpha1.DeliveryDelivered, 1)

	// The response of the endpoint arrives while the attempt cannot be recorded.
	stopped := make(chan error, 1)
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Before: func(*receiver.Request) { stopped <- cp.StopAPIServer() }})
	n.post(lead("evt_in_flight"))
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	var again []event
	for i := range 5 {
		e := lead(fmt.Sprintf("evt_outage_%d", i))
		r, err := n.tryPost(t.Context(), dispatcher, e)
		if err != nil || r.Status != http.StatusServiceUnavailable || r.RetryAfter == "" {
			t.Errorf("without an API server ingest answers %+v (%v)", r, err)
		}
		again = append(again, e)
	}
	if err := cp.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		eventually(t, func() error {
			r, err := n.tryPost(t.Context(), dispatcher, again...)
			if err == nil && r.Status != http.StatusAccepted {
				err = fmt.Errorf("ingest answers %+v", r)
			}
			return err
		})
	}
	for _, e := range append(again, lead("evt_in_flight")) {
		n.waitPhase(e.ID, v1alpha1.DeliveryDelivered, 1)
	}
	if requests, deliveries := n.endpoint.Requests(hooks), n.deliveries(); len(requests) != 7 || len(deliveries) != 7 {
		t.Errorf("%d requests and %d deliveries for 7 events", len(requests), len(deliveries))
	}
	if !dispatcher.Running() {
		t.Errorf("%s did not outlive the outage", dispatcher.Name)
	}
	// The manager works, too, even if it was restarted because its Lease had expired.
	n.setState("crm", "Paused")
}
