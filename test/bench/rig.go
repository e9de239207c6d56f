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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/bench/load"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/natsserver"
	"github.com/postback-dev/postback-operator/test/operator"
)

// These are the ways in which a dispatcher takes events.
const (
	intakeKubernetes = "kubernetes"
	intakeJetStream  = "jetstream"
	// intakeSynced is JetStream with a server that syncs to its disk before it acknowledges. With intakeJetStream the
	// server leaves the sync to the operating system, as servers of a cluster do.
	intakeSynced = intakeJetStream + synced
	synced       = "-synced"
	// intakeEmbedded is intakeJetStream with the server embedded in the dispatcher.
	intakeEmbedded = intakeJetStream + embedded
	embedded       = "-embedded"
	// embeddedSync is the default sync interval of NATS, which the server of intakeJetStream has.
	embeddedSync = 2 * time.Minute
)

const (
	// readyPatience bounds the wait for Postbacks. readyEach is added for each Postback, because there may be
	// thousands.
	readyPatience = 5 * time.Minute
	readyEach     = 100 * time.Millisecond
	// kept is the number of finished deliveries that the cluster keeps. It is small, so that soon each new delivery
	// causes a delete, as in a cluster that has run for a while.
	kept         = 500
	pollEvery    = 100 * time.Millisecond
	dispatcherSA = "postback-dispatcher"
	// largestMaxPending is the API's upper bound for maxPending.
	largestMaxPending = 100000
)

// rig is a control plane with the operator and a receiver, each program in its own process.
type rig struct {
	options     *options
	intake      string
	cp          *controlplane.ControlPlane
	op          *operator.Operator
	api         client.Client
	receiver    *receiver
	nats        *natsserver.Cluster
	kubeconfig  string
	manager     *operator.Process
	dispatchers []*operator.Process
	out         io.Writer
	// saturated is the number of deliveries per second at saturation; 0 means not measured yet.
	saturated float64
	closers   []func() error
}

func newRig(ctx context.Context, o *options, intake string, out io.Writer) (r *rig, err error) {
	r = &rig{options: o, intake: intake, out: out}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.cp, err = controlplane.Start(ctx, controlplane.Options{Log: out, Fsync: o.fsync}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.cp.Stop)
	if r.api, err = r.cp.Client(); err != nil {
		return r, err
	}
	if r.op, err = operator.Install(ctx, r.cp, operator.Options{Programs: o.programs}); err != nil {
		return r, err
	}
	r.closers = append(r.closers, func() error { return r.op.Stop(context.WithoutCancel(ctx)) })
	r.kubeconfig = filepath.Join(r.op.Dir, "bare.kubeconfig")
	if err = r.cp.ServiceAccountKubeconfig(ctx, operator.Namespace, dispatcherSA, r.kubeconfig); err != nil {
		return r, err
	}
	if err = r.startNATS(ctx); err != nil {
		return r, err
	}
	r.receiver, err = startReceiver(ctx)
	if err == nil {
		r.closers = append(r.closers, func() error { r.receiver.stop(); return nil })
	}
	return r, err
}

// startNATS starts a NATS server if the intake needs one. With intakeEmbedded it serves only the bare loop.
func (r *rig) startNATS(ctx context.Context) error {
	if r.intake == intakeKubernetes {
		return nil
	}
	var err error
	r.nats, err = natsserver.Start(ctx, natsserver.Options{SyncAlways: r.intake == intakeSynced, Dir: r.op.Dir}, r.out)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, func() error {
		if r.nats == nil {
			return nil
		}
		return r.nats.Stop()
	})
	return nil
}

// stopBareNATS stops the server of the bare loop if the dispatchers embed their own.
func (r *rig) stopBareNATS() error {
	if r.intake != intakeEmbedded || r.nats == nil {
		return nil
	}
	err := r.nats.Stop()
	r.nats = nil
	return err
}

