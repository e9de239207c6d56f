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
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/dispatcher/lane"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of what is killed, and how; 0 takes one at random")
	events = flag.Int("events", 12000, "events that are posted while Pods are killed")
	rate   = flag.Float64("rate", 200, "how many of them a second")
	kills  = flag.Int("kills", 10, "Pods that are killed meanwhile")
)

// postTries bounds a producer's tries to post an event. Together with the pauses they last longer than the kernel,
// kube-proxy and the other replica need to take over.
const postTries = 30

// These are faults of a Pod that its process does not notice before it ends.
const (
	processKilled = "process killed"
	deletedAtOnce = "deleted at once"
)

// refusedShare means that the endpoint refuses one of this many requests, so that retries are at risk, too.
const refusedShare = 50

// TestRolloutAndKillsLoseNothing posts events while the dispatcher is rolled out, Pods of both parts are killed, and
// the endpoint refuses some requests. Every event is accepted, after retries, and arrives. It is test/faults with
// Pods.
func TestRolloutAndKillsLoseNothing(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))

	p := production{name: "load", events: *events, tries: postTries, rate: *rate}
	// The refusals are all among the first quarter of the events. An event that is refused three times would wait for
	// half an hour.
	refuse(t, *events/refusedShare, refusedShare/4)
	p.start(t)
	length := time.Duration(float64(*events) / *rate * float64(time.Second))
	deadline := time.Now().Add(length)
	pause(t, length/10)
	began := time.Now()
	mustKubectl(t, "", "-n", system, "rollout", "restart", "deployment/postback-dispatcher", "deployment/postback-manager")
	rolledOut(t, "postback-dispatcher")
	rolledOut(t, "postback-manager")
	figure("rolling update of both parts under load", time.Since(began))
	counts := map[string]int{}
	for i := range *kills {
		counts[killOne(t, random)]++
		// The last kill is over before the events end.
		pause(t, max(0, time.Until(deadline)-length/20)/time.Duration(*kills-i))
	}
	produced := p.finish(t, length+5*time.Minute)
	figure("Pods killed", counts)
	figure("events posted, a second", fmt.Sprintf("%d, %.0f", produced.Accepted+len(produced.Refused), float64(*events)/produced.Posting.Seconds()))
	figure("accepted, refused for good", fmt.Sprintf("%d, %d", produced.Accepted, len(produced.Refused)))
	figure("requests that were retried, by their failure", produced.Retries)
	figure("most tries for one event", produced.MostTries)
	figure("accepted requests: median, p99, longest", fmt.Sprint(produced.Median.Round(time.Millisecond), produced.P99.Round(time.Millisecond), produced.Max.Round(time.Millisecond)))
	if len(produced.Refused) > 0 || produced.Accepted != *events {
		t.Errorf("%d of %d events were not accepted: %v", len(produced.Refused), *events, produced.Refused)
	}
	settled := time.Now()
	again := p.arrived(t, 5*time.Minute)
	figure("all had arrived after the last was posted", time.Since(settled))
	figure("lost, accepted more than once", fmt.Sprintf("0, %d", again))
	got, err := received(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	figure("refused by the endpoint, and delivered by a retry", got.Refused)
	if got.Refused < *events/refusedShare {
		t.Errorf("the endpoint refused %d requests, not %d", got.Refused, *events/refusedShare)
	}
	// Only unrecorded attempts of a killed dispatcher are repeated. Their number grows with the time that the API
	// server needs for a record, up to a bound.
	died := counts["dispatcher "+processKilled] + counts["dispatcher "+deletedAtOnce]
	if most := died * lane.DefaultMaxInFlight; again > most {
		t.Errorf("%d events were accepted more than once: %d kills of dispatchers explain %d at most", again, died, most)
	}
	rolledOut(t, "postback-dispatcher")
	rolledOut(t, "postback-manager")
}

// killOne kills a Pod of the installation, in two of three cases a dispatcher's, and returns what it did. It kills
// the process, which the kubelet restarts in the same Pod, or deletes the Pod, with or without grace period.
func killOne(t *testing.T, random *rand.Rand) string {
	t.Helper()
	part := "postback-dispatcher"
	if random.IntN(3) == 0 {
		part = "postback-manager"
	}
	how := []string{processKilled, deletedAtOnce, "deleted"}[random.IntN(3)]
	await(t, patience, func(ctx context.Context) error {
		found, err := pods(ctx, part)
		if err != nil {
			return err
		}
		found = ready(found)
		if len(found) == 0 {
			return errors.New("no Pod of " + part + " is ready")
		}
		pod := found[random.IntN(len(found))]
		switch how {
		case processKilled:
			id, err := findProcess(&pod)
			if err != nil {
				return err
			}
			return syscall.Kill(id, syscall.SIGKILL)
		case deletedAtOnce:
			return api.Delete(ctx, &pod, &client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		}
		return api.Delete(ctx, &pod)
	})
	return part[len("postback-"):] + " " + how
}

// ready returns the ready Pods that are not being deleted.
func ready(all []corev1.Pod) []corev1.Pod {
	var found []corev1.Pod
	for i := range all {
		if all[i].DeletionTimestamp == nil && condition(&all[i], corev1.PodReady) == corev1.ConditionTrue {
			found = append(found, all[i])
		}
	}
	return found
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// pause lets the load continue for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
