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

// Package dispatcher is the part that takes events in and sends them to endpoints.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/backlog"
	"github.com/postback-dev/postback-operator/dispatcher/delivery"
	"github.com/postback-dev/postback-operator/dispatcher/ingest"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/dispatcher/route"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/dispatcher/sign"
)

const (
	// attemptGrace is how long attempts in flight have at shutdown: the longest spec.timeout, and the time to record.
	attemptGrace = 35 * time.Second
	// shutdownGrace is how long the whole shutdown may take.
	shutdownGrace = attemptGrace + 10*time.Second
)

// Options of a replica.
type Options struct {
	// Namespace of the installation.
	Namespace string
	// Identity of this replica, unique among them, and the same after a restart.
	Identity string
	// Pod of this replica, or nil.
	Pod *metav1.OwnerReference
	// IngestAddress, MetricsAddress and ProbeAddress are listened on. "0" for the latter two means none.
	IngestAddress, MetricsAddress, ProbeAddress string
	// SignatureHeader is the header of the signature scheme Dub, UserAgent the header User-Agent.
	SignatureHeader, UserAgent string
	// MaxBodyBytes bounds a request to ingest.
	MaxBodyBytes int64
	Log          logr.Logger
}

// Run runs a replica until ctx ends, and then finishes what is in flight.
func Run(ctx context.Context, config *rest.Config, o Options) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("make the scheme: %w", err)
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme,
		Logger: o.Log,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Secret{}:             route.CacheOptions(o.Namespace),
				&v1alpha1.PostbackDelivery{}: backlog.CacheOptions(),
			},
		},
		Metrics:                 metricsserver.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:  o.ProbeAddress,
		GracefulShutdownTimeout: ptr.To(shutdownGrace),
	})
	if err != nil {
		return fmt.Errorf("make the controller manager: %w", err)
	}
	if err := add(ctx, mgr, o); err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// add wires the parts of a replica: event, route, sign, send, record, retry.
func add(ctx context.Context, mgr manager.Manager, o Options) error {
	// Reads and writes that must be true go past the cache.
	live, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), HTTPClient: mgr.GetHTTPClient(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if err := retry.IndexCache(ctx, mgr.GetCache()); err != nil {
		return fmt.Errorf("index PostbackDeliveries: %w", err)
	}
	pending, err := backlog.New(ctx, mgr.GetCache())
	if err != nil {
		return err
	}
	routes := route.NewIndex()
	wake := &retry.Wake{Cache: mgr.GetCache()}
	election := &retry.Election{
		Client: clientset, Namespace: o.Namespace, Identity: o.Identity, Finished: live, Wake: wake,
	}
	watch, err := route.NewWatch(ctx, mgr.GetCache(), routes, o.Log.WithName("route"), func(postback types.UID) {
		if !election.Elected() {
			return
		}
		if err := wake.Of(ctx, postback); err != nil {
			o.Log.Error(err, "Cannot wake the deliveries of a changed route", "uid", postback)
		}
	})
	if err != nil {
		return err
	}

	stop := stopAfter(ctx, attemptGrace)
	attempter := &attempt.Attempter{
		Sender:   send.New(&sign.Signer{DubHeader: o.SignatureHeader}, o.UserAgent, clock.RealClock{}),
		Recorder: &delivery.Recorder{Client: live, Reader: live},
		Events:   mgr.GetEventRecorder("postback-dispatcher"),
	}
	first := attempt.NewFirst(attempter, routes, clock.RealClock{})
	reconciler := &retry.Reconciler{
		Cache: mgr.GetCache(), Live: live, Routes: routes, Attempter: attempter, Clock: clock.RealClock{},
		Elected: election.Elected, Stop: stop,
	}
	election.Reconciler = reconciler
	if err := retry.Setup(mgr, reconciler, wake); err != nil {
		return err
	}
	collector := &retry.Collector{Cache: mgr.GetCache(), Routes: routes, Elected: election.Elected, Clock: clock.RealClock{}}
	if err := metrics.Registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	synced := func() bool { return watch.HasSynced() && pending.HasSynced() }
	server := ingest.New(ingest.Options{
		Address: o.IngestAddress, MaxBodyBytes: o.MaxBodyBytes, Store: live, Routes: routes, Backlog: pending,
		FirstAttempts: first, Synced: synced, Clock: clock.RealClock{}, Log: o.Log.WithName("ingest"),
	})
	present := &presence.Presence{
		Client: clientset, Namespace: o.Namespace, Identity: o.Identity, Owner: o.Pod,
		Loaded: watch.Loaded, Synced: watch.HasSynced, Clock: clock.RealClock{},
	}
	return errors.Join(
		addProbes(ctx, mgr, synced, server),
		mgr.Add(election),
		mgr.Add(present),
		mgr.Add(everyReplica(func(ctx context.Context) error {
			// What ingest has stored is attempted before the replica ends.
			defer first.Close()
			return server.Start(ctx)
		})),
		mgr.Add(everyReplica(func(context.Context) error {
			first.Run(logr.NewContext(stop, o.Log.WithName("first-attempt")))
			return nil
		})),
	)
}

// addProbes makes the replica ready when it knows its routes and backlog, and not ready as soon as it has to end.
func addProbes(ctx context.Context, mgr manager.Manager, synced func() bool, server *ingest.Server) error {
	return errors.Join(
		mgr.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		mgr.AddReadyzCheck("dispatcher", func(r *http.Request) error {
			switch {
			case ctx.Err() != nil:
				return errors.New("ending")
			case !synced():
				return errors.New("routes and deliveries are not loaded yet")
			}
			return server.Ready(r)
		}),
	)
}

// stopAfter returns a context that ends some time after its parent.
func stopAfter(parent context.Context, grace time.Duration) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() { time.AfterFunc(grace, cancel) })
	return ctx
}

// everyReplica is a runnable that does not wait for an election.
type everyReplica func(context.Context) error

// Start implements manager.Runnable.
func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (f everyReplica) NeedLeaderElection() bool { return false }
