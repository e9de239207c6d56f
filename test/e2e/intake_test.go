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

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// onlyKubernetes skips a test of behaviour that differs with the JetStream intake. instead names the test of that
// behaviour.
func onlyKubernetes(t *testing.T, instead string) {
	t.Helper()
	if op.NATS != nil {
		t.Skipf("with the intake JetStream there is %s instead", instead)
	}
}

// onlyJetStream skips a test that needs the JetStream intake.
func onlyJetStream(t *testing.T) {
	t.Helper()
	if op.NATS == nil {
		t.Skipf("it is about the intake JetStream, which %s=jetstream chooses", operator.IntakeVariable)
	}
}

// object returns the PostbackDelivery of a delivery that may be only in the delivery log. A dispatcher restores it,
// with the token of an editor, as for the plugin before a redelivery.
func (n *tenant) object(d *v1alpha1.PostbackDelivery, by *operator.Process) *v1alpha1.PostbackDelivery {
	n.t.Helper()
	if d.UID != "" {
		return d
	}
	if n.editor == "" {
		const editor = "editor"
		n.kubectl("create", "serviceaccount", editor)
		n.kubectl("create", "rolebinding", editor, "--clusterrole=postback-editor", "--serviceaccount="+n.namespace+":"+editor)
		config, err := cp.ServiceAccountConfig(n.t.Context(), n.namespace, editor)
		if err != nil {
			n.t.Fatal(err)
		}
		n.editor = config.BearerToken
	}
	url := by.IngestURL() + "/v1/namespaces/" + n.namespace + "/deliveries/" + d.Name + "/restore"
	request, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+n.editor)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	restored := &v1alpha1.PostbackDelivery{}
	if err := json.Unmarshal(body, restored); err != nil || response.StatusCode != http.StatusCreated {
		n.t.Fatalf("the dispatcher answers %s (%v): %s", response.Status, err, body)
	}
	return restored
}

// streamFiles returns the content of NATS's files. In a cluster it reads one server, because each has all messages.
func streamFiles(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(op.Dir, "nats1"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// objects counts the PostbackDeliveries of the namespace.
func (n *tenant) objects() int {
	n.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	if err := api.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		n.t.Fatal(err)
	}
	return len(list.Items)
}

// TestStreamOutlivesTheAPIServer: a success needs no API server if the producer was authorised shortly before. A
// failure is recorded once the API server is back.
func TestStreamOutlivesTheAPIServer(t *testing.T) {
	onlyJetStream(t)
	awaitNamespacesGone(t) // For the reason in TestAPIServerOutage.
	n := newTenant(t)
	n.postback("crm")
	n.post(lead("evt_before"))
	n.waitPhase("evt_before", v1alpha1.DeliveryDelivered, 1)
	if err := cp.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	n.endpoint.Answer(hooks, receiver.Answer{Times: 5}, unavailable(1))
	for i := range 5 {
		n.post(lead(fmt.Sprintf("evt_outage_%d", i)))
		n.wait(2 + i)
	}
	n.post(lead("evt_fails"))
	n.wait(7)
	if err := cp.StartAPIServer(); err != nil {
		t.Fatal(err)
	}
	d := n.waitPhase("evt_fails", v1alpha1.DeliveryDelivered, 2)
	if first := d.Status.Attempts[0]; first.Outcome != v1alpha1.OutcomeFailed5xx {
		t.Errorf("the first attempt is recorded as %+v", first)
	}
	n.waitDelivered(7)
	if requests, objects := n.wait(8), n.objects(); len(requests) != 8 || objects != 1 {
		t.Errorf("%d requests and %d PostbackDeliveries, want 8 and 1", len(requests), objects)
	}
}

// suspend stops a child process and returns once all its threads have stopped. wait(2) reports that some time after
// kill(2) returns.
func suspend(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping process %d: %w", pid, err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for process %d to stop: %w", pid, err)
		case !status.Stopped():
			return fmt.Errorf("process %d has ended instead of stopping: %v", pid, status)
		default:
			return nil
		}
	}
}

