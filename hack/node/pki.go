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

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certificateLifetime = 30 * 24 * time.Hour

// authority signs the certificates of a node. It writes each as NAME.crt, with its key as NAME.key.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// certificate is a certificate to issue.
type certificate struct {
	name, user string
	groups     []string
	hosts      []string
	addresses  []string
}

var certificates = []certificate{
	{
		name: "apiserver", user: "kube-apiserver", addresses: []string{"127.0.0.1", nodeIP, apiIP},
		hosts: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	},
	{name: "admin", user: "admin", groups: []string{"system:masters"}},
	{name: "apiserver-kubelet", user: "apiserver-kubelet", groups: []string{"system:masters"}},
	{name: "kubelet", user: "system:node:" + nodeName, groups: []string{"system:nodes"}, hosts: []string{nodeName}, addresses: []string{nodeIP}},
	{name: "controller-manager", user: "system:kube-controller-manager"},
	{name: "scheduler", user: "system:kube-scheduler"},
	{name: "proxy", user: "system:kube-proxy"},
}

// makeCertificates writes the authority, all certificates, and the key that signs tokens.
func makeCertificates(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	a := &authority{folder: folder}
	if err := a.make(); err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	for _, c := range certificates {
		if err := a.issue(c); err != nil {
			return fmt.Errorf("make the certificate %s: %w", c.name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key for tokens: %w", err)
	}
	return a.writeKey("tokens", key)
}

func (a *authority) make() (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: "node-ca"})
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return a.write("ca.crt", "CERTIFICATE", der)
}

// issue writes a client certificate. With hosts or addresses it is a server certificate, too.
func (a *authority) issue(c certificate) error {
	template, err := newTemplate(pkix.Name{CommonName: c.user, Organization: c.groups})
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.DNSNames = c.hosts
	for _, address := range c.addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return err
	}
	return errors.Join(a.write(c.name+".crt", "CERTIFICATE", der), a.writeKey(c.name, key))
}

func (a *authority) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return a.write(name+".key", "EC PRIVATE KEY", der)
}

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLifetime),
	}, nil
}
