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
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

const day = 24 * time.Hour

var (
	begin = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	names = namesIn("postback-system")
)

func TestNext(t *testing.T) {
	first := mustNext(t, state{}, names, begin)
	other := mustNext(t, state{}, names, begin)
	tests := []struct {
		name              string
		from              state
		names             []string
		at                time.Time
		authority, server bool
		trusted           int
		reason            string
	}{
		{name: "nothing is due", from: first, at: begin.Add(day), trusted: 1},
		{name: "just before the certificate is due", from: first, at: begin.Add(60*day - time.Second), trusted: 1},
		{name: "the certificate is due", from: first, at: begin.Add(60 * day), server: true, trusted: 1, reason: "the certificate expires soon"},
		{name: "everything ended long ago", from: first, at: begin.Add(20 * 365 * day), authority: true, server: true, trusted: 1, reason: "the certificate expires soon"},
		{name: "the CA is due", from: mustNext(t, first, names, begin.Add(3240*day)), at: begin.Add(3290 * day), authority: true, server: true, trusted: 2, reason: "the CA expires soon"},
		{name: "both are due", from: first, at: begin.Add(3290 * day), authority: true, server: true, trusted: 2, reason: "the CA expires soon"},
		{name: "the CA ends in a month", from: first, at: begin.Add(3620 * day), authority: true, server: true, trusted: 2, reason: "the CA expires soon"},
		{name: "the clock was set back before the CA", from: first, at: begin.Add(-day), authority: true, server: true, trusted: 2, reason: "no trusted CA has signed the certificate"},
		{name: "the CA was lost, its certificate is still trusted", from: state{trusted: first.trusted, server: first.server}, at: begin.Add(day), authority: true, trusted: 2, reason: "there is no CA"},
		{name: "the CA and the bundle were lost", from: state{server: first.server}, at: begin.Add(day), authority: true, server: true, trusted: 1, reason: "no trusted CA has signed the certificate"},
		{name: "the certificate was lost", from: state{authority: first.authority, trusted: first.trusted}, at: begin.Add(day), server: true, trusted: 1, reason: "there is no certificate"},
		{name: "the certificate is of another CA", from: state{authority: first.authority, trusted: first.trusted, server: other.server}, at: begin.Add(day), server: true, trusted: 1, reason: "no trusted CA has signed the certificate"},
		{name: "the namespace is another one", from: first, names: namesIn("elsewhere"), at: begin.Add(day), authority: true, server: true, trusted: 2, reason: "the certificate is for other names"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wanted := tt.names
			if wanted == nil {
				wanted = names
			}
			got, reason, err := next(tt.from, wanted, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			if changed := !got.authority.certificate.Equal(tt.from.authority.certificate); changed != tt.authority {
				t.Errorf("the CA changed: %t, want %t", changed, tt.authority)
			}
			if changed := !got.server.certificate.Equal(tt.from.server.certificate); changed != tt.server {
				t.Errorf("the certificate changed: %t, want %t", changed, tt.server)
			}
			if len(got.trusted) != tt.trusted || !got.trusted[0].Equal(got.authority.certificate) {
				t.Errorf("%d CAs are trusted, want %d, the present one first", len(got.trusted), tt.trusted)
			}
			if reason != tt.reason {
				t.Errorf("the reason is %q, want %q", reason, tt.reason)
			}
			verify(t, got, wanted[0], tt.at)
			if _, again, err := next(got, wanted, tt.at); err != nil || again != "" {
				t.Errorf("after it something is still due: %q, %v", again, err)
			}
		})
	}
}

// TestSendersAreNeverRefused simulates 40 years in steps of five days. A producer with a bundle from a month ago
// always trusts the served certificate.
func TestSendersAreNeverRefused(t *testing.T) {
	s := mustNext(t, state{}, names, begin)
	bundles := []*state{}
	authorities := map[string]bool{}
	for at := begin; at.Before(begin.Add(40 * 365 * day)); at = at.Add(5 * day) {
		s = mustNext(t, s, names, at)
		authorities[s.authority.certificate.SerialNumber.String()] = true
		if due := s.due(); !due.After(at) {
			t.Fatalf("at %s something is due since %s", at, due)
		}
		kept := s
		bundles = append(bundles, &kept)
		old := *bundles[max(0, len(bundles)-7)]
		old.server = s.server
		verify(t, old, names[0], at)
	}
	if len(authorities) < 3 {
		t.Errorf("in 40 years there were %d CAs, so that no change of one was seen", len(authorities))
	}
}

func TestTheCASignsForIngestAlone(t *testing.T) {
	s := mustNext(t, state{}, names, begin)
	foreign, err := newCertificate(s.authority, []string{"kubernetes.default.svc"}, begin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.certificate.Verify(x509.VerifyOptions{Roots: pool(s), CurrentTime: begin}); err == nil {
		t.Error("a certificate for kubernetes.default.svc is trusted")
	}
	below, err := newAuthority(names, begin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := below.certificate.Verify(x509.VerifyOptions{Roots: pool(s), CurrentTime: begin, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("another CA is trusted")
	}
}

func TestPairsAreReadBack(t *testing.T) {
	s := mustNext(t, state{}, names, begin)
	certificate, key, err := s.server.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		t.Error(err)
	}
	back, err := decode(certificate, key)
	if err != nil || !back.certificate.Equal(s.server.certificate) {
		t.Errorf("read back: %v", err)
	}
	_, strange, err := s.authority.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(certificate, strange); err == nil {
		t.Error("the key of another certificate was taken")
	}
}

func mustNext(t *testing.T, s state, names []string, now time.Time) state {
	t.Helper()
	s, _, err := next(s, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pool(s state) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.bundle())
	return roots
}

// verify checks the served certificate like a client that trusts the bundle.
func verify(t *testing.T, s state, name string, at time.Time) {
	t.Helper()
	if _, err := s.server.certificate.Verify(x509.VerifyOptions{Roots: pool(s), DNSName: name, CurrentTime: at}); err != nil {
		t.Errorf("at %s the certificate is not trusted: %v", at, err)
	}
}