// close ends everything, the newest first.
func (r *rig) close() error {
	var errs []error
	for _, c := range slices.Backward(r.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// start starts the operator with a number of dispatcher replicas.
func (r *rig) start(ctx context.Context, replicas int) error {
	var err error
	if r.manager, err = r.op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http")); err != nil {
		return err
	}
	for len(r.dispatchers) < replicas {
		if err := r.addReplica(ctx); err != nil {
			return err
		}
	}
	return nil
}

// addReplica starts one more dispatcher, without a rate limit for producers, because the generator is only one
// producer.
func (r *rig) addReplica(ctx context.Context) error {
	args := append([]string{"--ingest-rate=0", fmt.Sprintf("--max-finished-deliveries=%d", kept)}, r.options.dispatcherArgs...)
	args = append(args, "--intake="+strings.TrimSuffix(strings.TrimSuffix(r.intake, synced), embedded))
	switch r.intake {
	case intakeSynced:
		args = append(args, "--nats-url="+r.nats.URL(), "--nats-group-commit")
	case intakeJetStream:
		args = append(args, "--nats-url="+r.nats.URL())
	case intakeEmbedded:
		args = append(args, "--nats-embedded", "--nats-store-dir="+filepath.Join(r.op.Dir, "embedded"), "--nats-sync-interval="+embeddedSync.String())
	}
	p, err := r.op.StartDispatcher(ctx, fmt.Sprintf("postback-dispatcher-%d", len(r.dispatchers)), operator.WithArgs(args...))
	if err != nil {
		return err
	}
	r.dispatchers = append(r.dispatchers, p)
	return nil
}

// pids returns the measured processes: all except the receiver and the generator.
func (r *rig) pids() map[string]int {
	pids := r.cp.PIDs()
	if r.manager != nil {
		pids["manager"] = r.manager.PID()
	}
	if r.nats != nil {
		pids["nats-server"] = r.nats.Nodes[0].PID()
	}
	for i, d := range r.dispatchers {
		pids[fmt.Sprintf("dispatcher %d", i)] = d.PID()
	}
	maps.DeleteFunc(pids, func(_ string, pid int) bool { return pid == 0 })
	return pids
}

// namespace creates a namespace and returns a token for posting events to it.
func (r *rig) namespace(ctx context.Context, name string) (token string, err error) {
	if err := r.api.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		return "", fmt.Errorf("make namespace %s: %w", name, err)
	}
	return r.op.SenderToken(ctx, name)
}

// postback returns a Postback that sends one event type to an endpoint of the same name.
func (r *rig) postback(namespace, name string, triggers ...v1alpha1.Trigger) *v1alpha1.Postback {
	return &v1alpha1.Postback{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.PostbackSpec{
			URL: r.receiver.url(name), Triggers: triggers,
			// A burst must not be refused, because the run measures how fast it is delivered.
			Limits: &v1alpha1.Limits{MaxPending: ptr.To[int32](largestMaxPending)},
		},
	}
}

// create creates Postbacks and waits until all are Ready.
func (r *rig) create(ctx context.Context, postbacks ...*v1alpha1.Postback) error {
	for _, p := range postbacks {
		if err := r.api.Create(ctx, p); err != nil {
			return fmt.Errorf("make a Postback: %w", err)
		}
	}
	missing := 0
	patience := readyPatience + time.Duration(len(postbacks))*readyEach
	// Listing thousands of Postbacks is expensive, so poll less often with more of them.
	every := pollEvery + time.Duration(len(postbacks))*time.Millisecond
	err := wait.PollUntilContextTimeout(ctx, every, patience, true, func(ctx context.Context) (bool, error) {
		list := &v1alpha1.PostbackList{}
		if err := r.api.List(ctx, list, client.InNamespace(postbacks[0].Namespace)); err != nil {
			return false, err
		}
		missing = 0
		for i := range list.Items {
			if !ready(&list.Items[i]) {
				missing++
			}
		}
		return missing == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d Postbacks that are not ready: %w", missing, err)
	}
	return nil
}

func ready(p *v1alpha1.Postback) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ReadyCondition && c.Status == metav1.ConditionTrue && c.ObservedGeneration == p.Generation
	})
}

