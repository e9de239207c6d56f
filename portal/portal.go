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

// Package portal serves the console's pages to partners, who have a browser and no kubeconfig. A platform's backend
// requests a link. Its code is exchanged, once, for a session with a short-lived token of a ServiceAccount in the
// partner's namespace. The pages act only with that token. docs/portal.md describes it.
package portal

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/pace"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/portal/openid"
)

const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 10 * time.Second
	maxHeaderBytes  = 16 << 10
	// maxBodyTime bounds the time to read a request with a body.
	maxBodyTime = 30 * time.Second
	// maxAnswerTime bounds a request including its answer. Streams have no bound.
	maxAnswerTime = 90 * time.Second
)

// Options configure a Portal.
type Options struct {
	// URL is the base URL under which browsers reach the portal, such as https://postbacks.example.com.
	URL string
	// Address is the address to listen on for browsers and backends. ProbeAddress is that for the kubelet's probes,
	// and MetricsAddress that for Prometheus; "0" means none.
	Address, ProbeAddress, MetricsAddress string
	// CertFile and KeyFile hold the certificate and its key, in PEM. Without them PlainHTTP must be true.
	CertFile, KeyFile string
	PlainHTTP         bool
	// Namespace is the portal's own namespace, which holds the unopened links.
	Namespace string
	// Installation is the namespace of the operator's installation.
	Installation string
	// SessionKeyFile holds the keys that encrypt cookies, one on each line, the present one first.
	SessionKeyFile string
	// Forwarded says that a proxy in front appends the visitor's address to X-Forwarded-For.
	Forwarded bool
	// LookDir has the files of the platform's look, or is "".
	LookDir string
	// EmbedOrigins are the origins whose pages may embed the portal in a frame, separated by commas.
	EmbedOrigins string
	// OpenID configures the sign-in at an issuer. Without an Issuer, visitors sign in by links only.
	OpenID openid.Options
	// Clock defaults to the system clock.
	Clock clock.PassiveClock
	Log   logr.Logger
}

// Portal is a portal, which listens after Run or Serve.
type Portal struct {
	options Options
	door    *door
}

// New returns a portal. config has the credentials of the portal's own ServiceAccount, which only signs visitors in.
func New(config *rest.Config, o Options) (*Portal, error) {
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	origin, err := parseOrigin(o.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Namespace == "":
		return nil, errors.New("--namespace must name the portal's own namespace")
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, errors.New("a certificate needs its key: set both of --tls-cert-file and --tls-private-key-file, or neither")
	case o.CertFile == "" && !o.PlainHTTP:
		return nil, errors.New("sessions would travel without TLS: set --tls-cert-file and --tls-private-key-file or, behind a proxy that terminates TLS, --plain-http")
	}
	keys, err := os.ReadFile(o.SessionKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the session keys (--session-key-file): %w", err)
	}
	sealer, err := newSealer(string(keys))
	if err != nil {
		return nil, fmt.Errorf("read the session keys (--session-key-file): %w", err)
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	issuer, err := newIssuer(o, origin)
	if err != nil {
		return nil, err
	}
	origins, err := parseOrigins(o.EmbedOrigins)
	if err != nil {
		return nil, err
	}
	shown, err := newLooks(o, origins, api)
	if err != nil {
		return nil, err
	}
	reviewer := access.New(api, "", countReview, o.Clock)
	return &Portal{options: o, door: &door{
		origin: origin, sealer: sealer, access: reviewer, clock: o.Clock, log: o.Log, forwarded: o.Forwarded, static: console.Static(), looks: shown, origins: origins,
		links:     &links{api: api, namespace: o.Namespace, sealer: sealer, clock: o.Clock},
		visits:    newVisits(config, api, o.Installation, reviewer, o.Clock),
		addresses: pace.New(addressRate, addressBurst, o.Clock), sessions: pace.New(sessionRate, sessionBurst, o.Clock),
		senders: pace.New(linkRate, linkBurst, o.Clock), openid: issuer, renewals: rbacreview.New[renewal](o.Clock),
	}}, nil
}

// newIssuer returns the client of the issuer, or nil without one.
func newIssuer(o Options, origin *url.URL) (*openid.Client, error) {
	if o.OpenID.Issuer == "" {
		if o.OpenID.ClientID != "" || o.OpenID.SecretFile != "" || o.OpenID.CAFile != "" || o.OpenID.NamespaceClaim != "" {
			return nil, errors.New("the flags of OpenID Connect need the issuer: set --oidc-issuer-url")
		}
		return nil, nil
	}
	// The redirect URL is fixed, so that no request can lead the code elsewhere.
	o.OpenID.RedirectURL = origin.Scheme + "://" + origin.Host + callbackPath
	o.OpenID.Clock, o.OpenID.Log = o.Clock, o.Log
	return openid.New(o.OpenID)
}

// parseOrigin parses the URL of the portal. Its cookies require HTTPS and a host of its own.
func parseOrigin(text string) (*url.URL, error) {
	origin, err := url.Parse(text)
	if err != nil || origin.Scheme != "https" || origin.Host == "" || origin.User != nil || origin.Path != "" || origin.RawQuery != "" || origin.Fragment != "" {
		return nil, fmt.Errorf("--url is %q, and must be https:// and a host, without a path, such as https://postbacks.example.com", text)
	}
	return origin, nil
}

// Handler returns the handler of browsers and backends.
func (p *Portal) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection, now := http.NewResponseController(w), time.Now()
		var read, written time.Time
		if r.ContentLength != 0 {
			read = now.Add(maxBodyTime)
		}
		if !strings.HasSuffix(r.URL.Path, console.LivePath) {
			written = now.Add(maxAnswerTime)
		}
		// Without deadlines, a client that neither sends nor reads could hold the connection forever.
		if err := errors.Join(connection.SetReadDeadline(read), connection.SetWriteDeadline(written)); err != nil {
			console.Refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		count(w, r, p.door)
	})
}

