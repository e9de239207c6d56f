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

// Package embedded runs a nats-server with JetStream inside the dispatcher: alone, or as one of three that form a cluster.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// clusterName is the same in every installation, because the certificates decide which servers form a cluster.
	clusterName = "postback"
	clientUser  = "dispatcher"
	// maxMemory bounds streams in memory, in bytes. The dispatcher makes none; the server keeps the consumers of log
	// readers there.
	maxMemory = 64 << 20
	// measureInterval is the time between two updates of the metrics.
	measureInterval = 5 * time.Second
)

// Options configure a Server.
type Options struct {
	// Name of the server in its cluster. It is the same after a restart.
	Name string
	// StoreDir is the directory of the messages. Nothing else may write there.
	StoreDir string
	// SyncInterval is how long an acknowledged message may be in the page cache alone. 0 means that NATS acknowledges
	// after the write to disk.
	SyncInterval time.Duration
	// Cluster configures a server of a cluster. Its zero value means a single server.
	Cluster Cluster
	Log     logr.Logger
}

// Cluster connects the three servers of a cluster.
type Cluster struct {
	// Peers are the addresses of all servers, each HOST or HOST:PORT. Without peers the server is single and opens no
	// port.
	Peers Peers
	// Address is the address on which this server listens for its peers.
	Address string
	// CertFile and KeyFile have the certificate that this server presents to its peers. CAFile has the authorities
	// that it trusts.
	CertFile, KeyFile, CAFile string
}

// Servers returns the number of servers that store each message.
func (o *Options) Servers() int { return max(1, len(o.Cluster.Peers)) }

// Server is a nats-server in this process.
type Server struct {
	nats     *natsserver.Server
	password string
	unlock   func()
	// started is closed once the server has read its store or has failed to.
	started chan struct{}
	// fatal receives the error that ends the server.
	fatal chan error
}

// Start starts a server. It returns before the server has read its store, which takes seconds for a large one.
func Start(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	dir, unlock, err := openStore(o.StoreDir, o.form())
	if err != nil {
		return nil, err
	}
	s := &Server{password: rand.Text(), unlock: unlock, started: make(chan struct{}), fatal: make(chan error, 1)}
	if s.nats, err = s.configure(&o, dir); err != nil {
		unlock()
		return nil, err
	}
	s.nats.SetLoggerV2(&logger{log: o.Log, fatal: s.fail}, false, false, false)
	go func() {
		defer close(s.started)
		s.nats.Start()
	}()
	return s, nil
}

func (s *Server) configure(o *Options, dir string) (*natsserver.Server, error) {
	limit, err := storeLimit(dir)
	if err != nil {
		return nil, err
	}
	limitGauge.Set(float64(limit))
	options := &natsserver.Options{
		ServerName: o.Name, NoSigs: true, NoLog: true, DontListen: true,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: limit, JetStreamMaxMemory: maxMemory,
		SyncAlways: o.SyncInterval == 0, SyncInterval: o.SyncInterval,
	}
	if len(o.Cluster.Peers) > 0 {
		if err := s.joinCluster(options, &o.Cluster); err != nil {
			return nil, err
		}
	}
	server, err := natsserver.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("make the embedded NATS server: %w", err)
	}
	return server, nil
}

// joinCluster adds the options of a server in a cluster. It also opens a client port, because routes wait for one: on
// loopback, with a random password that stays in this process.
func (s *Server) joinCluster(options *natsserver.Options, c *Cluster) error {
	host, port, err := splitAddress(c.Address)
	if err != nil {
		return err
	}
	options.DontListen, options.Host, options.Port = false, "127.0.0.1", natsserver.RANDOM_PORT
	options.Username, options.Password = clientUser, s.password
	identity, err := newIdentity(c)
	if err != nil {
		return err
	}
	options.Cluster = natsserver.ClusterOpts{Name: clusterName, Host: host, Port: port, NoAdvertise: true, TLSConfig: identity.config()}
	for _, peer := range c.Peers {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: withPort(peer)})
	}
	return nil
}

// ConnectOptions returns the options by which this process connects to the server.
func (s *Server) ConnectOptions() []nats.Option {
	return []nats.Option{nats.InProcessServer(s), nats.UserInfo(clientUser, s.password)}
}

var errStarting = errors.New("the embedded NATS server is still reading its store")

// InProcessConn implements nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) {
	if !s.isStarted() {
		return nil, errStarting
	}
	return s.nats.InProcessConn()
}

func (s *Server) isStarted() bool {
	select {
	case <-s.started:
		return true
	default:
		return false
	}
}

// Ready is a readiness check. In a cluster, a server is ready once it has caught up, so a rolling update never stops
// one while another lags.
func (s *Server) Ready(*http.Request) error {
	if !s.isStarted() {
		return errStarting
	}
	health := s.nats.Healthz(nil)
	switch {
	case health.Error != "":
		return fmt.Errorf("the embedded NATS server is not ready: %s", health.Error)
	case health.StatusCode != http.StatusOK:
		return fmt.Errorf("the embedded NATS server is not ready: %s", health.Status)
	}
	return nil
}

func (s *Server) fail(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

// Start implements manager.Runnable. It returns nil when ctx ends, or the error that ends the server.
func (s *Server) Start(ctx context.Context) error {
	ticker := time.NewTicker(measureInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fatal:
			return err
		case <-ticker.C:
			s.measure()
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Server) NeedLeaderElection() bool { return false }

// Shutdown stops the server and returns once all files are closed. Close the connections first.
func (s *Server) Shutdown() {
	<-s.started
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
	s.unlock()
}

// logger writes the server's log to the dispatcher's log.
type logger struct {
	log   logr.Logger
	fatal func(error)
}

func (l *logger) Noticef(format string, values ...any) {
	l.log.V(1).Info(fmt.Sprintf(format, values...))
}

func (l *logger) Warnf(format string, values ...any) { l.log.Info(fmt.Sprintf(format, values...)) }

func (l *logger) Errorf(format string, values ...any) {
	l.log.Error(nil, fmt.Sprintf(format, values...))
}

// Fatalf does not exit, so that the dispatcher finishes the attempts in flight.
func (l *logger) Fatalf(format string, values ...any) {
	l.fatal(fmt.Errorf("embedded NATS server: "+format, values...))
}

func (l *logger) Debugf(format string, values ...any) {
	l.log.V(2).Info(fmt.Sprintf(format, values...))
}

// Tracef discards traces, which contain messages.
func (l *logger) Tracef(string, ...any) {}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("--nats-cluster-bind-address must be an address such as :%s, not %q: %w", defaultClusterPort, address, err)
	}
	return host, port, nil
}
