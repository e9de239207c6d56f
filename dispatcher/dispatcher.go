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
	// attemptGrace is how long attempts in flight have at shutdown: the longest spec.timeout, and the time to record.
	attemptGrace = 35 * time.Second
	// shutdownGrace bounds the whole shutdown.
	shutdownGrace = attemptGrace + 10*time.Second
)

// Options of a replica.
type Options struct {
	// Namespace of the installation.
	Namespace string
	// Watched are the namespaces whose events and deliveries are dealt with.
	Watched watched.Namespaces
	// Identity of this replica, unique among them, and the same after a restart.
	Identity string
	// Pod of this replica, or nil.
	Pod *metav1.OwnerReference
	// IngestAddress, MetricsAddress and ProbeAddress are the addresses to listen on. "0" for the latter two means none.
	IngestAddress, MetricsAddress, ProbeAddress string
	// ProfileAddress is the address for profiles of this process. "" means none; without a host it is on loopback.
	ProfileAddress string
	// MaxInFlight is how many attempts are made at a time, to all endpoints.
	MaxInFlight int
	// SignatureHeader is the header of the signature scheme Dub, UserAgent the header User-Agent.
	SignatureHeader, UserAgent string
	// MaxBodyBytes bounds a request to ingest.
	MaxBodyBytes int64
	// Egress restricts the reachable addresses.
	Egress egress.Options
	// Ingest has the settings of the ingest API.
	Ingest IngestOptions
	// Intake is IntakeKubernetes or IntakeJetStream, and NATS how the latter reaches its servers.
	Intake string
	NATS   jetstream.Options
	// EmbedNATS runs a NATS server in this process, as NATSServer says, in place of the servers that NATS names.
	EmbedNATS  bool
	NATSServer embedded.Options
	// MaxFinished is the number of finished deliveries that the cluster keeps; 0 means any number.
	MaxFinished int
	// Traces, if it is there, gets spans.
	Traces *trace.Traces
	Log    logr.Logger
}

// IngestOptions are the settings of the ingest API.
type IngestOptions struct {
	// Auth is AuthKubernetes or AuthNone.
	Auth string
	// Audience is the required audience of tokens; "" means that of the API server.
	Audience string
	// CertFile and KeyFile are for HTTPS. PlainHTTP allows to do without on other addresses than loopback.
	CertFile, KeyFile string
	PlainHTTP         bool
	// Rate is how many events per second each caller may post, or 0 for any number; Burst how many at once.
	Rate  float64
	Burst int
}

// Values of IngestOptions.Auth.
const (
	// AuthKubernetes has the API server authenticate and authorise each producer.
	AuthKubernetes = "Kubernetes"
	// AuthNone lets everybody post who reaches the address, which has to be of the loopback interface.
	AuthNone = "None"
)

// Values of Options.Intake.
const (
	// IntakeKubernetes stores each delivery at the API server.
	IntakeKubernetes = "kubernetes"
	// IntakeJetStream stores deliveries in a stream of NATS until their first attempt.
	IntakeJetStream = v1alpha1.IntakeJetStream
)

// Run runs a replica until ctx ends, and then finishes the work in flight.
func Run(ctx context.Context, config *rest.Config, o Options) error {
	if problems := validation.IsDNS1123Subdomain(presence.LeaseName(o.Identity)); len(problems) > 0 {
		return fmt.Errorf("identity %q cannot be part of the name of a Lease: %s", o.Identity, strings.Join(problems, "; "))
	}
	// The API server would compress what each event of a watch says on its own, for every delivery several times.
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

// profileAddress returns the address for profiles. They show the content of memory, keys included, so an address
// without a host means loopback here, and not every interface.
func profileAddress(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
