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

// Package natsserver runs real nats-servers with JetStream for tests, one or a cluster of three, on loopback and with
// their own files. Tests may kill and restart them.
package natsserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// Options configure the servers.
type Options struct {
	// Nodes is the number of servers; the default is 1. Several form a cluster.
	Nodes int
	// SyncAlways means that each write reaches the disk before its acknowledgement.
	SyncAlways bool
	// MaxFileStore bounds the bytes that JetStream stores on a node, in the syntax of nats-server, such as "1GB". The
	// default is 4GB.
	MaxFileStore string
	// Extra is appended to the configuration of each node, such as an authorization block.
	Extra string
	// ClientTLS is the content of the block tls; "" means no TLS.
	ClientTLS string
	// Dir is the folder of the servers' files.
	Dir string
}

// Server is a node.
type Server struct {
	*controlplane.Program
	// Name is the name of the node, URL its URL for clients.
	Name, URL string

	port, clusterPort, httpPort int
	dir                         string
}

// Cluster has all nodes, even if it is only one.
type Cluster struct {
	Nodes []*Server
}

// URL returns the URLs of all nodes, for clients.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		urls[i] = node.URL
	}
	return strings.Join(urls, ",")
}

// Path returns the path of nats-server. It builds nats-server if necessary, which takes half a minute the first time,
// and writes the progress to progress.
func Path(ctx context.Context, progress io.Writer) (string, error) {
	return controlplane.Build(ctx, progress, "natsserver")
}

// New starts servers that end with the test.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := Start(t.Context(), o, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Start starts servers and returns once JetStream accepts streams.
func Start(ctx context.Context, o Options, progress io.Writer) (*Cluster, error) {
	path, err := Path(ctx, progress)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	for i := range max(o.Nodes, 1) {
		node := &Server{Name: "node" + strconv.Itoa(i+1), dir: filepath.Join(o.Dir, "nats"+strconv.Itoa(i+1))}
		for _, port := range []*int{&node.port, &node.clusterPort, &node.httpPort} {
			if *port, err = controlplane.FreePort(); err != nil {
				return nil, err
			}
		}
		node.URL = "nats://127.0.0.1:" + strconv.Itoa(node.port)
		c.Nodes = append(c.Nodes, node)
	}
	for _, node := range c.Nodes {
		if err := node.prepare(path, o, c.Nodes); err != nil {
			return nil, err
		}
	}
	if err := c.StartAll(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// StartAll starts the nodes that do not run. It starts them concurrently, because a node of a cluster is ready only
// once it knows a leader.
func (c *Cluster) StartAll(ctx context.Context) error {
	started := make(chan error, len(c.Nodes))
	for _, node := range c.Nodes {
		go func() { started <- node.Start(ctx) }()
	}
	var all error
	for range c.Nodes {
		all = errors.Join(all, <-started)
	}
	return all
}

// Stop ends all nodes in order.
func (c *Cluster) Stop() error {
	var all error
	for _, node := range c.Nodes {
		all = errors.Join(all, node.Stop())
	}
	return all
}

// Kill kills all nodes, as kill -9 does.
func (c *Cluster) Kill() error {
	var all error
	for _, node := range c.Nodes {
		all = errors.Join(all, node.Kill())
	}
	return all
}

// LoseStore stops all nodes, deletes the store of JetStream, and restarts them.
func (c *Cluster) LoseStore(ctx context.Context) error {
	if err := c.Stop(); err != nil {
		return err
	}
	for _, node := range c.Nodes {
		if err := os.RemoveAll(node.storePath()); err != nil {
			return fmt.Errorf("delete the store of %s: %w", node.Name, err)
		}
	}
	return c.StartAll(ctx)
}

// Node returns the node with a name, such as the leader of a stream.
func (c *Cluster) Node(name string) *Server {
	for _, node := range c.Nodes {
		if node.Name == name {
			return node
		}
	}
	return nil
}

func (s *Server) prepare(path string, o Options, all []*Server) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", s.Name, err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "server_name: %s\nlisten: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\n", s.Name, s.port, s.httpPort)
	fmt.Fprintf(&config, "jetstream {\n  store_dir: %q\n  max_file_store: %s\n", s.storePath(), orDefault(o.MaxFileStore, "4GB"))
	if o.SyncAlways {
		config.WriteString("  sync_interval: always\n")
	}
	config.WriteString("}\n")
	if o.ClientTLS != "" {
		fmt.Fprintf(&config, "tls {\n%s\n}\n", o.ClientTLS)
	}
	if len(all) > 1 {
		fmt.Fprintf(&config, "cluster {\n  name: postback\n  listen: 127.0.0.1:%d\n  routes: [", s.clusterPort)
		for _, other := range all {
			fmt.Fprintf(&config, "\n    nats://127.0.0.1:%d", other.clusterPort)
		}
		config.WriteString("\n  ]\n}\n")
	}
	config.WriteString(o.Extra + "\n")
	file := filepath.Join(s.dir, "nats.conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", s.Name, err)
	}
	s.Program = controlplane.NewProgram(path, s.logPath(), s.ready, "-c", file)
	return nil
}

func (s *Server) storePath() string { return filepath.Join(s.dir, "store") }

func (s *Server) logPath() string { return filepath.Join(s.dir, "nats.log") }

// Log returns the log of the node.
func (s *Server) Log() (string, error) {
	content, err := os.ReadFile(s.logPath())
	return string(content), err
}

// ready checks the monitoring port, which needs no credentials.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	url := "http://127.0.0.1:" + strconv.Itoa(s.httpPort) + "/healthz?js-enabled-only=false"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", s.Name, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", s.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("%s answers %s: %s", s.Name, response.Status, body)
	}
	return nil
}

// Connect returns a connection that is closed with the test.
func (c *Cluster) Connect(t testing.TB, options ...nats.Option) *nats.Conn {
	t.Helper()
	connection, err := nats.Connect(c.URL(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	return connection
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
