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

// Package faults tests delivery while everything around it fails: the built programs with the shipped manifests, a
// real control plane whose parts are killed, and endpoints that misbehave. "make test-faults" runs it at full length,
// "make test" in a short form. With INTAKE=jetstream the test also kills a real nats-server, with
// INTAKE=jetstream-embedded each dispatcher has one. NATS_NODES=3 makes it a cluster of three.
package faults

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

var (
	rounds    = flag.Int("rounds", 1, "rounds of TestFaults, in each of which every fault comes once")
	events    = flag.Int("events", 1500, "events of TestFaults, over all rounds")
	seed      = flag.Uint64("seed", 0, "seed of TestFaults; 0 takes one at random")
	settle    = flag.Duration("settle", 20*time.Second, "how long TestFaults leaves retries to their schedule before it asks for what is left by redeliver-since")
	backlog   = flag.Int("backlog", 1000, "deliveries that wait for one endpoint in TestBlackhole and TestRecovery")
	endpoints = flag.Int("endpoints", 20, "healthy endpoints beside the one of TestBlackhole")
	maxRatio  = flag.Float64("ratio", 20, "by how much the latency of the healthy endpoints of TestBlackhole may grow; the machine may be busy with other tests")
	down      = flag.Int("down", 9, "endpoints of TestOutages, which are down at the same time")
	downFor   = flag.Duration("down-for", 8*time.Second, "how long they are down")
	purged    = flag.Int("purged", 300, "deliveries that wait for each Postback of TestPurge")
	samples   = flag.Int("samples", 400, "events for the healthy endpoints in each phase of TestBlackhole")
)

const (
	pollEvery = 100 * time.Millisecond
	// startPatience bounds waits for events that usually take a moment, for busy machines.
	startPatience = 60 * time.Second
)

// All tests share this installation.
var (
	cp          *controlplane.ControlPlane
	op          *operator.Operator
	api         client.Client
	manager     *operator.Process
	dispatchers []*operator.Process
	// trust is the TLS configuration of producers, nil if ingest serves plain HTTP.
	trust *tls.Config
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(operator.RunTests(m, start))
}

func start(ctx context.Context, installed *operator.Operator) error {
	op, cp = installed, installed.ControlPlane
	var err error
	if api, err = cp.Client(); err != nil {
		return err
	}
	if manager, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http")); err != nil {
		return err
	}
	for i := range op.Dispatchers() {
		name := fmt.Sprintf("postback-dispatcher-%d", i)
		// The User-Agent tells endpoints which replica sent a request. No delivery is deleted, because the test
		// compares all of them.
		p, err := op.StartDispatcher(ctx, name,
			operator.WithArgs("--user-agent="+name, "--ingest-rate=0", "--max-finished-deliveries=0"))
		if err != nil {
			return err
		}
		dispatchers = append(dispatchers, p)
	}
	for _, p := range dispatchers {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	if strings.HasPrefix(dispatchers[0].IngestURL(), "https:") {
		trust, err = op.IngestTLS(ctx)
	}
	return err
}

// newNamespace creates a namespace, and returns a token that may post events for it.
func newNamespace(t *testing.T, name string) (token string) {
	t.Helper()
	if err := api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
	token, err := op.SenderToken(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// create creates Postbacks and waits until all are Ready.
func create(t *testing.T, postbacks ...*v1alpha1.Postback) {
	t.Helper()
	for _, p := range postbacks {
		if err := api.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range postbacks {
		await(t, startPatience, func(ctx context.Context) error {
			// An earlier fault may have ended the manager.
			if err := manager.RestartIfEnded(ctx); err != nil {
				return err
			}
			if err := api.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			ready := slices.ContainsFunc(p.Status.Conditions, func(c metav1.Condition) bool {
				return c.Type == v1alpha1.ReadyCondition && c.Status == metav1.ConditionTrue && c.ObservedGeneration == p.Generation
			})
			if !ready {
				return fmt.Errorf("Postback %s is not ready: %+v", p.Name, p.Status.Conditions)
			}
			return nil
		})
	}
}

// await repeats a check until it returns nil.
func await(t *testing.T, patience time.Duration, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), pollEvery, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("within %s: %v", patience, last)
	}
}

// dumpOnFailure prints the programs' logs if the test fails.
func dumpOnFailure(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			op.DumpLogs(os.Stderr, 60)
		}
	})
}

// unfinished counts the deliveries of a namespace that are not delivered. It counts the stream before the
// PostbackDeliveries, so a delivery that moves in between is counted.
func unfinished(ctx context.Context, namespace string) (int, error) {
	waiting, err := op.Waiting(ctx, namespace)
	if err != nil {
		return 0, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("PostbackDeliveryList"))
	err = api.List(ctx, list, client.InNamespace(namespace), client.MatchingFieldsSelector{
		Selector: fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered)),
	})
	if err != nil {
		return 0, fmt.Errorf("list deliveries: %w", err)
	}
	return waiting + len(list.Items), nil
}
