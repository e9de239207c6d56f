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

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/internal/rollback"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	// lostEvents is the number of events in each phase, lostRate their rate per second.
	lostEvents = 40
	lostRate   = 200
	// recoverPatience bounds the time in which the programs notice a loss and serve again.
	recoverPatience = 2 * time.Minute
	arrivePatience  = 2 * time.Minute
	// seenWithin is longer than the time between two checks of the API server's version.
	seenWithin = 8 * time.Second
)

// postAll posts events of a type until all are accepted, each for one Postback, and waits until they have arrived.
func postAll(t *testing.T, s *source, at *sink, eventType, prefix string) {
	t.Helper()
	err := s.load(t.Context(), rand.New(rand.NewPCG(1, 2)), lostEvents, lostRate, func(i int) posted {
		return posted{ID: fmt.Sprintf("%s_%d", prefix, i), Type: eventType, CreatedAt: time.Now().UTC(), Data: json.RawMessage("{}")}
	})
	if err != nil {
		t.Fatal(err)
	}
	at.waitFor(t, prefix+"_", lostEvents, arrivePatience)
}

// TestLostStore: NATS returns without its store while the dispatchers run. Every event accepted afterwards arrives.
// The default intake has no such store.
func TestLostStore(t *testing.T) {
	if !op.Streams() {
		return
	}
	dumpOnFailure(t)
	const namespace = "lost-store"
	source := newSource(namespace, newNamespace(t, namespace), dispatchers...)
	sink := startSink(t)
	create(t, postback(namespace, "crm", sink.url("/crm"), "*"))
	postAll(t, source, sink, "lead.created", "before")
	if err := op.LoseStore(t.Context(), dispatchers...); err != nil {
		t.Fatal(err)
	}
	postAll(t, source, sink, "lead.created", "after")
	await(t, recoverPatience, func(ctx context.Context) error {
		left, err := unfinished(ctx, namespace)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d deliveries are left", left)
		}
		return err
	})
}

// age raises etcd's revision above that of a snapshot by more than the writes after a restore, and waits until every
// program has noticed. The renewal of a dispatcher's Lease shows that, because it is rarer than the checks.
func age(t *testing.T) {
	t.Helper()
	for range 2000 {
		if err := cp.Store(t.Context(), "/elsewhere", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	stored := time.Now()
	await(t, recoverPatience, func(ctx context.Context) error {
		lease := &coordinationv1.Lease{}
		if err := api.Get(ctx, client.ObjectKey{Namespace: operator.Namespace, Name: presence.LeaseName(dispatchers[0].Name)}, lease); err != nil {
			return err
		}
		if renewed := lease.Spec.RenewTime; renewed == nil || renewed.Sub(stored) < seenWithin {
			return fmt.Errorf("the Lease was renewed at %v", renewed)
		}
		return nil
	})
}

// TestRollback: etcd is restored to an older state. Every program and replica notices, elected or not, and ends to be
// restarted. Then the restored state is in force. A Postback that was deleted meanwhile receives again, and one that
// was created meanwhile does not. A new Postback is Ready only once it receives.
func TestRollback(t *testing.T) {
	dumpOnFailure(t)
	const namespace = "rollback"
	spare, err := op.StartManager(t.Context(), "postback-manager-1", operator.WithArgs("--allow-plain-http"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := spare.Terminate(context.WithoutCancel(t.Context())); err != nil { // An orderly end leaves no Lease behind.
			t.Error(err)
		}
	})
	programs := append([]*operator.Process{manager, spare}, dispatchers...)
	source := newSource(namespace, newNamespace(t, namespace), dispatchers...)
	sink := startSink(t)
	deleted := postback(namespace, "deleted", sink.url("/deleted"), "deleted.created")
	create(t, postback(namespace, "kept", sink.url("/kept"), "kept.created"), deleted)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	if err := cp.Snapshot(snapshot); err != nil {
		t.Fatal(err)
	}

	for _, p := range programs {
		if err := p.RestartIfEnded(t.Context()); err != nil { // A manager ends if it cannot renew its Lease.
			t.Fatal(err)
		}
	}
	if err := api.Delete(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	create(t, postback(namespace, "younger", sink.url("/younger"), "younger.created"))
	postAll(t, source, sink, "younger.created", "younger")
	postAll(t, source, sink, "kept.created", "before")
	age(t)

	if err := cp.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	await(t, recoverPatience, func(context.Context) error {
		if i := slices.IndexFunc(programs, (*operator.Process).Running); i >= 0 {
			return fmt.Errorf("%s has not noticed, and still runs", programs[i].Name)
		}
		return nil
	})
	// The elected manager may have ended earlier, because it could not renew its Lease during the outage.
	noticed := func(p *operator.Process) bool { return strings.Contains(p.Log(), rollback.ErrRolledBack.Error()) }
	if !slices.ContainsFunc([]*operator.Process{manager, spare}, noticed) {
		t.Error("no manager says why it ended")
	}
	for _, p := range dispatchers {
		if !noticed(p) {
			t.Errorf("%s does not say why it ended", p.Name)
		}
	}
	if err := operator.RestartAll(t.Context(), programs...); err != nil {
		t.Fatal(err)
	}

	create(t, postback(namespace, "fresh", sink.url("/fresh"), "fresh.created"))
	postAll(t, source, sink, "fresh.created", "fresh")
	postAll(t, source, sink, "kept.created", "after")
	postAll(t, source, sink, "deleted.created", "restored")
	younger := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "younger"}}
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(younger), younger); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Postback that is younger than the snapshot: %v", err)
	}
	if err := source.post(t.Context(), 0, []posted{{ID: "nobody", Type: "younger.created", Data: json.RawMessage("{}")}}); err == nil {
		t.Error("an event was stored for a Postback that does not exist")
	}
}
