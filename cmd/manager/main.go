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

// Command manager runs the controllers of Postback and PostbackSecret.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/controllers"
	"github.com/postback-dev/postback-operator/controllers/servingcert"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/internal/rollback"
	"github.com/postback-dev/postback-operator/internal/start"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// version is set when the program is built.
var version = "dev"

// gracefulShutdown is how long a running reconciliation may take at shutdown. It is shorter than a Pod's default
// grace period.
const gracefulShutdown = 20 * time.Second

type options struct {
	controllers.Options

	leaderElect       bool
	metricsAddress    string
	probeAddress      string
	ingestCertificate string
}

// Values of --ingest-certificate: the owner of the ingest certificate.
const (
	selfManaged = "SelfManaged"
	external    = "External"
)

// misused is the exit code after an invalid flag, the same as that of package flag.
const misused = 2

func main() {
	var o options
	flag.StringVar(&o.Namespace, "namespace", start.Env("POD_NAMESPACE", "postback-system"), "Namespace of the installation, which holds the route Secrets and the Leases.")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "Work only while elected, so that several replicas can run.")
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", "127.0.0.1:8084", "Address of the metrics, or 0 for none.")
	flag.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "Address of the probes /healthz and /readyz, or 0 for none.")
	flag.BoolVar(&o.Policy.AllowPlainHTTP, "allow-plain-http", false, "Allow Postbacks whose URL begins with http://. Events and signatures then travel unencrypted.")
	flag.StringVar(&o.Policy.SignatureHeader, "signature-header", sign.DefaultDubHeader, "Header of the signature scheme Dub, which Postbacks cannot set themselves. The dispatcher needs the same value.")
	flag.DurationVar(&o.PollInterval, "secret-poll-interval", controllers.DefaultPollInterval, "Interval at which the manager reads a Secret that it does not own, if the Secret lacks the label "+v1alpha1.WatchLabel+"=true.")
	flag.StringVar(&o.ingestCertificate, "ingest-certificate", external, "Owner of the Secret "+v1alpha1.IngestCertificateName+", the certificate of ingest: SelfManaged (the manager, which publishes its CA in the ConfigMap "+v1alpha1.IngestCAName+") or External (cert-manager, or you).")
	flag.Var(&o.Watched, watched.Flag, watched.Usage)
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	if err := start.Parse(flag.CommandLine, "ManagerConfiguration", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(misused)
	}
	log := start.Log(logging)
	log.Info("Starting", "version", version)
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		log.Error(err, "The manager ends")
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if _, err := sign.New(o.Policy.SignatureHeader); err != nil {
		return fmt.Errorf("flag --signature-header: %w", err)
	}
	if o.ingestCertificate != selfManaged && o.ingestCertificate != external {
		return fmt.Errorf("flag --ingest-certificate: %q is neither %s nor %s", o.ingestCertificate, selfManaged, external)
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	if o.Version, err = rollback.Secrets(config, o.Namespace); err != nil {
		return err
	}
	ctx, end := (&rollback.Watch{Read: o.Version, Clock: clock.RealClock{}, Log: ctrl.Log.WithName("rollback")}).Guard(ctx)
	defer end()
	var missing *watched.Missing
	if o.Watched, missing, err = watched.Settle(ctx, config, ctrl.Log, o.Watched, controllers.Watches()...); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		Cache:                   controllers.CacheOptions(o.Namespace, o.Watched),
		Client:                  controllers.ClientOptions(),
		Metrics:                 metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:  o.probeAddress,
		LeaderElection:          o.leaderElect,
		LeaderElectionID:        "postback-manager",
		LeaderElectionNamespace: o.Namespace,
		// The release requires that the program ends right after Start returns, which it does.
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       ptr.To(gracefulShutdown),
	})
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	o.Clock, o.Metrics = clock.RealClock{}, metrics.Registry
	if err := controllers.Setup(ctx, mgr, o.Options); err != nil {
		return err
	}
	if err := mgr.Add(missing); err != nil {
		return fmt.Errorf("add the look for namespaces: %w", err)
	}
	if o.ingestCertificate == selfManaged {
		if err := servingcert.Setup(mgr, o.Namespace, o.Clock); err != nil {
			return err
		}
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the liveness probe: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", cachesSynced(mgr.GetCache())); err != nil {
		return fmt.Errorf("add the readiness probe: %w", err)
	}
	if err := start.Manager(ctx, mgr); err != nil {
		return fmt.Errorf("run the manager: %w", err)
	}
	return nil
}
