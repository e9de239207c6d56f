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
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	faultsNamespace = "faults"
	// roundTime is the approximate duration of a round of faults, over which its events are spread.
	roundTime = 50 * time.Second
	// finishPatience bounds the time in which the remaining events must arrive.
	finishPatience = 4 * time.Minute
	// maxPerFault bounds the duplicates of one fault: all attempts in flight of two replicas.
	maxPerFault = 2 * 16 * 8
	pageSize    = 500
	// listed is the number of problems that are printed.
	listed = 30
)

// TestFaults posts events to endpoints that fail in every way. Meanwhile dispatchers and manager are killed, the API
// server and etcd are stopped, and Leases are deleted and expire. In the end each event must have arrived, none
// before its time and each as recorded, and each duplicate must have a reason.
func TestFaults(t *testing.T) {
	dumpOnFailure(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d: %d rounds, %d events", *seed, *rounds, *events)
	random := rand.New(rand.NewPCG(*seed, 0))
	source := newSource(faultsNamespace, newNamespace(t, faultsNamespace), dispatchers...)
	open := startEndpoints(t, random)
	harm := &chaos{random: rand.New(rand.NewPCG(*seed, 1))}

	began := time.Now()
	for round := range *rounds {
		t.Logf("round %d of %d", round+1, *rounds)
		runRound(t, source, harm, random, round)
	}
	t.Logf("all posted after %s; requests that were not accepted and sent again: %d", time.Since(began).Round(time.Second), source.refused)
	for _, e := range open {
		e.calmDown()
	}
	asked := finish(t, faultsNamespace, slices.Sorted(maps.Keys(open)))
	judgeAll(t, source, open, harm, asked)
}

// judgeAll compares the arrivals with the records, and fails the test if a rule is violated.
func judgeAll(t *testing.T, s *source, open map[string]*endpoint, harm *chaos, asked time.Time) {
	t.Helper()
	v := judge(evidence{
		accepted: s.accepted, arrivals: arrivalsOf(open), deliveries: listDeliveries(t, s.namespace), faults: harm.faults, stream: op.Streams(), asked: asked,
	})
	report(t, v, harm.faults)
	if limit := maxPerFault * len(harm.faults); v.duplicates > limit {
		t.Errorf("%d duplicates are more than the %d that %d faults may cause", v.duplicates, limit, len(harm.faults))
	}
}

// runRound posts the events of a round while faults are caused.
func runRound(t *testing.T, s *source, harm *chaos, random *rand.Rand, round int) {
	t.Helper()
	names := slices.Sorted(maps.Keys(tempers))
	n := *events / *rounds
	harmed := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		err := harm.round(ctx, t.Logf)
		if err != nil {
			cancel(err) // The installation may accept no further event.
		}
		harmed <- err
	}()
	err := s.load(ctx, random, n, float64(n)/roundTime.Seconds(), func(i int) posted {
		id := fmt.Sprintf("evt_%d_%d", round, i)
		data := fmt.Sprintf(`{"id":%q,"n":%d.0,"text":"Zoë <&>"}`, id, i)
		e := posted{ID: id, Type: names[random.IntN(len(names))] + ".created", Data: json.RawMessage(data)}
		if op.Streams() {
			e.CreatedAt = time.Now().UTC()
		}
		return e
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-harmed; err != nil {
		t.Fatal(err)
	}
}

// startEndpoints starts an endpoint for each temper, with a Postback that gets the events of its name.
func startEndpoints(t *testing.T, random *rand.Rand) map[string]*endpoint {
	t.Helper()
	all := map[string]*endpoint{}
	var postbacks []*v1alpha1.Postback
	for i, name := range slices.Sorted(maps.Keys(tempers)) {
		e, err := startEndpoint(t.Context(), name, rand.New(rand.NewPCG(random.Uint64(), uint64(i))).Float64)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.close() })
		all[name] = e
		postbacks = append(postbacks, postback(faultsNamespace, name, e.url(), v1alpha1.Trigger(name+".created")))
	}
	create(t, postbacks...)
	verifyAll(t, faultsNamespace, all)
	down := all["down"]
	flapping, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- down.flap(flapping, 11*time.Second, 4*time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return all
}

// verifyAll makes endpoints check signatures with the keys of their Postbacks.
func verifyAll(t *testing.T, namespace string, all map[string]*endpoint) {
	t.Helper()
	for name, e := range all {
		secret := &corev1.Secret{}
		if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
			t.Fatal(err)
		}
		var err error
		if e.verifies, err = verifier(string(secret.Data[v1alpha1.SigningKeyName])); err != nil {
			t.Fatal(err)
		}
	}
}

