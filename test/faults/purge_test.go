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
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// These are the namespaces of TestPurge. One loses a Postback, the other is deleted.
const (
	purgeNamespace = "purge"
	endedNamespace = "purge-all"
	// purgeRate is in events per second.
	purgeRate = 400
)

// waitingPostback creates a Postback whose endpoint has the path of its name.
func waitingPostback(t *testing.T, sink *sink, namespace, name string, state v1alpha1.PostbackState) *v1alpha1.Postback {
	t.Helper()
	p := postback(namespace, name, sink.url("/"+name), v1alpha1.Trigger(name))
	p.Spec.State = state
	create(t, p)
	return p
}

// fillFor posts events of a type and returns the prefix of their ids.
func fillFor(t *testing.T, s *source, random *rand.Rand, name string, n int) (prefix string) {
	t.Helper()
	err := s.load(t.Context(), random, n, purgeRate, func(i int) posted {
		return posted{ID: fmt.Sprintf("%s_%d", name, i), Type: name, CreatedAt: time.Now().UTC(), Data: json.RawMessage("{}")}
	})
	if err != nil {
		t.Fatal(err)
	}
	return name + "_"
}

// TestPurge: Postbacks with waiting deliveries are deleted, one alone and others with their namespace, while a
// dispatcher is killed. None of their deliveries is left or arrives later, not even at new Postbacks of the same
// names. Deliveries of another Postback arrive once.
func TestPurge(t *testing.T) {
	dumpOnFailure(t)
	random := rand.New(rand.NewPCG(11, 12))
	source := newSource(purgeNamespace, newNamespace(t, purgeNamespace), dispatchers...)
	doomed := newSource(endedNamespace, newNamespace(t, endedNamespace), dispatchers...)
	sink := startSink(t)
	paths := []string{"/down", "/ended-down", "/ended-paused"}
	sink.set(sink.failing, "/down", true)
	sink.set(sink.failing, "/ended-down", true)
	deleted := waitingPostback(t, sink, purgeNamespace, "down", v1alpha1.PostbackEnabled)
	kept := waitingPostback(t, sink, purgeNamespace, "kept", v1alpha1.PostbackPaused)
	waitingPostback(t, sink, endedNamespace, "ended-down", v1alpha1.PostbackEnabled)
	waitingPostback(t, sink, endedNamespace, "ended-paused", v1alpha1.PostbackPaused)
	fillFor(t, source, random, "down", *purged)
	keptIDs := fillFor(t, source, random, "kept", *purged)
	fillFor(t, doomed, random, "ended-down", *purged)
	fillFor(t, doomed, random, "ended-paused", *purged)
	for namespace, want := range map[string]int{purgeNamespace: 2 * *purged, endedNamespace: 2 * *purged} {
		awaitUnfinished(t, namespace, want)
	}

	if err := api.Delete(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	deleteNamespace(t, endedNamespace)
	harm := &chaos{random: random}
	if err := harm.kill(t.Context(), dispatchers[0]); err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]int{purgeNamespace: *purged, endedNamespace: 0} {
		awaitUnfinished(t, namespace, want)
	}

	for _, path := range paths {
		sink.set(sink.failing, path, false)
	}
	setState(t, kept, v1alpha1.PostbackEnabled)
	sink.waitFor(t, keptIDs, *purged, arrivePatience)
	// The new Postback of the same name gets only its own events.
	waitingPostback(t, sink, purgeNamespace, "down", v1alpha1.PostbackEnabled)
	if err := source.post(t.Context(), 0, []posted{{ID: "again_0", Type: "down", Data: json.RawMessage("{}")}}); err != nil {
		t.Fatal(err)
	}
	sink.waitFor(t, "again_", 1, arrivePatience)
	awaitUnfinished(t, purgeNamespace, 0)
	for path, want := range map[string]int{"/down": 1, "/ended-down": 0, "/ended-paused": 0, "/kept": *purged} {
		if got := len(sink.goodOn(path)); got != want {
			t.Errorf("%d good answers on %s, want %d", got, path, want)
		}
	}
	if requests := sink.badOn("/ended-paused"); requests > 0 {
		t.Errorf("%d requests for a paused Postback", requests)
	}
}

// awaitUnfinished waits until this number of a namespace's deliveries is unfinished.
func awaitUnfinished(t *testing.T, namespace string, want int) {
	t.Helper()
	began := time.Now()
	await(t, loadPatience, func(ctx context.Context) error {
		if err := manager.RestartIfEnded(ctx); err != nil {
			return err
		}
		left, err := unfinished(ctx, namespace)
		if err == nil && left != want {
			err = fmt.Errorf("%d deliveries are unfinished in %s, want %d", left, namespace, want)
		}
		return err
	})
	t.Logf("%d deliveries were unfinished in %s after %s", want, namespace, time.Since(began).Round(time.Second))
}

// deleteNamespace deletes a namespace with its objects, as the controllers of a cluster do.
func deleteNamespace(t *testing.T, name string) {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := api.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func setState(t *testing.T, p *v1alpha1.Postback, state v1alpha1.PostbackState) {
	t.Helper()
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		t.Fatal(err)
	}
	before := p.DeepCopy()
	p.Spec.State = state
	if err := api.Patch(t.Context(), p, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
