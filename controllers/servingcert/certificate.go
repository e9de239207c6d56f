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

package servingcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// authorityLifetime is the validity of a CA. authorityMargin is the time before its end at which the next CA is
	// made. A CA outlasts every certificate that it signed. Producers have that margin to learn of the next CA.
	authorityLifetime = 10 * 365 * 24 * time.Hour
	authorityMargin   = 365 * 24 * time.Hour
	// lifetime is the validity of a server certificate. margin is the time before its end at which it is replaced.
	lifetime = 90 * 24 * time.Hour
	margin   = 30 * 24 * time.Hour
	// backdated allows for clients whose clocks are behind.
	backdated = 10 * time.Minute
)

// pair is a certificate with its key.
type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// newAuthority returns a CA that can sign only for these DNS names (RFC 5280, section 4.2.1.10).
func newAuthority(names []string, now time.Time) (pair, error) {
	return sign(&x509.Certificate{
		Subject:                     pkix.Name{CommonName: "postback-ingest-ca"},
		NotBefore:                   now.Add(-backdated),
		NotAfter:                    now.Add(authorityLifetime),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         names,
	}, nil)
}

// newCertificate returns a server certificate for these DNS names.
func newCertificate(authority pair, names []string, now time.Time) (pair, error) {
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: names[0]},
		DNSNames:              names,
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &authority)
}

// sign makes a P-256 key and its certificate. The certificate is self-signed if issuer is nil.
func sign(template *x509.Certificate, issuer *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make a key: %w", err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return pair{}, fmt.Errorf("make a serial number: %w", err)
	}
	if issuer == nil {
		issuer = &pair{certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key.Public(), issuer.key)
	if err != nil {
		return pair{}, fmt.Errorf("sign a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("read the certificate back: %w", err)
	}
	return pair{certificate: certificate, key: key}, nil
}

// encode returns certificate and key in PEM, the key in PKCS #8.
func (p pair) encode() (certificate, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return encodeCertificate(p.certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// decode reads the output of encode. It fails if the key does not match the certificate.
func decode(certificate, key []byte) (pair, error) {
	loaded, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return pair{}, fmt.Errorf("read certificate and key: %w", err)
	}
	signer, ok := loaded.PrivateKey.(crypto.Signer)
	if !ok {
		return pair{}, errors.New("the key cannot sign")
	}
	return pair{certificate: loaded.Leaf, key: signer}, nil
}

// decodeBundle returns the certificates of a PEM text. It skips other blocks.
func decodeBundle(text []byte) (certificates []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			certificates = append(certificates, c)
		}
	}
	return certificates
}
