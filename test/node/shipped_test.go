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

package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// restricted are lines of /proc/PID/status of a process under the profile restricted.
var restricted = []string{"Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}

// TestShippedPodsAreRestricted checks that the Pods run under the profile restricted, which the API server enforces,
// and that the kernel reports the same for each process.
func TestShippedPodsAreRestricted(t *testing.T) {
	var namespace corev1.Namespace
	if err := api.Get(t.Context(), client.ObjectKey{Name: system}, &namespace); err != nil {
		t.Fatal(err)
	}
	if got := namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Fatalf("namespace %s enforces %q", system, got)
	}
	running, err := pods(t.Context(), "postback-manager", "postback-dispatcher")
	if err != nil {
		t.Fatal(err)
	}
	// Processes of replaced Pods may have ended.
	running = slices.DeleteFunc(running, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(running) < 3 {
		t.Fatalf("%d Pods run", len(running))
	}
	for i := range running {
		status := processStatus(t, processOf(t, &running[i]))
		for _, line := range restricted {
			if !strings.Contains(status, "\n"+line+"\n") {
				t.Errorf("%s runs without %q:\n%s", running[i].Name, line, status)
			}
		}
	}
}

// TestEventThroughTheService posts an event by the name of ingest's Service, and sees it arrive, signed.
func TestEventThroughTheService(t *testing.T) {
	p := production{name: "first", events: 1, tries: 5, rate: 1}
	p.start(t)
	produced := p.finish(t, patience)
	if produced.Accepted != 1 {
		t.Fatalf("the event was not accepted: %+v", produced)
	}
	began := time.Now()
	if again := p.arrived(t, patience); again != 0 {
		t.Errorf("the event arrived %d times more", again)
	}
	figure("one event posted in", produced.Max)
	figure("and seen to have arrived after", time.Since(began))
}
