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
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/authority"
)

const ingestName = "ingest.example.com"

// TestPeers lets the two ends of a route verify each other's certificate.
func TestPeers(t *testing.T) {
	ours, foreign := authority.New(t), authority.New(t)
	replica := newTestIdentity(t, ours, ingestName, ours)
	for _, tt := range []struct {
		name string
		peer *tls.Config
		want string
	}{
		{"a replica", newTestIdentity(t, ours, ingestName, ours).config(), ""},
		{"a certificate of another authority", stranger(newTestIdentity(t, foreign, ingestName, ours)), "unknown authority"},
		{"a certificate for another name", stranger(newTestIdentity(t, ours, "console.example.com", ours)), "valid for console.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, accepted := handshake(t, replica.config(), tt.peer)
			expect(t, accepted, tt.want)
			solicited, _ := handshake(t, tt.peer, replica.config())
			expect(t, solicited, tt.want)
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		anonymous := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
		_, accepted := handshake(t, replica.config(), anonymous)
		expect(t, accepted, "didn't provide a certificate")
	})
}

// stranger presents its certificate and does not verify the other end's.
func stranger(id *identity) *tls.Config {
	config := id.config()
	config.VerifyConnection = nil
	return config
}

// TestRenewedFiles replaces the certificate by one of a new authority, as the manager does.
func TestRenewedFiles(t *testing.T) {
	before, after := authority.New(t), authority.New(t)
	first, second := newTestIdentity(t, before, ingestName, before, after), newTestIdentity(t, before, ingestName, before, after)
	one, other := first.config(), second.config()
	solicited, accepted := handshake(t, one, other)
	expect(t, solicited, "")
	expect(t, accepted, "")
	renewed := newTestIdentity(t, after, ingestName, after, before)
	for from, to := range map[string]string{renewed.certFile: second.certFile, renewed.keyFile: second.keyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	solicited, accepted = handshake(t, one, other)
	expect(t, solicited, "")
	expect(t, accepted, "")
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("the handshake ends with %v, want %q", err, want)
	}
}

// handshake returns the error of the client's end and that of the server's end.
func handshake(t *testing.T, server, client *tls.Config) (solicited, accepted error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		near, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer near.Close()
		done <- tls.Server(near, server).HandshakeContext(t.Context())
	}()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	client = client.Clone()
	client.ServerName = "replica-1.peers.svc"
	solicited = tls.Client(far, client).HandshakeContext(t.Context())
	if solicited != nil {
		_ = far.Close()
	}
	return solicited, <-done
}

func newTestIdentity(t *testing.T, signer *authority.Authority, name string, trusted ...*authority.Authority) *identity {
	t.Helper()
	certificate, key := signer.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := ""
	for _, a := range trusted {
		bundle += a.Bundle()
	}
	dir := t.TempDir()
	paths := Cluster{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), CAFile: filepath.Join(dir, "ca.crt")}
	for path, text := range map[string]string{
		paths.CertFile: authority.PEM(certificate), paths.CAFile: bundle,
		paths.KeyFile: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id, err := newIdentity(&paths)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
