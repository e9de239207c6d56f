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

// Package console is the web console. Its pages show the Postbacks of a namespace, or of all, with their events, and
// change them. It is served on loopback to the user who started it, with their kubeconfig and rights. It talks to the
// API server, and to a dispatcher if there is a delivery log.
package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
	"github.com/postback-dev/postback-operator/console/guard"
	"github.com/postback-dev/postback-operator/internal/curl"
	"github.com/postback-dev/postback-operator/internal/deliveries"
)

const (
	headerTimeout = 10 * time.Second
	// bodyTimeout is how long a request with a body may take, answer included: more than a page does.
	bodyTimeout = pageTimeout + headerTimeout
	idleTimeout = 2 * time.Minute
	// shutdownTimeout is how long pages that are being written have when the console ends.
	shutdownTimeout = 2 * time.Second
	clientQPS       = 50
	clientBurst     = 100
)

// Options are the settings of the console.
type Options struct {
	// Config is the configuration of a client with the rights of the console's user.
	Config *rest.Config
	// Namespace to show; "" means all.
	Namespace string
	// Kubectl names the cluster, for the eye and for scripts. It may be empty.
	Kubectl curl.Kubectl
	// Stream is that of the delivery log, or nil if there is none to be read; Unread says why not, if somebody should know.
	Stream *deliveries.Client
	Unread string
	// Address to listen on, of loopback. The default is a free port of 127.0.0.1.
	Address string
	// Out gets the address that opens the console.
	Out io.Writer
	// Open, if set, is called with that address, to show it in a browser.
	Open func(url string) error
	// Clock is the system's by default.
	Clock clock.PassiveClock
}

// Console is a console that listens.
type Console struct {
	namespace  string
	kubectl    curl.Kubectl
	client     client.Client
	feed       *feed.Feed
	deliveries *deliveries.Reader
	unread     string
	rights     *rights
	guard      *guard.Guard
	clock      clock.PassiveClock
	listener   net.Listener
	// started ends when the console does; its streams end with it.
	started context.Context //nolint:containedctx // It is the server's lifetime, not that of a call.
	end     context.CancelFunc
}

// New returns a console that listens, to be served.
func New(ctx context.Context, o Options) (*Console, error) {
	o.Address = cmp.Or(o.Address, "127.0.0.1:0")
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	if err := guard.Loopback(o.Address); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = clientQPS, clientBurst
	config.WarningHandlerWithContext = rest.NoWarnings{}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	started, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Console{
		namespace: o.Namespace, kubectl: o.Kubectl, client: client.WithFieldOwner(c, v1alpha1.PluginFieldOwner),
		feed: feed.New(c, o.Namespace, o.Stream), deliveries: &deliveries.Reader{API: c, Stream: o.Stream}, unread: o.Unread, rights: newRights(clients.AuthorizationV1(), o.Clock), guard: guard.New(port), clock: o.Clock,
		listener: listener, started: started, end: end,
	}, nil
}

// URL returns the address that opens the console. It works once.
func (c *Console) URL() string { return c.guard.URL(c.listener.Addr().String()) }

// Handler returns what answers browsers.
func (c *Console) Handler() http.Handler {
	return readWithin(bodyTimeout, c.guard.Wrap(c.routes(), refuse))
}

// readWithin bounds the time in which a request with a body can be read. Those without one, such as streams, last as long as
// they are wanted.
func readWithin(bound time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// Without a deadline somebody could hold the connection for ever. A connection that supports none
			// is refused.
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bound)); err != nil {
				refuse(w, http.StatusInternalServerError, err.Error())
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// server returns the server that Serve runs.
func (c *Console) server() *http.Server {
	return &http.Server{Handler: c.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
}

// Serve serves until ctx ends.
func (c *Console) Serve(ctx context.Context) error {
	defer c.end()
	server := c.server()
	fed := make(chan struct{})
	go func() { defer close(fed); c.feed.Run(c.started) }()
	stopped := context.AfterFunc(ctx, func() {
		c.end()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	defer stopped()
	err := server.Serve(c.listener)
	c.end()
	<-fed
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the console: %w", err)
}

// Run serves a console until ctx ends, and prints the address that opens it.
func Run(ctx context.Context, o Options) error {
	c, err := New(ctx, o)
	if err != nil {
		return err
	}
	link := c.URL()
	_, _ = fmt.Fprintf(o.Out, "The console is at %s\nThe link works once. Ctrl-C ends the console.\n", link)
	if o.Open != nil {
		if err := o.Open(link); err != nil {
			_, _ = fmt.Fprintf(o.Out, "Open the link yourself, because no browser was found: %v\n", err)
		}
	}
	return c.Serve(ctx)
}

// Address returns the address of the pages, for browsers with the cookie.
func (c *Console) Address() string { return "http://" + c.listener.Addr().String() }
