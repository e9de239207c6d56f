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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestEmbeddedNATS kills a dispatcher, with its NATS server, while every attempt hangs. After the restart each
// accepted event arrives. An orderly restart loses no event either.
func TestEmbeddedNATS(t *testing.T) {
	onlyKubernetes(t, "the flags of this test")
	n := newTenant(t)
	without(t, dispatcher)
	replica := startDispatcher(t, "postback-dispatcher-embedded",
		operator.WithArgs("--intake=jetstream", "--nats-embedded", "--nats-store-dir="+t.TempDir(), "--nats-max-bytes=67108864", "--log-max-bytes=67108864"))
	n.postback("crm")
	n.endpoint.Answer(hooks, receiver.Answer{Hang: true})
	const events = 20
	for i := range events {
		if err := n.postTo(lead(fmt.Sprintf("evt_killed_%d", i)), replica); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(1)
	if err := replica.Kill(); err != nil {
		t.Fatal(err)
	}
	hung := len(n.endpoint.Requests(hooks))
	n.endpoint.Answer(hooks, receiver.Answer{})
	if err := replica.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.arriveFrom(hung, "evt_killed_", events)

	code, err := replica.Terminate(t.Context())
	if err != nil || code != 0 {
		t.Errorf("the replica ended with exit code %d: %v", code, err)
	}
	if err := replica.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(n.endpoint.Requests(hooks))
	if err := n.postTo(lead("evt_after"), replica); err != nil {
		t.Fatal(err)
	}
	n.wait(before + 1)
	if got := len(n.arrivals("evt_after")); got != 1 {
		t.Errorf("evt_after arrived %d times", got)
	}
}

// TestThreeEmbeddedServers kills three dispatchers, each with its NATS server, one after another. The other two
// accept events meanwhile, and each accepted event arrives.
func TestThreeEmbeddedServers(t *testing.T) {
	onlyKubernetes(t, "the flags of this test")
	n := newTenant(t)
	without(t, dispatcher)
	n.producer = tlsProducer(t)
	replicas := startThree(t)
	n.postback("crm")
	events := 0
	post := func(to ...*operator.Process) {
		t.Helper()
		NewWithT(t).Eventually(func() error { return n.postTo(lead(fmt.Sprintf("evt_three_%d", events)), to...) }).
			WithTimeout(patience).WithPolling(20 * time.Millisecond).Should(Succeed())
		events++
	}
	for i, victim := range replicas {
		for range 30 {
			post(replicas...)
		}
		if err := victim.Kill(); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		others := append([]*operator.Process{replicas[(i+1)%3]}, replicas[(i+2)%3])
		post(others...)
		t.Logf("without %s the next event was accepted after %s", victim.Name, time.Since(killed).Round(time.Millisecond))
		for range 30 {
			post(others...)
		}
		// The server becomes ready once it has caught up.
		if err := victim.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitReady(t, victim)
	}
	n.arriveFrom(0, "evt_three_", events)
}

// startThree starts three dispatchers whose NATS servers authenticate each other by the certificate of the manager.
func startThree(t *testing.T) (replicas []*operator.Process) {
	t.Helper()
	var peers []string
	for range 3 {
		port, err := controlplane.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, "127.0.0.1:"+strconv.Itoa(port))
	}
	for i, address := range peers {
		name := fmt.Sprintf("postback-dispatcher-three-%d", i)
		ca := filepath.Join(op.Dir, name+".mounts", "etc", "postback", "ingest-tls", v1alpha1.CABundleKey)
		replicas = append(replicas, startDispatcher(t, name, operator.WithTLS(), operator.WithoutReady(), operator.WithArgs(
			"--intake=jetstream", "--nats-embedded", "--nats-store-dir="+t.TempDir(), "--nats-max-bytes=67108864", "--log-max-bytes=67108864",
			"--nats-cluster-peers="+strings.Join(peers, ","), "--nats-cluster-bind-address="+address, "--nats-cluster-ca-file="+ca)))
	}
	for _, replica := range replicas {
		awaitReady(t, replica)
	}
	return replicas
}

func awaitReady(t *testing.T, p *operator.Process) {
	t.Helper()
	NewWithT(t).Eventually(func() error {
		response, err := http.Get(p.ReadyURL())
		if err != nil {
			return errors.Join(err, p.EndedByItself())
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", p.Name, response.Status)
		}
		return nil
	}).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(Succeed())
}

// tlsProducer returns an HTTP client that trusts the CA of the manager.
func tlsProducer(t *testing.T) *http.Client {
	t.Helper()
	bundle := &corev1.ConfigMap{}
	eventually(t, func() error {
		return api.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: v1alpha1.IngestCAName}, bundle)
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle.Data[v1alpha1.CABundleKey]))
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: v1alpha1.IngestServiceName + "." + operator.Namespace + ".svc",
	}}}
}

// arriveFrom waits until events with a prefix have arrived, each at least once, in the endpoint's requests from an
// index on.
func (n *tenant) arriveFrom(request int, prefix string, events int) {
	n.t.Helper()
	NewWithT(n.t).Eventually(func() (missing []string) {
		arrived := map[string]bool{}
		for _, r := range n.endpoint.Requests(hooks)[request:] {
			arrived[r.ID()] = true
		}
		for i := range events {
			if id := fmt.Sprintf("%s%d", prefix, i); !arrived[id] {
				missing = append(missing, id)
			}
		}
		return missing
	}).WithTimeout(2 * patience).Should(BeEmpty())
}
