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
	"slices"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	blackhole = "/blackhole"
	// healthyRate is the rate of events for the healthy endpoints, in events per second, well below the capacity of
	// the machine.
	healthyRate = 50
	// measurements bounds the repeats, because other load on the machine disturbs a measurement.
	measurements = 3
	loadPatience = 5 * time.Minute
)

// TestBlackhole: an endpoint with a backlog that takes requests and never answers does not slow down its neighbours.
func TestBlackhole(t *testing.T) {
	dumpOnFailure(t)
	const namespace = "blackhole"
	random := rand.New(rand.NewPCG(1, 1))
	source := newSource(namespace, newNamespace(t, namespace), dispatchers...)
	sink := startSink(t)
	sink.set(sink.silent, blackhole, true)
	var postbacks []*v1alpha1.Postback
	for i := range *endpoints {
		name := fmt.Sprintf("healthy-%d", i)
		postbacks = append(postbacks, postback(namespace, name, sink.url("/"+name), v1alpha1.Trigger(name)))
	}
	create(t, postbacks...)

	measure := func(phase string) (p50, p99 time.Duration) {
		t.Helper()
		return latency(t, source, sink, random, phase)
	}
	// The first measurement includes the set-up, so it does not count.
	measure("warm-up")
	for round := range measurements {
		_, before := measure(fmt.Sprintf("before-%d", round))
		hole := fill(t, source, sink, random, namespace, round)
		median, beside := measure(fmt.Sprintf("beside-%d", round))
		requests := sink.badOn(blackhole)
		empty(t, hole)
		_, after := measure(fmt.Sprintf("after-%d", round))
		ratio := float64(beside) / float64(max(before, after))
		t.Logf("%d endpoints at %d events/s: p99 from ingest to arrival %s before, %s (median %s) beside %d deliveries for one that does not answer (%d attempts), %s after: ratio %.2f",
			*endpoints, healthyRate, ms(before), ms(beside), ms(median), *backlog, requests, ms(after), ratio)
		if ratio <= *maxRatio {
			return
		}
	}
	t.Errorf("in %d measurements an endpoint that does not answer made its neighbours more than %g times slower", measurements, *maxRatio)
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// fill creates a Postback for an endpoint that never answers, with a backlog.
func fill(t *testing.T, s *source, sink *sink, random *rand.Rand, namespace string, round int) *v1alpha1.Postback {
	t.Helper()
	hole := postback(namespace, fmt.Sprintf("blackhole-%d", round), sink.url(blackhole), "blackhole")
	create(t, hole)
	err := s.load(t.Context(), random, *backlog, 1000, func(i int) posted {
		return posted{ID: fmt.Sprintf("hole_%d_%d", round, i), Type: "blackhole", Data: json.RawMessage("{}")}
	})
	if err != nil {
		t.Fatal(err)
	}
	await(t, startPatience, func(ctx context.Context) error {
		left, err := unfinished(ctx, namespace)
		if err == nil && left < *backlog {
			err = fmt.Errorf("%d deliveries are waiting, not %d", left, *backlog)
		}
		return err
	})
	return hole
}

// empty deletes the Postback of fill, and waits until its deliveries are gone.
func empty(t *testing.T, hole *v1alpha1.Postback) {
	t.Helper()
	if err := api.Delete(t.Context(), hole); err != nil {
		t.Fatal(err)
	}
	await(t, loadPatience, func(ctx context.Context) error {
		left, err := unfinished(ctx, hole.Namespace)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d deliveries are left", left)
		}
		return err
	})
}

// latency posts events for the healthy endpoints, one per request. It returns quantiles of the time from the begin of
// the accepted request to the arrival.
func latency(t *testing.T, s *source, sink *sink, random *rand.Rand, phase string) (p50, p99 time.Duration) {
	t.Helper()
	err := s.load(t.Context(), random, *samples, healthyRate, func(i int) posted {
		name := fmt.Sprintf("healthy-%d", i%*endpoints)
		return posted{ID: fmt.Sprintf("%s_%d", phase, i), Type: name, Data: json.RawMessage("{}")}
	})
	if err != nil {
		t.Fatal(err)
	}
	arrived := sink.waitFor(t, phase+"_", *samples, loadPatience)
	var took []time.Duration
	for id, at := range arrived {
		took = append(took, at.Sub(s.postedAt(id)))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}
