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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// identity is the certificate of ingest, which all replicas share. A peer is a server with a certificate for the same
// name from a trusted authority. The files are read at each connection, so a renewed certificate needs no restart.
type identity struct {
	certFile, keyFile, caFile string
}

func newIdentity(c *Cluster) (*identity, error) {
	id := &identity{certFile: c.CertFile, keyFile: c.KeyFile, caFile: c.CAFile}
	if _, err := id.certificate(); err != nil {
		return nil, err
	}
	if _, err := id.authorities(); err != nil {
		return nil, err
	}
	return id, nil
}

func (id *identity) certificate() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(id.certFile, id.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate for other NATS servers (--ingest-tls-cert-file, --ingest-tls-private-key-file): %w", err)
	}
	if len(pair.Leaf.DNSNames) == 0 {
		return nil, errors.New("the certificate in --ingest-tls-cert-file has no DNS name, by which NATS servers know each other")
	}
	return &pair, nil
}

func (id *identity) authorities() (*x509.CertPool, error) {
	text, err := os.ReadFile(id.caFile)
	if err != nil {
		return nil, fmt.Errorf("read --nats-cluster-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--nats-cluster-ca-file=%s holds no certificate in PEM", id.caFile)
	}
	return pool, nil
}

// config returns the TLS configuration for both ends of a connection. verify replaces the built-in checks, whose name
// and authorities are fixed.
func (id *identity) config() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		ClientAuth:           tls.RequireAnyClientCert,
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection verifies, at both ends.
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.certificate() },
		VerifyConnection:     id.verify,
	}
}

func (id *identity) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other NATS server shows no certificate")
	}
	own, err := id.certificate()
	if err != nil {
		return err
	}
	roots, err := id.authorities()
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: own.Leaf.DNSNames[0], Roots: roots, Intermediates: intermediates})
	if err != nil {
		return fmt.Errorf("the other NATS server has no certificate of this installation: %w", err)
	}
	return nil
}
