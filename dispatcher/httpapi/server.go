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

// Package httpapi is the HTTP door for events: server, TLS, authorization and rates of producers, and the answers.
// Package accept matches and stores. docs/ingest.md describes the API.
package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/internal/pace"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// These are defaults of Options.
const (
	DefaultAddress      = "127.0.0.1:8080"
	DefaultMaxBodyBytes = 256 << 10
	DefaultMaxInFlight  = 256
	DefaultRate         = 1000.0
	DefaultBurst        = 2000
)

// largestMaxBodyBytes is the largest value of Options.MaxBodyBytes. A delivery's body has at most 1 MiB, including
// the fields that the operator adds to an event.
const largestMaxBodyBytes = 1<<20 - 1<<10

const (
	// requestTimeout bounds a request, from the end of its header to the last stored delivery.
	requestTimeout = 10 * time.Second
	readTimeout    = 10 * time.Second
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	// writeTimeout counts from the end of the request's header, as in http.Server.
	writeTimeout = readTimeout + requestTimeout + 10*time.Second
	// shutdownTimeout suffices for a request that arrived just before the shutdown.
	shutdownTimeout = requestTimeout + 5*time.Second
	maxHeaderBytes  = 16 << 10
)

// Acceptor accepts posted events. It is an *accept.Acceptor.
type Acceptor interface {
	Accept(ctx context.Context, namespace string, posted []event.Posted) (accept.Results, error)
	Synced() bool
}

// LogDoor answers requests for the delivery log on the same server. It is a *logapi.Handler.
type LogDoor interface {
	// Serve answers a request, or returns false if the path is not of the delivery log.
	Serve(w http.ResponseWriter, r *http.Request) bool
	AsksForCertificate() bool
	// Stop ends the watches, which would outlive the server.
	Stop()
}

// Options configure a Server. Acceptor is required.
type Options struct {
	// Address to listen on, host:port. The default is DefaultAddress.
	Address string
	// Watched are the namespaces whose events are accepted.
	Watched watched.Namespaces
	// MaxBodyBytes bounds the body of a request. The default is DefaultMaxBodyBytes, the maximum largestMaxBodyBytes.
	MaxBodyBytes int64
	// MaxInFlight bounds the requests in flight; the server refuses further ones. The default is DefaultMaxInFlight.
	MaxInFlight int

	Acceptor Acceptor
	// Access authorises producers. If it is nil, everybody may post, and Address must be a loopback address.
	Access Access
	// LogDoor answers requests for the delivery log. It may be nil.
	LogDoor LogDoor
	// Traces records the spans of requests. It may be nil.
	Traces *trace.Traces
	// CertFile and KeyFile are PEM files with the certificate and its key for HTTPS. They are read again when they
	// change. Without them the server speaks plain HTTP, which requires a loopback Address or PlainHTTP.
	CertFile, KeyFile string
	PlainHTTP         bool
	// Rate bounds the events per second of each caller; 0 means no bound. Burst is the number that a caller may post
	// at once.
	Rate  float64
	Burst int
	// Clock sets createdAt of events without one. The default is the real clock.
	Clock clock.PassiveClock
	Log   logr.Logger

	requestTimeout, readTimeout, shutdownTimeout time.Duration
}

func (o *Options) setDefaults() {
	o.Address = cmp.Or(o.Address, DefaultAddress)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, DefaultMaxInFlight)
	o.requestTimeout = cmp.Or(o.requestTimeout, requestTimeout)
	o.readTimeout = cmp.Or(o.readTimeout, readTimeout)
	o.shutdownTimeout = cmp.Or(o.shutdownTimeout, shutdownTimeout)
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
}

func (o *Options) validate() error {
	switch {
	case o.Acceptor == nil:
		return errors.New("an acceptor is required")
	case o.MaxBodyBytes < 1 || o.MaxBodyBytes > largestMaxBodyBytes:
		return fmt.Errorf("the limit of a body must be from 1 to %d bytes, not %d", largestMaxBodyBytes, o.MaxBodyBytes)
	case o.MaxInFlight < 1:
		return fmt.Errorf("the limit of requests in flight must be at least 1, not %d", o.MaxInFlight)
	case o.Rate < 0 || math.IsNaN(o.Rate) || math.IsInf(o.Rate, 0):
		return fmt.Errorf("the rate of a caller (--ingest-rate) must be a number of events per second, or 0 for no limit, not %v", o.Rate)
	case o.Rate > 0 && o.Burst < event.MaxEvents:
		return fmt.Errorf("the burst of a caller (--ingest-burst) must be at least %d, the number of events that one request may hold, not %d", event.MaxEvents, o.Burst)
	}
	return o.validateReach()
}

