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
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestOutOfMemoryLosesNothing takes the memory of a dispatcher away while events are posted. The kernel kills it, the
// kubelet restarts it, and every event arrives.
func TestOutOfMemoryLosesNothing(t *testing.T) {
	p := production{name: "oom", events: 3000, tries: postTries, rate: 100}
	p.start(t)
	victim := chooseDispatcher(t)
	group := memoryGroup(t, processOf(t, victim))
	await(t, patience, func(ctx context.Context) error {
		if err := shrink(group); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		var pod corev1.Pod
		if err := api.Get(ctx, client.ObjectKeyFromObject(victim), &pod); err != nil {
			return err
		}
		if last := pod.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.Reason != "OOMKilled" {
			return fmt.Errorf("the dispatcher was not killed: %+v", pod.Status.ContainerStatuses[0])
		}
		return nil
	})
	began := time.Now()
	produced := p.finish(t, 5*time.Minute)
	if len(produced.Refused) > 0 {
		t.Errorf("%d events were not accepted: %v", len(produced.Refused), produced.Refused)
	}
	again := p.arrived(t, 5*time.Minute)
	figure("a dispatcher was OOMKilled; lost, sent again", fmt.Sprintf("0, %d", again))
	figure("all had arrived after the kill", time.Since(began))
	figure("requests that were retried", produced.Retries)
	rolledOut(t, "postback-dispatcher")
}

func chooseDispatcher(t *testing.T) *corev1.Pod {
	t.Helper()
	var chosen *corev1.Pod
	await(t, patience, func(ctx context.Context) error {
		found, err := pods(ctx, "postback-dispatcher")
		if err != nil {
			return err
		}
		if found = ready(found); len(found) == 0 {
			return errors.New("no dispatcher is ready")
		}
		chosen = &found[0]
		return nil
	})
	return chosen
}

// shrink limits a control group to its present memory usage.
func shrink(group string) error {
	usage, err := os.ReadFile(filepath.Join(group, "memory.usage_in_bytes"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strings.TrimSpace(string(usage))), 0o600)
}

// TestDrainLeavesADispatcher drains the only node while events are posted. The shipped disruption budgets keep the
// last Pod of each part, and thus ingest.
func TestDrainLeavesADispatcher(t *testing.T) {
	t.Cleanup(func() { _, _ = kubectl(context.Background(), "", "uncordon", "node") })

	p := production{name: "drain", events: 2000, tries: postTries, rate: 50}
	p.start(t)
	mustKubectl(t, "", "-n", partner, "wait", "--for=jsonpath={.status.phase}=Running", "--timeout=60s", "pod/"+p.name)
	_, err := kubectl(t.Context(), "", "drain", "node", "--ignore-daemonsets", "--timeout=30s",
		"--pod-selector=app.kubernetes.io/name in (postback-manager,postback-dispatcher)")
	if err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Fatalf("the drain was not kept from the last dispatcher: %v", err)
	}
	for _, part := range deployments {
		left, err := pods(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		if len(ready(left)) != 1 {
			t.Errorf("%d Pods of %s are ready on the drained node, want 1", len(ready(left)), part)
		}
	}
	produced := p.finish(t, 3*time.Minute)
	if len(produced.Refused) > 0 {
		t.Errorf("%d events were not accepted: %v", len(produced.Refused), produced.Refused)
	}
	again := p.arrived(t, 3*time.Minute)
	figure("drain; refused for good, lost, sent again", fmt.Sprintf("%d, 0, %d", len(produced.Refused), again))
	figure("requests that were retried", produced.Retries)
	mustKubectl(t, "", "uncordon", "node")
	rolledOut(t, "postback-dispatcher")
	rolledOut(t, "postback-manager")
}