// Run serves until ctx ends.
func (p *Portal) Run(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", p.options.Address)
	if err != nil {
		return fmt.Errorf("listen for browsers (--bind-address): %w", err)
	}
	return p.Serve(ctx, listener)
}

// Serve serves on a listener until ctx ends.
func (p *Portal) Serve(ctx context.Context, listener net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	server := &http.Server{Handler: p.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes}
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	serve := server.Serve
	if p.options.CertFile != "" {
		watcher, err := certwatcher.New(p.options.CertFile, p.options.KeyFile)
		if err != nil {
			return errors.Join(fmt.Errorf("read the certificate (--tls-cert-file, --tls-private-key-file): %w", err), listener.Close())
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: watcher.GetCertificate}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		running.Go(func() {
			if err := watcher.Start(ctx); err != nil {
				p.options.Log.Error(err, "Cannot watch the certificate")
			}
		})
	}
	running.Go(func() { p.keep(ctx) })
	running.Go(func() { p.door.looks.run(ctx) })
	if p.door.openid != nil {
		running.Go(func() { p.door.openid.Run(ctx) })
	}
	probes, err := answerOn(ctx, p.options.ProbeAddress, "probes (--health-probe-bind-address)", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	running.Go(probes)
	scrapes, err := answerOn(ctx, p.options.MetricsAddress, "Prometheus (--metrics-bind-address)", metricsHandler())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	running.Go(scrapes)
	running.Go(func() {
		<-ctx.Done()
		// Streams last as long as their visits, which therefore end first.
		p.door.visits.stop()
		shutDown(ctx, server)
	})
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve browsers: %w", err)
	}
	return nil
}

func shutDown(ctx context.Context, server *http.Server) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		_ = server.Close()
	}
}

// keep ends expired visits and deletes expired links, until ctx ends.
func (p *Portal) keep(ctx context.Context) {
	reviews, sweeps := time.NewTicker(reviewEvery), time.NewTicker(sweepEvery)
	defer reviews.Stop()
	defer sweeps.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reviews.C:
			p.door.visits.sweep(ctx)
		case <-sweeps.C:
			if err := p.door.links.sweep(ctx); err != nil && ctx.Err() == nil {
				p.options.Log.Error(err, "Cannot delete old links")
			}
		}
	}
}

// answerOn returns a function that serves a handler on an address until ctx ends. "0" means none. of names the clients
// and the flag, for the error.
func answerOn(ctx context.Context, address, of string, handler http.Handler) (serve func(), err error) {
	if address == "0" || address == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", of, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return func() { _ = server.Serve(listener) }, nil
}

// metricsHandler answers Prometheus. It holds no data of visitors.
func metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	return mux
}