// TestDispatcherCrashBesideTheStream kills a dispatcher that has no acknowledgement for the store of one event and
// for the log entry of another's success. Then it kills NATS, too. The producer posts unaccepted events again.
func TestDispatcherCrashBesideTheStream(t *testing.T) {
	onlyJetStream(t)
	n := newTenant(t)
	without(t, dispatcher)
	victim := startDispatcher(t, "postback-dispatcher-victim")
	n.postback("crm")
	var running []int // The endpoint's goroutine cannot read them later: the servers are restarted below.
	for _, node := range op.NATS.Nodes {
		running = append(running, node.PID())
	}
	stopped := make(chan struct{})
	stop := func(*receiver.Request) {
		defer close(stopped)
		for _, pid := range running {
			if err := suspend(pid); err != nil {
				t.Error(err)
			}
		}
	}
	// NATS stops before the endpoint answers: the success is on its way to the delivery log when the dispatcher dies.
	n.endpoint.Answer(hooks, receiver.Answer{Times: 1, Before: stop})
	if err := n.postTo(lead("evt_before_log"), victim); err != nil {
		t.Fatal(err)
	}
	n.wait(1)
	<-stopped
	unaccepted, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := n.tryPost(unaccepted, victim, lead("evt_before_store")); err == nil && r.Status == http.StatusAccepted {
		t.Errorf("ingest answers %+v though NATS has acknowledged nothing", r)
	}
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := op.NATS.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := op.NATS.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := victim.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.waitReady("crm")
	if err := n.postTo(lead("evt_before_store"), victim); err != nil {
		t.Fatal(err)
	}
	// The stream delivers the other message again after half a minute without a sign of progress.
	for id, most := range map[string]int{"evt_before_log": 2, "evt_before_store": 1} {
		d := n.waitPhase(id, v1alpha1.DeliveryDelivered, 1)
		arrivals := n.arrivals(id)
		if len(arrivals) != most {
			t.Errorf("%s arrived %d times, want %d", id, len(arrivals), most)
		}
		checkSame(t, arrivals, d)
	}
}

// TestReplicasShareTheStream posts to four replicas. Each makes a part of the attempts, and no event arrives twice.
func TestReplicasShareTheStream(t *testing.T) {
	onlyJetStream(t)
	n := newTenant(t)
	without(t, dispatcher)
	var replicas []*operator.Process
	for i := range 4 {
		name := fmt.Sprintf("postback-dispatcher-share-%d", i)
		replicas = append(replicas, startDispatcher(t, name, operator.WithArgs("--user-agent="+name)))
	}
	n.postback("crm")
	const each = 50
	var ids []string
	var producing sync.WaitGroup
	for i := range producers {
		var mine []string
		for k := range each {
			mine = append(mine, fmt.Sprintf("evt_%d_%d", i, k))
		}
		ids = append(ids, mine...)
		producing.Go(func() {
			for _, id := range mine {
				if err := n.postTo(lead(id), replicas[i%len(replicas)]); err != nil {
					t.Errorf("event %s: %v", id, err)
				}
			}
		})
	}
	producing.Wait()
	n.waitAllDelivered(len(ids))
	arrived, by := map[string]int{}, map[string]int{}
	for _, r := range n.endpoint.Requests(hooks) {
		arrived[r.ID()]++
		by[r.Header.Get("User-Agent")]++
	}
	for _, id := range ids {
		if arrived[id] != 1 {
			t.Errorf("event %s arrived %d times", id, arrived[id])
		}
	}
	if len(by) != len(replicas) {
		t.Errorf("attempts were made by %v, want %d replicas", by, len(replicas))
	}
	if objects := n.objects(); objects > len(ids)/10 {
		t.Errorf("of %d deliveries that succeeded %d are PostbackDeliveries", len(ids), objects)
	}
	t.Logf("%d events, attempted by %v", len(ids), by)
}

// TestLogKeepsWhatItsBoundsAllow: the oldest entries leave the delivery log when it has too many bytes, and each
// entry leaves when it is too old.
func TestLogKeepsWhatItsBoundsAllow(t *testing.T) {
	onlyJetStream(t)
	n := newTenant(t)
	without(t, dispatcher)
	const names, most, count = message.Names("BOUNDED"), 1 << 20, 30
	small := startDispatcher(t, "postback-dispatcher-bounded", operator.WithArgs("--nats-stream-prefix="+string(names),
		fmt.Sprintf("--log-max-bytes=%d", most), "--log-max-age=1h"))
	n.postback("crm")
	large, err := json.Marshal(map[string]string{"text": strings.Repeat("x", 100<<10)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := n.postTo(event{ID: fmt.Sprintf("evt_%d", i), Type: "lead.created", Data: large}, small); err != nil {
			t.Fatal(err)
		}
		n.wait(i + 1)
	}
	js, err := jetstream.New(op.NATS.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	state := func() jetstream.StreamState {
		stream, err := js.Stream(t.Context(), names.LogStream())
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State
	}
	eventually(t, func() error {
		if got := state(); got.LastSeq != count {
			return fmt.Errorf("the delivery log is %+v", got)
		}
		return nil
	})
	if got := state(); got.Bytes > most || got.Msgs < 8 || got.Msgs > 10 {
		t.Errorf("of %d events of 100 KiB the delivery log keeps %d messages of %d bytes, want what fits into %d", count, got.Msgs, got.Bytes, most)
	}
	// The bound by age applies to existing entries, too.
	terminate(t, small)
	startDispatcher(t, "postback-dispatcher-forgetful", operator.WithArgs("--nats-stream-prefix="+string(names),
		"--nats-duplicate-window=1s", "--log-max-age=1s"))
	eventually(t, func() error {
		if got := state(); got.Msgs > 0 {
			return fmt.Errorf("the delivery log is %+v", got)
		}
		return nil
	})
}
