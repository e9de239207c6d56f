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

package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/adopt"
	"github.com/postback-dev/postback-operator/dispatcher/attempt"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/logapi"
	"github.com/postback-dev/postback-operator/dispatcher/natsapi"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/dispatcher/retention"
	"github.com/postback-dev/postback-operator/dispatcher/retry"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/dispatcher/traffic"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/postback/delivery"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

// +kubebuilder:rbac:groups="",resources=secrets,verbs=list;watch,namespace=postback-system
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=extension-apiserver-authentication,verbs=list;watch

// replica is the shared state of the parts of a dispatcher.
type replica struct {
	mgr     manager.Manager
	options Options
	clock   clock.RealClock
	// live reads and writes past the cache.
	live      client.WithWatch
	clientset kubernetes.Interface

	routes     *route.Index
	unfinished *unfinished.Index
	election   *retry.Election
	adopter    *adopt.Adopter
	attempter  *attempt.Attempter
	lanes      *lane.Lanes
	// streams is nil with the intake of the API server.
	streams *jetstream.Connection
	// stop ends when attempts in flight have to be interrupted.
	stop context.Context //nolint:containedctx // It outlives the contexts of those who attempt.
}

// add wires the parts of a replica and adds them to a manager.
func add(ctx context.Context, mgr manager.Manager, o Options, streams *jetstream.Connection) error {
	signer, err := sign.New(o.SignatureHeader)
	if err != nil {
		return err
	}
	out, err := egress.New(o.Egress)
	if err != nil {
		return err
	}
	boundedClient := *mgr.GetHTTPClient()
	boundedClient.Transport = bound(boundedClient.Transport, maxRequests)
	live, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), HTTPClient: &boundedClient, Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	stop, _ := attempt.EndLater(ctx, attemptGrace) // The context ends attemptGrace after ctx.
	r := &replica{
		mgr: mgr, options: o, live: live, clientset: clientset, stop: stop, routes: route.NewIndex(), streams: streams,
		attempter: &attempt.Attempter{
			Sender:   send.New(send.Options{Signer: signer, UserAgent: o.UserAgent, Clock: clock.RealClock{}, Egress: out}),
			Recorder: &delivery.Recorder{Client: live},
			Events:   mgr.GetEventRecorder("postback-dispatcher"),
			Traces:   o.Traces,
		},
	}
	r.attempter.Traffic = &traffic.Counter{Client: live, Routes: r.routes, Clock: r.clock}
	// Only the JetStream intake asks for recently unfinished deliveries.
	var recall time.Duration
	if streams != nil {
		recall = o.NATS.DuplicateWindow
	}
	if r.unfinished, err = unfinished.New(ctx, mgr.GetCache(), recall, r.clock); err != nil {
		return err
	}
	health := &health{
		client: live, events: r.attempter.Events, log: o.Log.WithName("endpoint"),
		elected: func() bool { return r.election.Elected() },
		pending: map[types.UID]healthReport{},
	}
	r.lanes = lane.New(logr.NewContext(stop, o.Log.WithName("attempt")), lane.Options{
		MaxInFlight: o.MaxInFlight, Clock: r.clock, Report: health.report, Unfinished: r.unfinished.Of,
	})
	if err := metrics.Registry.Register(r.lanes); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	if err := r.addRetries(); err != nil {
		return err
	}
	watch, err := route.NewWatch(ctx, mgr.GetCache(), r.routes, o.Watched, o.Log.WithName("route"), r.wake)
	if err != nil {
		return err
	}
	return errors.Join(
		mgr.Add(everyReplica(health.run)),
		r.addDoors(func() bool { return watch.HasSynced() && r.unfinished.HasSynced() }),
		mgr.Add(&presence.Announcement{Client: clientset, Namespace: o.Namespace, Intake: o.Intake, Clock: r.clock}),
		mgr.Add(&presence.Presence{
			Client: clientset, Namespace: o.Namespace, Identity: o.Identity, Owner: o.Pod, Watched: o.Watched,
			Loaded: watch.Loaded, Synced: watch.HasSynced, Unready: r.unready, Clock: r.clock,
		}),
	)
}

