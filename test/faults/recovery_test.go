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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	recovering = "/recovering"
	// recoveryRate is spec.limits.perSecond of the endpoint that recovers.
	recoveryRate = 200
	// firstRate is the rate in the first second after an outage. It doubles each second.
	firstRate = 5
	// probePatience bounds the time until the next probe of an endpoint that has been in trouble for minutes.
	probePatience = 6 * time.Minute
)

// TestRecovery: many deliveries are due when an endpoint recovers. All arrive, at a rising rate within the limits.
func TestRecovery(t *testing.T) {
	dumpOnFailure(t)
	const namespace = "recovery"
	source := newSource(namespace, newNamespace(t, namespace), dispatchers...)
	sink := startSink(t)
	sink.set(sink.failing, recovering, true)
	p := postback(namespace, "recovering", sink.url(recovering), "*")
	p.Spec.Limits = &v1alpha1.Limits{PerSecond: ptr.To[int32](recoveryRate)}
	// The timeout is long, so that a response which a busy machine delays by some seconds causes no duplicate.
	p.Spec.Timeout = &metav1.Duration{Duration: 30 * time.Second}
	create(t, p)
	err := source.load(t.Context(), rand.New(rand.NewPCG(1, 2)), *backlog, 1000, func(i int) posted {
		return posted{ID: fmt.Sprintf("due_%d", i), Type: "lead.created", Data: json.RawMessage("{}")}
	})
	if err != nil {
		t.Fatal(err)
	}
	failed := sink.badOn(recovering)
	t.Logf("%d deliveries are due; the endpoint has seen %d requests while it failed", *backlog, failed)
	if failed > *backlog/10 {
		t.Errorf("an endpoint in trouble got %d requests", failed)
	}

	sink.set(sink.failing, recovering, false)
	sink.waitFor(t, "due_", *backlog, probePatience)
	perSecond := histogram(sink.goodOn(recovering))
	t.Logf("requests in each second since it came back: %v", perSecond)
	checkRising(t, perSecond)
	await(t, startPatience, func(ctx context.Context) error {
		left, err := unfinished(ctx, namespace)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d are not on record as delivered", left)
		}
		return err
	})
	if got := len(sink.goodOn(recovering)); got != *backlog {
		t.Errorf("%d requests for %d events", got, *backlog)
	}
}

// histogram counts times by full seconds since the first.
func histogram(times []time.Time) []int {
	var counts []int
	for _, at := range times {
		second := int(at.Sub(times[0]) / time.Second)
		for len(counts) <= second {
			counts = append(counts, 0)
		}
		counts[second]++
	}
	return counts
}

// checkRising checks that each second has at most twice the rate of the previous one, up to the limit. A second of
// the endpoint may overlap two seconds of the dispatcher, and a busy machine may delay requests by a second.
func checkRising(t *testing.T, perSecond []int) {
	t.Helper()
	allowed, sum, before, most := 0, 0, 0, firstRate
	for second, got := range perSecond {
		sum += got
		allowed += most
		most = min(2*most, recoveryRate)
		if sum > allowed+most {
			t.Errorf("%d requests in the first %d seconds, more than %d", sum, second+1, allowed+most)
		}
		if got+before > 2*recoveryRate+recoveryRate/4 {
			t.Errorf("%d requests in the two seconds to second %d, beyond spec.limits.perSecond of %d", got+before, second, recoveryRate)
		}
		before = got
	}
	if n := len(perSecond); n < 4 || slices.Max(perSecond[3:]) <= perSecond[0] {
		t.Errorf("the rate does not rise: %v", perSecond)
	}
}
