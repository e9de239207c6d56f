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

// Command dispatcher accepts events, stores deliveries and sends them to endpoints.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/postback-dev/postback-operator/dispatcher"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
	"github.com/postback-dev/postback-operator/dispatcher/lane"
	"github.com/postback-dev/postback-operator/dispatcher/retention"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/internal/start"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// version is set when the program is built.
var version = "dev"

// misused is the exit code after an invalid flag, the same as that of package flag.
const misused = 2

func main() {
	var o dispatcher.Options
	flag.StringVar(&o.Namespace, "namespace", start.Env("POD_NAMESPACE", "postback-system"), "Namespace of the installation, which holds the route Secrets and the Leases.")
	flag.StringVar(&o.Identity, "identity", start.Env("POD_NAME", hostname()), "Name of this replica, unique among the replicas, and the same after a restart.")
	flag.StringVar(&o.IngestAddress, "ingest-bind-address", httpapi.DefaultAddress, "Address on which producers post events. An address other than loopback needs --ingest-auth=Kubernetes, and either a certificate or --ingest-plain-http.")
	flag.StringVar(&o.Ingest.Auth, "ingest-auth", dispatcher.AuthKubernetes, "Authentication of producers: Kubernetes (a token of a ServiceAccount that may create postbackevents.postback.dev in the namespace) or None (everybody may post; on loopback only).")
	flag.StringVar(&o.Ingest.Audience, "ingest-audience", "", "Audience of the tokens of producers. The default is the audience of the API server. With another audience, a token for ingest is not valid at the API server.")
	flag.StringVar(&o.Ingest.CertFile, "ingest-tls-cert-file", "", "File with the certificate for HTTPS, in PEM. It is read again when it changes.")
	flag.StringVar(&o.Ingest.KeyFile, "ingest-tls-private-key-file", "", "File with the private key of --ingest-tls-cert-file, in PEM.")
	flag.BoolVar(&o.Ingest.PlainHTTP, "ingest-plain-http", false, "Accept events without TLS on an address other than loopback. The tokens of producers then travel unencrypted: use it only behind a proxy that terminates TLS.")
	flag.Float64Var(&o.Ingest.Rate, "ingest-rate", httpapi.DefaultRate, "Events per second that one producer may post to this replica, or 0 for no limit.")
	flag.IntVar(&o.Ingest.Burst, "ingest-burst", httpapi.DefaultBurst, "Events that one producer may post to this replica in one burst, at least 100.")
	flag.StringVar(&o.MetricsAddress, "metrics-bind-address", "127.0.0.1:8082", "Address of the metrics, or 0 for none.")
	flag.StringVar(&o.ProbeAddress, "health-probe-bind-address", ":8083", "Address of the probes /healthz and /readyz, or 0 for none.")
	flag.StringVar(&o.ProfileAddress, "pprof-bind-address", "0", "Address of profiles for Go's pprof, or 0 for none. Without a host it is on loopback. Profiles can show data in memory: restrict access to this address.")
	flag.StringVar(&o.SignatureHeader, "signature-header", sign.DefaultDubHeader, "Header of the signature scheme Dub. The manager needs the same value.")
	flag.StringVar(&o.UserAgent, "user-agent", "Postback/"+version, "Header User-Agent of the requests.")
	flag.Int64Var(&o.MaxBodyBytes, "max-body-bytes", httpapi.DefaultMaxBodyBytes, "Largest body of a request to ingest, in bytes.")
	flag.IntVar(&o.MaxFinished, "max-finished-deliveries", retention.DefaultMaxFinished, "Number of finished PostbackDeliveries in the cluster, or 0 for no limit. Beyond it the oldest are deleted, regardless of spec.history of their Postbacks.")
	flag.IntVar(&o.MaxInFlight, "max-in-flight", lane.DefaultMaxInFlight, "Attempts in flight at a time, for all endpoints together.")
	flag.Var(&o.Egress.AllowCIDRs, "allow-cidr", "Private addresses to allow, such as 10.0.0.0/8 for all namespaces, or partner-acme=10.1.0.0/16 for one. May be repeated, or contain several, separated by commas.")
	flag.Var(&o.Egress.ClusterCIDRs, "cluster-cidr", "Addresses of the cluster's own Services and Pods, refused even if they are public. May be repeated, or contain several, separated by commas.")
	flag.StringVar(&o.Egress.AllowPorts, "allow-ports", egress.DefaultPorts, "Allowed ports of endpoints: ports and ranges, separated by commas.")
	flag.StringVar(&o.Egress.Proxy, "egress-proxy", "", "URL of the proxy for all requests to endpoints, of scheme http, https, socks5 (the dispatcher resolves names) or socks5h (the proxy does).")
	flag.StringVar(&o.Egress.ProxyCredentialsFile, "egress-proxy-credentials-file", "", "File with user:password for the proxy in its first line, read at each connection.")
	flag.StringVar(&o.Egress.NoProxy, "no-proxy", "", "Hosts, domains and CIDRs to reach without the proxy, separated by commas, as in the environment variable NO_PROXY.")
	flag.Var(&o.Watched, watched.Flag, watched.Usage)
	o.NATS.Names = message.DefaultPrefix
	bindNATS(&o)
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	if err := start.Parse(flag.CommandLine, "DispatcherConfiguration", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(misused)
	}
	o.Log = start.Log(logging)
	o.Pod = pod(o.Identity)

	if err := run(o); err != nil {
		o.Log.Error(err, "The dispatcher ends")
		os.Exit(1)
	}
}

