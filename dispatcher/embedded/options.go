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

package embedded

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// DefaultClusterAddress is the default of Cluster.Address.
const DefaultClusterAddress = ":" + defaultClusterPort

const (
	defaultClusterPort = "6222"
	// clusterSize is the only supported size: two servers survive no loss, and five store each message two more
	// times.
	clusterSize = 3
)

// Peers is a flag with comma-separated server addresses.
type Peers []string

// String implements flag.Value.
func (p *Peers) String() string { return strings.Join(*p, ",") }

// Set implements flag.Value.
func (p *Peers) Set(value string) error {
	*p = nil
	for peer := range strings.SplitSeq(value, ",") {
		if peer = strings.TrimSpace(peer); peer != "" {
			*p = append(*p, peer)
		}
	}
	return nil
}

func (o *Options) validate() error {
	switch {
	case o.StoreDir == "":
		return errors.New("--nats-embedded needs --nats-store-dir, the directory of a persistent volume")
	case o.SyncInterval < 0:
		return fmt.Errorf("--nats-sync-interval must not be negative, as %s is", o.SyncInterval)
	}
	return o.Cluster.validate()
}

func (c *Cluster) validate() error {
	if len(c.Peers) == 0 {
		if c.CAFile != "" {
			return errors.New("--nats-cluster-ca-file is for several servers: set --nats-cluster-peers, too, or neither")
		}
		return nil
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(c.Peers))); len(c.Peers) != clusterSize || len(distinct) != clusterSize {
		return fmt.Errorf("--nats-cluster-peers must name %d different servers, this one included, not %d: %q", clusterSize, len(distinct), c.Peers)
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return errors.New("--nats-cluster-peers needs --ingest-tls-cert-file and --ingest-tls-private-key-file: the servers know each other by this certificate")
	}
	if c.CAFile == "" {
		return errors.New("--nats-cluster-peers needs --nats-cluster-ca-file, the authorities of the certificate in --ingest-tls-cert-file")
	}
	return nil
}

// withPort returns the address of a peer, with the default port if it has none.
func withPort(peer string) string {
	if _, _, err := net.SplitHostPort(peer); err == nil {
		return peer
	}
	return net.JoinHostPort(peer, defaultClusterPort)
}
