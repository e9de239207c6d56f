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

// Package console is the web console. Its pages show and change the Postbacks of one namespace or all, with their
// deliveries. A Console acts with the rights of one user. A Server serves one on loopback to the user who started it.
// The portal serves one to each of its visitors. A Console uses the API server, and a dispatcher if there is a
// delivery log.
package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
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
	// bodyTimeout bounds the time to read a request with a body. It is longer than pageTimeout.
	bodyTimeout = pageTimeout + headerTimeout
	clientQPS   = 50
	clientBurst = 100
)

// Options configure a Console.
type Options struct {
	// Config is the configuration of a client with the user's rights.
	Config *rest.Config
	// Namespace is the namespace to show; "" means all.
	Namespace string
	// Kubectl names the cluster on the pages and in scripts. It may be empty.
	Kubectl curl.Kubectl
	// Data is the data to show, or nil if the console reads it itself. The user must have the right to list all of it.
	Data *Data
	// DeliveryLog is nil if there is no delivery log, or if it cannot be read. Unread is the reason to show, or "".
	DeliveryLog *deliveries.Client
	Unread      string
	// Hosted says that visitors use a portal: they have no kubeconfig, and can sign out.
	Hosted bool
	// Renewed says that the pages of a portal renew their session. Namespaces is the path of the page on which visitors
	// of a portal choose another namespace, or "".
	Renewed    bool
	Namespaces string
	// Rules are those of the platform that serves the pages.
	Rules Rules
	// Clock defaults to the system clock.
	Clock clock.PassiveClock
}

// Console serves the pages of one user.
type Console struct {
	hosted     bool
	renewed    bool
	namespaces string
	namespace  string
	kubectl    curl.Kubectl
	client     client.Client
	data       *Data
	// shares says that the data is not of this console alone.
	shares     bool
	feed       *feed.Feed
	views      *views
	deliveries *deliveries.Reader
	unread     string
	rights     *rights
	rules      Rules
	clock      clock.PassiveClock
	// ended is closed when the console ends, to end its streams.
	ended chan struct{}
}

// New returns a console. Its pages have no data before Run runs.
func New(o Options) (*Console, error) {
	o.Clock = cmp.Or[clock.PassiveClock](o.Clock, clock.RealClock{})
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = clientQPS, clientBurst
	config.WarningHandlerWithContext = rest.NoWarnings{}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	reviews, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	data, shares := o.Data, o.Data != nil
	if !shares {
		o.Config = config
		if data, err = NewData(o); err != nil {
			return nil, err
		}
	}
	return &Console{
		hosted: o.Hosted, renewed: o.Renewed, namespaces: o.Namespaces, namespace: o.Namespace, kubectl: o.Kubectl, client: client.WithFieldOwner(c, v1alpha1.PluginFieldOwner),
		data: data, shares: shares, feed: data.feed, views: data.views, deliveries: &deliveries.Reader{API: c, Log: o.DeliveryLog}, unread: o.Unread,
		rights: newRights(reviews, o.Clock), rules: o.Rules, clock: o.Clock, ended: make(chan struct{}),
	}, nil
}

// Run keeps the pages current until ctx ends, which also ends their streams. It may be called once.
func (c *Console) Run(ctx context.Context) {
	context.AfterFunc(ctx, func() { close(c.ended) })
	if c.shares {
		<-ctx.Done() // Whoever made the data keeps it current.
		return
	}
	c.data.Run(ctx)
}

// Pages returns the handler of the pages, for requests that are already authenticated.
func (c *Console) Pages() http.Handler { return readWithin(bodyTimeout, c.routes()) }

// Static returns the handler of the files below guard.StaticPath, which are the same for everybody.
func Static() http.Handler {
	return http.StripPrefix(strings.TrimSuffix(guard.StaticPath, "/"), static())
}

// Refuse writes a page with the reason why a request is refused.
func Refuse(w http.ResponseWriter, status int, why string) { refuse(w, status, why) }

// readWithin bounds the time to read a request with a body. A request without a body, such as for a stream, has no
// bound.
func readWithin(bound time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// Without a deadline, a client could hold the connection forever. A connection without support for
			// deadlines is refused.
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bound)); err != nil {
				refuse(w, http.StatusInternalServerError, err.Error())
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