// bindNATS adds the flags of the intake, and of NATS.
func bindNATS(o *dispatcher.Options) {
	flag.StringVar(&o.Intake, "intake", dispatcher.IntakeKubernetes, "Store of a delivery until its first attempt: kubernetes (each is a PostbackDelivery) or jetstream (a stream of NATS; up to about 100 failed ones of a Postback become PostbackDeliveries).")
	flag.StringVar(&o.NATS.URL, "nats-url", "", "URLs of the NATS servers for --intake=jetstream, separated by commas, such as tls://nats.example.com:4222.")
	flag.BoolVar(&o.EmbedNATS, "nats-embedded", false, "Run a NATS server in this process for --intake=jetstream, in place of --nats-url.")
	flag.StringVar(&o.NATSServer.StoreDir, "nats-store-dir", "", "Directory of the embedded NATS server, on a persistent volume. Each replica needs one of its own.")
	flag.DurationVar(&o.NATSServer.SyncInterval, "nats-sync-interval", 0, "Time between two writes of the embedded NATS server's files to the disk. With 0, an event is on the disk before ingest answers. Otherwise a machine that loses its power loses the events of this time.")
	flag.Var(&o.NATSServer.Cluster.Peers, "nats-cluster-peers", "Names by which three embedded NATS servers reach each other, HOST or HOST:PORT, this one included, separated by commas. Without this flag the server runs alone.")
	flag.StringVar(&o.NATSServer.Cluster.Address, "nats-cluster-bind-address", embedded.DefaultClusterAddress, "Address on which the embedded NATS server listens for the others of --nats-cluster-peers.")
	flag.StringVar(&o.NATSServer.Cluster.CAFile, "nats-cluster-ca-file", "", "File with the authorities of --ingest-tls-cert-file, in PEM. The servers of --nats-cluster-peers authenticate each other by this certificate.")
	flag.StringVar(&o.NATS.CredentialsFile, "nats-credentials-file", "", "File with the JWT and the key of the NATS user. It is read again at each connection.")
	flag.StringVar(&o.NATS.CAFile, "nats-ca-file", "", "File with the authorities for the certificates of the NATS servers, in PEM. It replaces the public authorities.")
	flag.StringVar(&o.NATS.CertFile, "nats-tls-cert-file", "", "File with the client certificate for the NATS servers, in PEM.")
	flag.StringVar(&o.NATS.KeyFile, "nats-tls-private-key-file", "", "File with the private key of --nats-tls-cert-file, in PEM.")
	flag.Var(prefix{&o.NATS.Names}, "nats-stream-prefix", "Prefix of the names of the streams and, in lower case, of the subjects. Installations that share an account of NATS need different prefixes.")
	flag.IntVar(&o.NATS.Replicas, "nats-replicas", jetstream.DefaultReplicas, "Number of servers that store a new stream. An existing stream keeps its number.")
	flag.DurationVar(&o.NATS.DuplicateWindow, "nats-duplicate-window", jetstream.DefaultDuplicateWindow, "Deduplication window: an event with the same id is a duplicate within this time.")
	flag.BoolVar(&o.NATS.GroupCommit, "nats-group-commit", false, "Store messages that arrive during a write together, in the next write. Use it for a single server of version 2.12 or newer with sync_interval: always; elsewhere it costs more than it saves.")
	flag.Int64Var(&o.NATS.MaxBytes, "nats-max-bytes", jetstream.DefaultMaxBytes, "Largest size in bytes of each of three streams: deliveries, deliveries that wait for their endpoints, and published events. When the first is full, ingest refuses events until there is room.")
	flag.Int64Var(&o.NATS.LogMaxBytes, "log-max-bytes", jetstream.DefaultLogMaxBytes, "Largest size of the delivery log, in bytes. Beyond it NATS removes the oldest entries.")
	flag.DurationVar(&o.NATS.LogMaxAge, "log-max-age", jetstream.DefaultLogMaxAge, "Time after which NATS removes an entry of the delivery log.")
}

// prefix is the flag.Value of the prefix of stream names.
type prefix struct{ names *message.Names }

// String implements flag.Value.
func (p prefix) String() string {
	if p.names == nil {
		return ""
	}
	return string(*p.names)
}

// Set implements flag.Value.
func (p prefix) Set(value string) error {
	*p.names = message.Names(value)
	return nil
}

// ballast is the size of an allocation that is never touched and therefore occupies no memory. The garbage collector
// counts it as live, so it permits as much garbage before the next collection. The live heap of a dispatcher is small.
// Without the ballast, a busy one would collect thirty times a second and spend a sixth of its CPU on that. With a large
// live heap, of many unfinished deliveries, the ballast costs hardly any memory, unlike a larger GOGC.
const ballast = 32 << 20

func run(o dispatcher.Options) error {
	untouched := make([]byte, ballast)
	defer runtime.KeepAlive(untouched)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	o.Log.Info("Starting", "version", version, "identity", o.Identity)
	ctx := ctrl.SetupSignalHandler()
	traces, stop, err := trace.Start(ctx, o.Identity, version, o.Log.WithName("trace"))
	if err != nil {
		return err
	}
	defer stop()
	o.Traces = traces
	return dispatcher.Run(ctx, config, o)
}

// pod returns an owner reference to the Pod of this process. It returns nil if the downward API sets no UID, or a
// name other than the replica's.
func pod(name string) *metav1.OwnerReference {
	uid := os.Getenv("POD_UID")
	if uid == "" || os.Getenv("POD_NAME") != name {
		return nil
	}
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: types.UID(uid)}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "dispatcher"
	}
	return strings.ToLower(name)
}
