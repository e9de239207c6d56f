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

package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

var crm = types.NamespacedName{Namespace: "partner-acme", Name: "crm"}

func checkAcknowledged(t *testing.T, r *Replicas, version string, want acknowledgement) {
	t.Helper()
	if err := r.confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if got := r.acknowledged(crm, version); got != want {
		t.Errorf("version %s: %+v, want %+v", version, got, want)
	}
}

func TestReplicasAcknowledge(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	r := newTestReplicas(clock)
	checkAcknowledged(t, r, "10", acknowledgement{})
	r.set(lease("east", "9", clock.Now()))
	r.set(lease("north", "10", clock.Now()))
	r.set(lease("south", "", clock.Now()))
	r.set(lease("west", "spoiled", clock.Now()))
	checkAcknowledged(t, r, "10", acknowledgement{Live: 4, Loaded: 1})
	checkAcknowledged(t, r, "9", acknowledgement{Live: 4, Loaded: 2})

	// Waiting Postbacks are requeued once when a replica loads more.
	if r.queue.Len() != 0 {
		t.Errorf("%d woken for nothing", r.queue.Len())
	}
	r.set(lease("east", "9", clock.Now()))
	if r.queue.Len() != 0 {
		t.Error("woken by a mere renewal")
	}
	r.set(lease("east", "11", clock.Now()))
	if r.queue.Len() != 1 {
		t.Errorf("%d woken", r.queue.Len())
	}
	request, _ := r.queue.Get()
	r.queue.Done(request)
	r.set(lease("south", "11", clock.Now()))
	if r.queue.Len() != 0 {
		t.Error("woken although it waits no longer")
	}
	r.acknowledged(crm, "10")
	r.forget(crm)
	r.set(lease("west", "11", clock.Now()))
	if r.queue.Len() != 0 {
		t.Error("woken although it is gone")
	}
	checkAcknowledged(t, r, "10", acknowledgement{Live: 4, Loaded: 4})
}

// A replica whose claim is beyond the present version loaded it before etcd was restored. It does not count as
// loaded.
func TestReplicasFromTheFuture(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	r := newTestReplicas(clock)
	r.Version = reached("12")
	r.set(lease("east", "5000", clock.Now()))
	r.set(lease("north", "11", clock.Now()))
	checkAcknowledged(t, r, "11", acknowledgement{Live: 2, Loaded: 1, Doubted: 1})
	// The replica was restarted.
	r.set(lease("east", "11", clock.Now().Add(time.Second)))
	checkAcknowledged(t, r, "11", acknowledgement{Live: 2, Loaded: 2})
	// The replica is ahead of the version that was read, which is read again.
	r.Version = reached("13")
	r.set(lease("east", "13", clock.Now().Add(2*time.Second)))
	checkAcknowledged(t, r, "11", acknowledgement{Live: 2, Loaded: 2})

	r.set(lease("east", "14", clock.Now().Add(3*time.Second)))
	r.Version = func(context.Context) (string, error) { return "", errors.New("away") }
	if err := r.confirm(t.Context()); err == nil {
		t.Error("a claim was believed without a read")
	}
}

// A replica with another --watch-namespaces does not load the route, however high its claim is.
func TestReplicasThatWatchOtherNamespaces(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	r := newTestReplicas(clock)
	watching := func(replica, namespaces string) {
		l := lease(replica, "11", clock.Now())
		l.Annotations[v1alpha1.WatchedNamespacesAnnotation] = namespaces
		r.set(l)
	}
	watching("east", "partner-globex")
	watching("north", "partner-acme,partner-globex")
	watching("south", "")
	checkAcknowledged(t, r, "10", acknowledgement{Live: 3, Loaded: 2})
	watching("east", "partner-acme")
	if r.queue.Len() != 1 {
		t.Errorf("%d woken", r.queue.Len())
	}
	checkAcknowledged(t, r, "10", acknowledgement{Live: 3, Loaded: 3})
}

// The library prints its sources at any time: the text has no changing fields. A shutdown during the sync is no
// error.
func TestReplicasAsASource(t *testing.T) {
	r := newTestReplicas(testingclock.NewFakeClock(time.Now()))
	if got := fmt.Sprintf("%v", r); got != "dispatcher replicas" {
		t.Errorf("printed as %s", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.WaitForSync(ended); err != nil {
		t.Errorf("an error at the end: %v", err)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.WaitForSync(late); err == nil {
		t.Error("no error although nothing has arrived")
	}
}

func TestReplicasLive(t *testing.T) {
	clock := testingclock.NewFakeClock(time.Now())
	r := newTestReplicas(clock)
	expire := func(wantChanged bool, wantNext time.Duration) {
		t.Helper()
		if changed, next := r.expire(); changed != wantChanged || next != wantNext {
			t.Errorf("changed %t, next %s; want %t, %s", changed, next, wantChanged, wantNext)
		}
	}
	expire(false, 0)
	// The replicas' clocks are an hour ahead and an hour behind, which must not matter.
	ahead, behind := clock.Now().Add(time.Hour), clock.Now().Add(-time.Hour)
	r.set(lease("east", "1", ahead))
	r.set(lease("north", "1", behind))
	expire(true, 15*time.Second)
	expire(false, 15*time.Second)

	clock.Step(10 * time.Second)
	r.set(lease("east", "1", ahead.Add(10*time.Second)))
	r.set(lease("north", "1", behind)) // seen again, not renewed
	expire(false, 5*time.Second)
	clock.Step(5 * time.Second)
	expire(true, 10*time.Second)
	checkAcknowledged(t, r, "1", acknowledgement{Live: 1, Loaded: 1})

	// A resync shows the dead Lease again. It stays dead until it is renewed.
	r.set(lease("north", "1", behind))
	expire(false, 10*time.Second)
	r.set(lease("north", "1", behind.Add(time.Minute)))
	expire(true, 10*time.Second)

	r.delete(toolscache.DeletedFinalStateUnknown{Obj: lease("east", "1", ahead)})
	r.delete(lease("unknown", "1", ahead))
	expire(true, 15*time.Second)
	spoiled := lease("north", "1", behind)
	spoiled.Spec.RenewTime = nil
	r.set(spoiled)
	expire(true, 0)
	checkAcknowledged(t, r, "1", acknowledgement{})
}