// remove deletes a namespace and waits until it is gone, so that it does not disturb later runs.
func (r *rig) remove(ctx context.Context, namespace string) error {
	if r.options.guard {
		return nil // The guard has few objects and little time.
	}
	if err := r.api.DeleteAllOf(ctx, &v1alpha1.Postback{}, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("delete the Postbacks of %s: %w", namespace, err)
	}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := r.api.Delete(ctx, object); err != nil {
		return fmt.Errorf("delete namespace %s: %w", namespace, err)
	}
	inStream := 0
	err := wait.PollUntilContextTimeout(ctx, pollEvery, readyPatience, true, func(ctx context.Context) (bool, error) {
		err := r.api.Get(ctx, client.ObjectKeyFromObject(object), object)
		if !apierrors.IsNotFound(err) {
			return false, err
		}
		// Deliveries in a stream outlast their namespace.
		inStream, err = r.inStream(ctx, namespace)
		return inStream == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait until namespace %s is gone, and %d deliveries that wait in the stream: %w", namespace, inStream, err)
	}
	return nil
}

// discard removes a namespace. It tolerates deliveries that outlast it, because later runs count only their own.
func (r *rig) discard(ctx context.Context, namespace string) error {
	err := r.remove(ctx, namespace)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return r.say("%s", err)
	}
	return err
}

// ingestURLs returns the URLs for posting events of a namespace, one per replica.
func (r *rig) ingestURLs(namespace string) []string {
	urls := make([]string, len(r.dispatchers))
	for i, d := range r.dispatchers {
		urls[i] = d.IngestURL() + "/v1/namespaces/" + namespace + "/events"
	}
	return urls
}

// bareAPI runs the bare API loop in its own namespace. It returns the rounds per second, and the CPU milliseconds per
// round of each process.
func (r *rig) bareAPI(ctx context.Context, n int, write load.Write, remove bool) (rate float64, cpu map[string]float64, err error) {
	namespace := fmt.Sprintf("bench-bare-%t", remove)
	if _, err := r.namespace(ctx, namespace); err != nil {
		return 0, nil, err
	}
	owner := r.postback(namespace, "bare", "bench.never")
	if err := r.api.Create(ctx, owner); err != nil {
		return 0, nil, fmt.Errorf("make the owner of the bare deliveries: %w", err)
	}
	before, err := usageOf(r.cp.PIDs())
	if err != nil {
		return 0, nil, err
	}
	report, err := call[load.LoopReport](ctx, load.BareAPI, load.BareAPIOrders{
		Kubeconfig: r.kubeconfig, Namespace: namespace, Postback: v1alpha1.PostbackReference{Name: owner.Name, UID: owner.UID},
		Prefix: "bare", Deliveries: n, Size: r.options.size, Connections: r.options.connections, Write: write, Delete: remove,
	})
	if err != nil {
		return 0, nil, err
	}
	after, err := usageOf(r.cp.PIDs())
	if err != nil {
		return 0, nil, err
	}
	return report.PerSecond(), after.since(before).each(n), r.remove(ctx, namespace)
}

// say prints the progress.
func (r *rig) say(format string, args ...any) error {
	_, err := fmt.Fprintf(r.out, format+"\n", args...)
	return err
}

// scrapeTime returns the duration of a scrape of metrics, the shortest of several.
func scrapeTime(ctx context.Context, url string) (time.Duration, error) {
	const times = 5
	shortest := time.Duration(math.MaxInt64)
	for range times {
		began := time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return 0, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, fmt.Errorf("scrape: %w", err)
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return 0, fmt.Errorf("scrape: %w", err)
		}
		shortest = min(shortest, time.Since(began))
	}
	return shortest, nil
}
