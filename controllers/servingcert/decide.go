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
	"bytes"
	"crypto/x509"
	"slices"
	"time"
)

// state is the content of the two Secrets: the signing CA, every CA that producers have to trust, and the server
// certificate.
type state struct {
	authority pair
	trusted   []*x509.Certificate
	server    pair
}

// next returns the state to write and the reason for the change, or the same state and "" while nothing is due.
//
// A new CA is trusted for 60 days before it signs a served certificate. Until then, the last certificate of the
// expiring CA is served. The expiring CA stays trusted until it expires. So a producer that reads the bundle now and
// then never fails to verify the server.
func next(s state, names []string, now time.Time) (state, string, error) {
	reason := ""
	if why := authorityDue(s.authority.certificate, names, now); why != "" {
		if why == endsSoon {
			last, err := newCertificate(s.authority, names, now)
			if err != nil {
				return s, "", err
			}
			s.server = last
		}
		authority, err := newAuthority(names, now)
		if err != nil {
			return s, "", err
		}
		s.authority, reason = authority, why
	}
	s.trusted = trust(s.authority.certificate, s.trusted, now)
	if why := serverDue(s.server.certificate, s.trusted, names, now); why != "" {
		server, err := newCertificate(s.authority, names, now)
		if err != nil {
			return s, "", err
		}
		s.server, reason = server, why
	}
	return s, reason, nil
}

const endsSoon = "the CA expires soon"

func authorityDue(c *x509.Certificate, names []string, now time.Time) string {
	switch {
	case c == nil:
		return "there is no CA"
	case !c.IsCA || !slices.Equal(c.PermittedDNSDomains, names):
		return "the CA is for other names"
	case now.Before(c.NotBefore):
		return "the CA is not valid yet"
	case !now.Before(c.NotAfter):
		return "the CA has expired"
	case !now.Before(c.NotAfter.Add(-authorityMargin)):
		return endsSoon
	}
	return ""
}

// trust returns the CAs that producers have to trust: the present one first, then earlier ones that have not expired.
func trust(present *x509.Certificate, before []*x509.Certificate, now time.Time) []*x509.Certificate {
	trusted := []*x509.Certificate{present}
	for _, c := range before {
		if c.IsCA && now.Before(c.NotAfter) && !slices.ContainsFunc(trusted, c.Equal) {
			trusted = append(trusted, c)
		}
	}
	return trusted
}

func serverDue(c *x509.Certificate, trusted []*x509.Certificate, names []string, now time.Time) string {
	if c == nil {
		return "there is no certificate"
	}
	if !slices.Equal(c.DNSNames, names) {
		return "the certificate is for other names"
	}
	if !now.Before(c.NotAfter.Add(-margin)) {
		return "the certificate expires soon"
	}
	roots := x509.NewCertPool()
	for _, authority := range trusted {
		roots.AddCert(authority)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		return "no trusted CA has signed the certificate"
	}
	return ""
}

// due returns the time of the next change.
func (s state) due() time.Time {
	authority, server := s.authority.certificate.NotAfter.Add(-authorityMargin), s.server.certificate.NotAfter.Add(-margin)
	if authority.Before(server) {
		return authority
	}
	return server
}

// bundle returns the trusted CAs in PEM.
func (s state) bundle() []byte {
	var b bytes.Buffer
	for _, c := range s.trusted {
		b.Write(encodeCertificate(c))
	}
	return b.Bytes()
}
