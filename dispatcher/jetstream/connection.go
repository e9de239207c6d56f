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

// Package jetstream keeps deliveries in streams of NATS. A delivery is in the deliveries stream before its first
// attempt, and in the delivery log after its success. It is in the waiting stream until a retry, and while its
// Postback is paused or limited or its endpoint is throttled or slow. The first failures of a Postback become
// PostbackDeliveries and continue as without NATS.
package jetstream

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream/message"
)

// These are defaults of Options.
const (
	DefaultReplicas        = 1
	DefaultDuplicateWindow = 2 * time.Minute
	DefaultMaxBytes        = 1 << 30
	DefaultLogMaxBytes     = 1 << 30
	DefaultLogMaxAge       = 7 * 24 * time.Hour
)

const (
	reconnectWait = 250 * time.Millisecond
	// pingInterval and maxPings detect a server that has gone silent.
	pingInterval = 5 * time.Second
	maxPings     = 2
	// publishTimeout bounds one try to publish.
	publishTimeout = 2 * time.Second
	setupRetry     = time.Second
	setupTimeout   = 10 * time.Second
	drainTimeout   = 3 * time.Second
	// complainAgain is the least time between two log lines about a missing connection.
	complainAgain = 30 * time.Second
)

// Options configure a Connection.
type Options struct {
	// URL has the URLs of the servers, separated by commas.
	URL string
	// Embedded are options for a server in this process, which replaces URL.
	Embedded []nats.Option
	// CredentialsFile has the JWT and the key of a user. CAFile has the authorities that sign the servers'
	// certificates. CertFile and KeyFile are the client certificate. Each may be "".
	CredentialsFile, CAFile, CertFile, KeyFile string
	// Names of the streams and subjects.
	Names message.Names
	// Replicas is the number of servers that store a new stream.
	Replicas int
	// DuplicateWindow is how long the deliveries stream recognises a repeated event.
	DuplicateWindow time.Duration
	// MaxBytes bounds each of the streams of deliveries, waiting deliveries and events. LogMaxBytes and LogMaxAge
	// bound the delivery log.
	MaxBytes, LogMaxBytes int64
	LogMaxAge             time.Duration
	// GroupCommit stores messages in batches, which collect during the previous write. It requires a server of
	// version 2.12 or newer.
	GroupCommit bool
	// Identity is the name of the connection in the server's tools.
	Identity string
	Log      logr.Logger
}

func (o *Options) validate() error {
	switch {
	case o.URL == "" && o.Embedded == nil:
		return errors.New("--intake=jetstream needs --nats-url or --nats-embedded")
	case !o.Names.Valid():
		return fmt.Errorf("--nats-stream-prefix must consist of letters, digits, - and _, not %q", string(o.Names))
	case (o.CertFile == "") != (o.KeyFile == ""):
		return errors.New("a certificate needs its key: set both of --nats-tls-cert-file and --nats-tls-private-key-file, or neither")
	case o.Replicas < 1 || o.Replicas > 5:
		return fmt.Errorf("--nats-replicas must be from 1 to 5, not %d", o.Replicas)
	case o.DuplicateWindow < time.Second:
		return fmt.Errorf("--nats-duplicate-window must be at least 1s, not %s", o.DuplicateWindow)
	case o.MaxBytes < 1<<20 || o.LogMaxBytes < 1<<20:
		return errors.New("--nats-max-bytes and --log-max-bytes must be at least 1048576")
	case o.LogMaxAge < o.DuplicateWindow:
		return errors.New("--log-max-age must not be less than --nats-duplicate-window")
	}
	return nil
}

// Connection is this replica's connection to NATS, with its streams.
type Connection struct {
	options Options
	names   message.Names
	nats    *nats.Conn
	js      jetstream.JetStream
	// dials counts the connections. up is false while there is none: the lock of nats.Conn is too busy to ask it.
	dials dials
	up    atomic.Bool
	// intoDeliveries, intoWaiting and intoLog publish to these streams.
	intoDeliveries, intoWaiting, intoLog *publisher
	// again makes Start check the streams at once.
	again chan struct{}
	// wrong is why the streams are not ready, or nil if they are. rightAt is when they were last ready; only Start
	// uses it.
	wrong   atomic.Pointer[error]
	rightAt time.Time
	// replicas has the last seen number of replicas of each stream.
	replicas map[string]int
	// epoch distinguishes streams and consumers from those that replace them.
	epoch *epoch
	// memory is the memory of the deliveries stream.
	memory *memory
	// complained is the time of the last log line about a missing connection. The handlers that use it do not run
	// concurrently.
	complained time.Time
}

