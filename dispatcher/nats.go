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

package dispatcher

import (
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/dispatcher/jetstream"
)

// startNATS starts and returns the embedded server and points o.NATS to it. Without EmbedNATS it returns nil.
func startNATS(mgr manager.Manager, o *Options) (*embedded.Server, error) {
	if err := o.validateNATS(); err != nil || !o.EmbedNATS {
		return nil, err
	}
	o.NATSServer.Name, o.NATSServer.Log = o.Identity, o.Log.WithName("nats-server")
	o.NATSServer.Cluster.CertFile, o.NATSServer.Cluster.KeyFile = o.Ingest.CertFile, o.Ingest.KeyFile
	server, err := embedded.Start(o.NATSServer)
	if err != nil {
		return nil, err
	}
	o.NATS.Embedded, o.NATS.Replicas = server.ConnectOptions(), o.NATSServer.Servers()
	if err := errors.Join(mgr.Add(server), mgr.AddReadyzCheck("nats-server", server.Ready)); err != nil {
		server.Shutdown()
		return nil, fmt.Errorf("add the embedded NATS server: %w", err)
	}
	return server, nil
}

// validateNATS refuses combinations of flags in which one has no effect.
func (o *Options) validateNATS() error {
	n := o.NATS
	switch {
	case !o.EmbedNATS && o.NATSServer.StoreDir != "":
		return errors.New("--nats-store-dir is for the embedded server: set --nats-embedded, too, or neither")
	case !o.EmbedNATS && len(o.NATSServer.Cluster.Peers) > 0:
		return errors.New("--nats-cluster-peers is for the embedded server: set --nats-embedded, too, or neither")
	case !o.EmbedNATS:
		return nil
	case o.Intake != IntakeJetStream:
		return fmt.Errorf("--nats-embedded needs --intake=%s, not %s", IntakeJetStream, o.Intake)
	case n.URL != "":
		return errors.New("--nats-embedded and --nats-url exclude each other: the first runs a server here, the second names other servers")
	case n.CredentialsFile != "" || n.CAFile != "" || n.CertFile != "" || n.KeyFile != "":
		return errors.New("--nats-embedded needs no credentials: omit --nats-credentials-file, --nats-ca-file, --nats-tls-cert-file and --nats-tls-private-key-file, which are for --nats-url")
	case n.Replicas != jetstream.DefaultReplicas && n.Replicas != o.NATSServer.Servers():
		return fmt.Errorf("--nats-replicas must be the number of embedded servers, %d, not %d: omit it", o.NATSServer.Servers(), n.Replicas)
	}
	return nil
}

// connect returns the connection to NATS, or nil for IntakeKubernetes.
func connect(o Options) (*jetstream.Connection, error) {
	switch o.Intake {
	case IntakeKubernetes:
		return nil, nil
	case IntakeJetStream:
		o.NATS.Identity, o.NATS.Log = o.Identity, o.Log.WithName("nats")
		return jetstream.Connect(o.NATS)
	}
	return nil, fmt.Errorf("--intake must be %s or %s, not %q", IntakeKubernetes, IntakeJetStream, o.Intake)
}