// addRetries adds the parts that act only on the elected replica.
func (r *replica) addRetries() error {
	finished, err := retention.New(retention.Options{
		Client: r.live, Watched: r.options.Watched, Routes: r.routes, Clock: r.clock, MaxFinished: r.options.MaxFinished,
	})
	if err != nil {
		return err
	}
	r.adopter = &adopt.Adopter{Client: r.live, Routes: r.routes, Clock: r.clock}
	r.election = &retry.Election{
		Client: r.clientset, Namespace: r.options.Namespace, Identity: r.options.Identity, Finished: finished,
	}
	r.election.Reconciler = &retry.Reconciler{
		Unfinished: r.unfinished, Live: r.live, Routes: r.routes, Lanes: r.lanes, Attempter: r.attempter, Clock: r.clock,
		Adopter: r.adopter, Elected: r.election.Elected, HoldsLease: r.election.HoldsLease,
	}
	if err := retry.Setup(r.mgr, r.election.Reconciler); err != nil {
		return err
	}
	collector := &retry.Collector{Unfinished: r.unfinished, Routes: r.routes, Elected: r.election.Elected, Throttled: r.lanes.Throttled, Clock: r.clock}
	if err := errors.Join(metrics.Registry.Register(collector), metrics.Registry.Register(finished)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return r.mgr.Add(r.election)
}

// wake applies a changed route to its lane. The elected replica also wakes the deliveries of the Postback.
func (r *replica) wake(changed *route.Route) {
	removed := r.routes.Get(changed.UID) == nil
	if removed {
		r.lanes.Delete(changed.UID)
	} else {
		r.lanes.SetRoute(changed)
	}
	if !r.election.Elected() {
		return
	}
	if !removed {
		for _, key := range r.adopter.PopWaiting(types.NamespacedName{Namespace: changed.Namespace, Name: changed.Name}) {
			r.election.Reconciler.ReconcileFinished(key)
			r.election.Reconciler.Add(key)
		}
	}
	r.election.Reconciler.Wake(changed)
}

// addDoors adds the intake, the doors, the lanes and the probes.
func (r *replica) addDoors(synced func() bool) error {
	log, maxBody := r.options.Log.WithName("ingest"), cmp.Or(r.options.MaxBodyBytes, httpapi.DefaultMaxBodyBytes)
	in, err := r.addIntake(synced)
	if err != nil {
		return err
	}
	acceptor, err := accept.New(accept.Options{
		Intake: in.intake, Routes: r.routes, Backlog: in.backlog, Synced: synced, Remember: r.streams == nil,
		Events: r.attempter.Events, Traces: r.options.Traces, Clock: r.clock, Log: log,
	})
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	options := httpapi.Options{
		Address: r.options.IngestAddress, Watched: r.options.Watched, MaxBodyBytes: maxBody, Acceptor: acceptor,
		Traces:   r.options.Traces,
		CertFile: r.options.Ingest.CertFile, KeyFile: r.options.Ingest.KeyFile, PlainHTTP: r.options.Ingest.PlainHTTP,
		Rate: r.options.Ingest.Rate, Burst: r.options.Ingest.Burst,
		Clock: r.clock, Log: log,
	}
	logs := logapi.Options{
		Reader: in.log, Waiting: in.waiting, API: r.live, Recorder: r.attempter.Recorder, Synced: synced, Clock: r.clock, Log: log,
	}
	switch r.options.Ingest.Auth {
	case AuthKubernetes:
		options.Access = access.New(r.clientset, r.options.Ingest.Audience, httpapi.CountReview, r.clock)
		if err := r.addReaders(&logs); err != nil {
			return err
		}
	case AuthNone:
	default:
		return fmt.Errorf("--ingest-auth must be %s or %s, not %q", AuthKubernetes, AuthNone, r.options.Ingest.Auth)
	}
	options.LogDoor = logapi.New(logs)
	server := httpapi.New(options)
	if r.streams != nil {
		door := &natsapi.Events{Streams: r.streams, Acceptor: acceptor, MaxBodyBytes: maxBody, Log: r.options.Log.WithName("events")}
		if err := r.mgr.Add(door); err != nil {
			return fmt.Errorf("add the consumer of published events: %w", err)
		}
	}
	return errors.Join(
		r.mgr.AddHealthzCheck("ping", func(*http.Request) error { return nil }),
		r.mgr.AddReadyzCheck("ingest", server.Ready),
		r.mgr.Add(everyReplica(func(ctx context.Context) error {
			// The lanes outlive ingest, so they attempt the deliveries that it stored last.
			defer r.lanes.Close()
			return server.Start(ctx)
		})),
		r.mgr.Add(everyReplica(func(ctx context.Context) error {
			// The counter outlives the lanes, so it writes the counts of the last attempts.
			counting, end := context.WithCancel(context.WithoutCancel(ctx))
			defer end()
			var counter sync.WaitGroup
			counter.Go(func() { r.attempter.Traffic.Run(counting) })
			r.lanes.Run() // Close, after ingest, ends it.
			end()
			counter.Wait()
			return nil
		})),
	)
}

// addReaders authorizes readers of the delivery log by the token or client certificate that they use for the API
// server.
func (r *replica) addReaders(o *logapi.Options) error {
	readers := access.New(r.clientset, "", httpapi.CountReview, r.clock)
	certificates, err := access.NewCertificates(r.clientset, readers)
	if err != nil {
		return err
	}
	o.Rights = certificates
	if o.Reader == nil {
		return nil // Without a log, connections ask for no certificate and nothing watches the CA.
	}
	return r.mgr.Add(certificates)
}

// parts are the parts of a replica that depend on its intake. log and waiting are nil with the intake of the API server.
type parts struct {
	intake  accept.Intake
	backlog accept.Backlog
	log     logapi.Reader
	waiting logapi.Waiting
}

// addIntake adds the intake, and with JetStream the parts that serve its streams.
func (r *replica) addIntake(synced func() bool) (*parts, error) {
	first := &attempt.First{Attempter: r.attempter, Routes: r.routes, Lanes: r.lanes, Clock: r.clock}
	kubernetes := &intake.Kubernetes{API: r.live, FirstAttempts: first, MissingRights: &intake.MissingRights{Clock: r.clock}}
	if r.streams == nil {
		return &parts{intake: kubernetes, backlog: r.unfinished}, nil
	}
	pending := &jetstream.Pending{Connection: r.streams, Unfinished: r.unfinished}
	p := &parts{
		intake:  &jetstream.Intake{Connection: r.streams, Kubernetes: kubernetes, Unfinished: r.unfinished, Lanes: r.lanes, Pending: pending},
		backlog: pending,
		log:     r.streams.Log(r.routes),
		waiting: r.streams.Waiting(r.routes),
	}
	waiting := &backlog{
		client: r.live, source: pending, routes: r.routes, elected: r.election.Elected, gone: r.lanes.Gone, events: r.attempter.Events,
		clock: r.clock, log: r.options.Log.WithName("backlog"),
	}
	return p, errors.Join(
		r.mgr.Add(everyReplica(waiting.run)),
		r.mgr.AddReadyzCheck("nats", r.streams.Ready),
		r.mgr.Add(r.streams),
		r.mgr.Add(pending),
		r.mgr.Add(jetstream.NewConsumer(jetstream.ConsumerOptions{
			Connection: r.streams, Routes: r.routes, Lanes: r.lanes, Attempter: r.attempter, API: r.live, Unfinished: r.unfinished, Pending: pending,
			Owner: r.election, PostbackExists: r.postbackExists, Synced: synced, Stop: r.stop, Clock: r.clock, Log: r.options.Log.WithName("stream"),
		})),
	)
}

// unready returns why the intake accepts no deliveries, or nil.
func (r *replica) unready() error {
	if r.streams == nil {
		return nil
	}
	return r.streams.Available()
}

// everyReplica is a runnable that does not wait for an election.
type everyReplica func(context.Context) error

// Start implements manager.Runnable.
func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (f everyReplica) NeedLeaderElection() bool { return false }
