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

// Package dispatcher takes events and sends them to endpoints.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/dispatcher/presence"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/dispatcher/unfinished"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/rollback"
	"github.com/postback-dev/postback-operator/internal/start"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const (
	// attemptGrace is the time for attempts in flight at shutdown: the longest spec.timeout, plus the time to record.
	attemptGrace = 35 * time.Second
	// shutdownGrace bounds the whole shutdown.
	shutdownGrace = attemptGrace + 10*time.Second
)

// Options configure a replica.
type Options struct {
	// Namespace is the namespace of the installation.
	Namespace string
	// Watched are the namespaces that the replica serves.
	Watched watched.Namespaces
	// Identity of this replica: unique among the replicas, and the same after a restart.
	Identity string
	// Pod references the Pod of this replica, as the owner of its Lease. It may be nil.
	Pod *metav1.OwnerReference
	// IngestAddress, MetricsAddress and ProbeAddress are the addresses to listen on. "0" disables metrics or probes.
	IngestAddress, MetricsAddress, ProbeAddress string
	// ProfileAddress is the address of the pprof server. "" disables it; an address without a host means loopback.
	ProfileAddress string
	// MaxInFlight bounds the attempts in flight, to all endpoints together.
	MaxInFlight int
	// SignatureHeader is the signature header of the scheme Dub, UserAgent the value of the header User-Agent.
	SignatureHeader, UserAgent string
	// MaxBodyBytes bounds the body of a request to ingest.
	MaxBodyBytes int64
	// Egress restricts the addresses that attempts may reach.
	Egress egress.Options
	// Ingest configures the ingest API.
	Ingest IngestOptions
	// Intake is IntakeKubernetes or IntakeJetStream. NATS is the connection of the latter.
	Intake string
	NATS   jetstream.Options
	// EmbedNATS runs a NATS server in this process, configured by NATSServer, instead of connecting to NATS.URL.
	EmbedNATS  bool
	NATSServer embedded.Options
	// MaxFinished bounds the finished deliveries in the cluster; 0 means no bound.
	MaxFinished int
	// Traces records spans. It may be nil.
	Traces *trace.Traces
	Log    logr.Logger
}

// IngestOptions configure the ingest API.
type IngestOptions struct {
	// Auth is AuthKubernetes or AuthNone.
	Auth string
	// Audience is the audience that tokens must have; "" means that of the API server.
	Audience string
	// CertFile and KeyFile enable HTTPS. PlainHTTP permits HTTP on addresses other than loopback.
	CertFile, KeyFile string
	PlainHTTP         bool
	// Rate bounds the events per second of each caller; 0 means no bound. Burst is the number that a caller may post
	// at once.
	Rate  float64
	Burst int
}

// Values of IngestOptions.Auth.
const (
	// AuthKubernetes means that the API server authenticates and authorises each producer.
	AuthKubernetes = "Kubernetes"
	// AuthNone means that nobody is authenticated. The address must be a loopback address.
	AuthNone = "None"
)

// Values of Options.Intake.
const (
	// IntakeKubernetes stores each delivery at the API server.
	IntakeKubernetes = "kubernetes"
	// IntakeJetStream stores deliveries in streams of NATS: before their first attempt, while they wait, and after
	// their success. Some failed ones become PostbackDeliveries.
	IntakeJetStream = v1alpha1.IntakeJetStream
)

// Run runs a replica until ctx ends, and then finishes the work in flight.
func Run(ctx context.Context, config *rest.Config, o Options) error {
	if problems := validation.IsDNS1123Subdomain(presence.LeaseName(o.Identity)); len(problems) > 0 {
		return fmt.Errorf("identity %q cannot be part of the name of a Lease: %s", o.Identity, strings.Join(problems, "; "))
	}
	// The API server would compress each watch event separately, several times for each delivery.
	config = rest.CopyConfig(config)
	config.DisableCompression = true
	version, err := rollback.Secrets(config, o.Namespace)
	if err != nil {
		return err
	}
	ctx, end := (&rollback.Watch{Read: version, Clock: clock.RealClock{}, Log: o.Log.WithName("rollback")}).Guard(ctx)
	defer end()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("make the scheme: %w", err)
	}
	namespaces, missing, err := watched.Settle(ctx, config, o.Log, o.Watched,
		schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "postbackdeliveries"})
	if err != nil {
		return err
	}
	o.Watched = namespaces
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme: scheme,
		Logger: o.Log,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Secret{}:             route.CacheOptions(o.Namespace),
				&v1alpha1.PostbackDelivery{}: unfinished.CacheOptions(o.Watched),
			},
		},
		Metrics:                 metricsserver.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:  o.ProbeAddress,
		PprofBindAddress:        profileAddress(o.ProfileAddress),
		GracefulShutdownTimeout: ptr.To(shutdownGrace),
	})
	if err != nil {
		return fmt.Errorf("make the controller manager: %w", err)
	}
	server, err := startNATS(mgr, &o)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Shutdown()
	}
	streams, err := connect(o)
	if err != nil {
		return err
	}
	if streams != nil {
		defer streams.Close()
	}
	if err := errors.Join(mgr.Add(missing), add(ctx, mgr, o, streams)); err != nil {
		return err
	}
	if err := start.Manager(ctx, mgr); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// profileAddress returns the address of the pprof server. Profiles show memory, including keys, so an address without
// a host means loopback, not every interface.
func profileAddress(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
