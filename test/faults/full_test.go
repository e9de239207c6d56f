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
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	fullNamespace = "full"
	// fullBytes bounds each stream of TestFullStream, and fullBody is the size of the events that fill it.
	fullBytes = 4 << 20
	fullBody  = 32 << 10
	// mostFull is more events than the streams have room for.
	mostFull = 2 * fullBytes / fullBody
	// healthyEvents is the number of events for the endpoint that is well.
	healthyEvents = 50
)

// TestFullStream: an endpoint does not answer, and its deliveries fill the streams. Ingest refuses further events for
// it as StreamFull. Events for another endpoint arrive meanwhile. Once the endpoint answers, each accepted event
// arrives once, and ingest accepts events again.
func TestFullStream(t *testing.T) {
	if !op.Streams() {
		return
	}
	dumpOnFailure(t)
	restartWith(t, fmt.Sprintf("--nats-max-bytes=%d", fullBytes))
	t.Cleanup(func() { restartWith(t) })
	source := newSource(fullNamespace, newNamespace(t, fullNamespace), dispatchers...)
	sink := startSink(t)
	sink.set(sink.silent, "/stuck", true)
	waitingPostback(t, sink, fullNamespace, "stuck", v1alpha1.PostbackEnabled)
	waitingPostback(t, sink, fullNamespace, "healthy", v1alpha1.PostbackEnabled)

	accepted := fillUp(t, source, "stuck")
	t.Logf("ingest refuses events after %d", accepted)
	healthy := fillFor(t, source, rand.New(rand.NewPCG(13, 14)), "healthy", healthyEvents)
	sink.waitFor(t, healthy, healthyEvents, arrivePatience)

	sink.set(sink.silent, "/stuck", false)
	began := time.Now()
	sink.waitFor(t, "stuck_", accepted, probePatience)
	awaitUnfinished(t, fullNamespace, 0)
	t.Logf("all arrived %s after the endpoint was back", time.Since(began).Round(time.Second))
	if err := source.post(t.Context(), 0, []posted{{ID: "stuck_again", Type: "stuck", CreatedAt: time.Now().UTC(), Data: json.RawMessage("{}")}}); err != nil {
		t.Fatal(err)
	}
	sink.waitFor(t, "stuck_", accepted+1, arrivePatience)
	awaitUnfinished(t, fullNamespace, 0)
	for path, want := range map[string]int{"/stuck": accepted + 1, "/healthy": healthyEvents} {
		if got := len(sink.goodOn(path)); got != want {
			t.Errorf("%d good answers on %s, want %d", got, path, want)
		}
	}
}

// fillUp posts events of a type, one after another, until ingest refuses one as StreamFull. It returns the number of
// accepted ones.
func fillUp(t *testing.T, s *source, name string) (accepted int) {
	t.Helper()
	data, err := json.Marshal(map[string]string{"text": strings.Repeat("x", fullBody)})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(loadPatience); accepted < mostFull && time.Now().Before(end); {
		body, err := json.Marshal(posted{ID: fmt.Sprintf("%s_%d", name, accepted), Type: name, CreatedAt: time.Now().UTC(), Data: data})
		if err != nil {
			t.Fatal(err)
		}
		var fatal *refusedError
		switch err := s.try(t.Context(), dispatchers[accepted%len(dispatchers)], body); {
		case err == nil:
			accepted++
		case strings.Contains(err.Error(), string(intake.StreamFull)):
			return accepted
		case errors.As(err, &fatal):
			t.Fatal(err)
		default:
			pause(t.Context(), postPause)
		}
	}
	t.Fatalf("ingest refuses none of %d events of %d bytes for streams of %d bytes", accepted, fullBody, fullBytes)
	return 0
}

// restartWith restarts the dispatchers in order with additional arguments, in place of those of the last call.
func restartWith(t *testing.T, args ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, p := range dispatchers {
		if code, err := p.Terminate(ctx); err != nil || code != 0 {
			t.Fatalf("%s ended with exit code %d: %v", p.Name, code, err)
		}
		p.SetArgs(args...)
	}
	if err := operator.RestartAll(ctx, dispatchers...); err != nil {
		t.Fatal(err)
	}
}