// postback returns a Postback that keeps all of its deliveries.
func postback(namespace, name, url string, triggers ...v1alpha1.Trigger) *v1alpha1.Postback {
	const all = 10000
	return &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.PostbackSpec{
			URL: url, Triggers: triggers, Timeout: &metav1.Duration{Duration: timeout},
			History: &v1alpha1.History{Delivered: ptr.To[int32](all), Failed: ptr.To[int32](all)},
		},
	}
}

// finish leaves failed deliveries to their schedule for a while, then requests a redelivery of the rest, and waits
// until all are delivered. asked is the time of that request.
func finish(t *testing.T, namespace string, names []string) (asked time.Time) {
	t.Helper()
	settled := time.Now().Add(*settle)
	for time.Now().Before(settled) {
		if left, err := unfinished(t.Context(), namespace); err == nil && left == 0 {
			return asked
		}
		pause(t.Context(), time.Second)
	}
	left, err := unfinished(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after %s, %d are left to be retried: asking for them by redeliver-since", *settle, left)
	asked = time.Now()
	for _, name := range names {
		p := &v1alpha1.Postback{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"24h"}}}`, v1alpha1.RedeliverSinceAnnotation)
		if err := api.Patch(t.Context(), p, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	await(t, finishPatience, func(ctx context.Context) error {
		if err := manager.RestartIfEnded(ctx); err != nil {
			return err
		}
		left, err := unfinished(ctx, namespace)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d deliveries are not delivered", left)
		}
		return err
	})
	t.Logf("all are delivered %s later", time.Since(asked).Round(time.Second))
	return asked
}

func arrivalsOf(open map[string]*endpoint) map[string][]*arrival {
	all := map[string][]*arrival{}
	for _, e := range open {
		for _, a := range e.received() {
			all[a.id] = append(all[a.id], a)
		}
	}
	return all
}

// listDeliveries returns all deliveries by event id: PostbackDeliveries and entries of the delivery log.
func listDeliveries(t *testing.T, namespace string) map[string]*v1alpha1.PostbackDelivery {
	t.Helper()
	all := map[string]*v1alpha1.PostbackDelivery{}
	list := &v1alpha1.PostbackDeliveryList{}
	for more := true; more; more = list.Continue != "" {
		if err := api.List(t.Context(), list, client.InNamespace(namespace), client.Limit(pageSize), client.Continue(list.Continue)); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			all[list.Items[i].Spec.Event.ID] = list.Items[i].DeepCopy()
		}
	}
	logged, err := op.Logged(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	for i := range logged {
		id := logged[i].Spec.Event.ID
		all[id] = together(all[id], &logged[i])
	}
	return all
}

// together merges an entry of the delivery log into a PostbackDelivery or another entry of the same event. Several
// exist only if the stream delivered the message again.
func together(d, logged *v1alpha1.PostbackDelivery) *v1alpha1.PostbackDelivery {
	if d == nil {
		return logged
	}
	d.Status.Attempts = append(d.Status.Attempts, logged.Status.Attempts...)
	slices.SortFunc(d.Status.Attempts, func(a, b v1alpha1.Attempt) int { return a.Time.Compare(b.Time.Time) })
	d.Status.AttemptCount += logged.Status.AttemptCount
	return d
}

// report prints the figures, and fails the test if a rule is violated.
func report(t *testing.T, v *verdict, faults []fault) {
	t.Helper()
	kinds := map[faultKind]int{}
	for _, f := range faults {
		kinds[f.kind]++
	}
	var text strings.Builder
	line := func(what string, value any) { fmt.Fprintf(&text, "  %-34s %v\n", what, value) }
	line("accepted", v.accepted)
	line("delivered", v.delivered)
	line("lost", v.lost)
	line("requests that arrived", v.arrivals)
	line("attempts on record", v.attempts)
	line("  of which overlapped another", v.overlaps)
	line("  answered in time, seen too late", v.seenLate)
	line("  timed out for want of CPU", v.starved)
	line("requests without a record", v.unrecorded)
	line("duplicates", v.duplicates)
	for _, reason := range slices.Sorted(maps.Keys(v.reasons)) {
		line("  "+reason, v.reasons[reason])
	}
	line("attempts before their time", v.early)
	line("  taken over, as the log says", v.takenOver)
	line("  given out again by the stream", v.givenAgain)
	line("log differs from what arrived", v.different)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		line("faults: "+string(kind), kinds[kind])
	}
	t.Logf("the figures (seed %d):\n%s", *seed, text.String())
	// A machine short of CPU explains a few cases; a fault of the operator would cause many.
	for what, n := range map[string]int{"given out again by the stream while they were attempted": v.givenAgain, "timed out without the endpoint's doing": v.starved} {
		if most := 1 + v.accepted/300; n > most {
			t.Errorf("%d were %s, more than %d", n, what, most)
		}
	}
	for i, problem := range v.problems {
		if i == listed {
			t.Errorf("and %d more", len(v.problems)-listed)
			break
		}
		t.Error(problem)
	}
}