// Connect returns a Connection at once. The connection itself is made, and made again, in the background.
func Connect(o Options) (*Connection, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	inUseGauge.Set(1)
	c := &Connection{options: o, names: o.Names, again: make(chan struct{}, 1), replicas: map[string]int{}}
	c.wrong.Store(&errNotYet)
	c.epoch = newEpoch(c.dials.count.Load)
	c.memory = newMemory(o.DuplicateWindow, c.dials.count.Load, func() bool { return c.nats.ConnectedClusterName() != "" })
	options := []nats.Option{
		nats.Name("postback-dispatcher " + o.Identity), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		// Credentials that have expired are replaced in their file.
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		// A message that cannot be sent fails at once, because the publisher repeats it.
		nats.ReconnectBufSize(-1), nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPings), nats.DrainTimeout(drainTimeout),
		nats.ConnectHandler(func(to *nats.Conn) { c.connected(to, "Connected to NATS") }),
		nats.ReconnectHandler(func(to *nats.Conn) { c.connected(to, "Connected to NATS again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.up.Store(false)
			connectedGauge.Set(0)
			if err != nil {
				o.Log.Info("Connection to NATS lost", "reason", err.Error())
			}
		}),
		nats.ReconnectErrHandler(c.refused),
		nats.ErrorHandler(func(from *nats.Conn, _ *nats.Subscription, err error) {
			if !from.IsConnected() { // The server refuses the credentials.
				c.refused(from, err)
				return
			}
			o.Log.Info("NATS reports a problem", "reason", err.Error())
		}),
	}
	options = append(append(options, o.Embedded...), c.dials.counted)
	if o.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(o.CredentialsFile))
	}
	if o.CAFile != "" {
		options = append(options, nats.RootCAs(o.CAFile))
	}
	if o.CertFile != "" {
		options = append(options, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	var err error
	if c.nats, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	c.js, err = jetstream.New(c.nats, jetstream.WithPublishAsyncMaxPending(2*maxGroup), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		c.nats.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	c.intoDeliveries = &publisher{js: c.js, grouping: o.GroupCommit}
	c.intoWaiting = &publisher{js: c.js, grouping: o.GroupCommit}
	c.intoLog = &publisher{js: c.js, grouping: o.GroupCommit}
	return c, nil
}

func (c *Connection) connected(to *nats.Conn, what string) {
	c.up.Store(true)
	connectedGauge.Set(1)
	c.complained = time.Time{}
	c.options.Log.Info(what, "server", to.ConnectedServerName())
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// refused logs why there is no connection, at most once in complainAgain.
func (c *Connection) refused(_ *nats.Conn, err error) {
	if time.Since(c.complained) < complainAgain {
		return
	}
	c.complained = time.Now()
	c.options.Log.Info("Cannot connect to NATS; trying again", "reason", err.Error())
}

// Names returns the names of streams and subjects.
func (c *Connection) Names() message.Names { return c.names }

// Log returns a reader of the delivery log, for existing Postbacks.
func (c *Connection) Log(routes deliverylog.Routes) *deliverylog.Reader {
	return &deliverylog.Reader{JetStream: c.js, Names: c.names, Routes: routes}
}

// Close flushes the messages under way and ends the connection.
func (c *Connection) Close() {
	if err := c.nats.FlushTimeout(drainTimeout); err != nil {
		c.options.Log.V(1).Info("Some messages were not sent to NATS", "reason", err.Error())
	}
	c.nats.Close()
}

var (
	errDisconnected = errors.New("there is no connection to NATS")
	errNotYet       = errors.New("they have not been checked yet")
)

// Available returns why no delivery can be stored now, or nil.
func (c *Connection) Available() error {
	if !c.up.Load() {
		return errDisconnected
	}
	if wrong := c.wrong.Load(); wrong != nil {
		return fmt.Errorf("the streams of NATS have a wrong configuration: %w", *wrong)
	}
	return nil
}

// Ready is a readiness check.
func (c *Connection) Ready(*http.Request) error { return c.Available() }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (c *Connection) NeedLeaderElection() bool { return false }