// validateReach refuses options by which anybody could post, or tokens would cross the network in the clear.
func (o *Options) validateReach() error {
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("a certificate needs its key: set both of --ingest-tls-cert-file and --ingest-tls-private-key-file, or neither")
	case isLoopback(o.Address):
		return nil
	case o.Access == nil:
		return fmt.Errorf("everybody who reaches %s could send events: use --ingest-auth=Kubernetes, or a loopback address such as %s as --ingest-bind-address", o.Address, DefaultAddress)
	case o.CertFile == "" && !o.PlainHTTP:
		return fmt.Errorf("senders would transmit tokens to %s without TLS: set --ingest-tls-cert-file and --ingest-tls-private-key-file, or a loopback address such as %s as --ingest-bind-address; or, behind a proxy that speaks TLS, --ingest-plain-http", o.Address, DefaultAddress)
	}
	return nil
}

// isLoopback reports whether an address can be reached only from this machine or Pod.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Server serves the HTTP API of every replica. It is a manager.Runnable.
type Server struct {
	options Options
	// inFlight holds one element for each request in flight.
	inFlight chan struct{}
	pace     *pace.Limit

	listening chan struct{}
	addr      net.Addr
	ready     atomic.Bool
}

// New returns a Server. Start makes it listen.
func New(o Options) *Server {
	o.setDefaults()
	return &Server{
		options:   o,
		inFlight:  make(chan struct{}, max(o.MaxInFlight, 0)),
		pace:      pace.New(o.Rate, o.Burst, o.Clock),
		listening: make(chan struct{}),
	}
}

// Listening returns a channel that is closed once the server listens.
func (s *Server) Listening() <-chan struct{} { return s.listening }

// Addr returns the address on which the server listens, or nil before Listening is closed.
func (s *Server) Addr() net.Addr {
	select {
	case <-s.listening:
		return s.addr
	default:
		return nil
	}
}

// Ready is a readiness check: it fails unless the server takes new requests.
func (s *Server) Ready(*http.Request) error {
	switch {
	case !s.ready.Load():
		return errors.New("ingest accepts no requests")
	case !s.options.Acceptor.Synced():
		return errors.New("ingest waits for the routes")
	}
	return nil
}

// Handler returns the handler of all requests.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Start serves until ctx ends, then finishes the requests in flight. It may be called only once.
func (s *Server) Start(ctx context.Context) error {
	if err := s.options.validate(); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.Address)
	if err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	server := s.httpServer(ctx)
	served := make(chan error, 2)
	serve := server.Serve
	if s.options.CertFile != "" {
		certificates, err := s.watchCertificates(server)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		// The certificates are watched until the last request in flight ends.
		watching, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		go func() { served <- certificates.run(watching) }()
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	go func() { served <- serve(listener) }()
	s.addr = listener.Addr()
	close(s.listening)
	s.ready.Store(true)
	s.options.Log.Info("Accepting events", "address", s.addr.String(), "tls", s.options.CertFile != "", "authentication", s.options.Access != nil)

	select {
	case err := <-served:
		s.ready.Store(false)
		return errors.Join(fmt.Errorf("serve events: %w", err), server.Close())
	case <-ctx.Done():
	}
	s.ready.Store(false)
	if s.options.LogDoor != nil {
		s.options.LogDoor.Stop()
	}
	s.options.Log.Info("Accepting no more events: finishing requests in flight")
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return errors.Join(fmt.Errorf("finish requests in flight: %w", err), server.Close())
	}
	return nil
}

func (s *Server) httpServer(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:                      s.Handler(),
		ReadHeaderTimeout:            min(headerTimeout, s.options.readTimeout),
		ReadTimeout:                  s.options.readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		// Requests in flight outlive ctx.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(logr.ToSlogHandler(s.options.Log), slog.LevelInfo),
	}
}
