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

package send_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/authority"
)

// signer signs certificates of endpoints and clients.
type signer struct {
	*authority.Authority
	t *testing.T
}

func newAuthority(t *testing.T) *signer { return &signer{authority.New(t), t} }

// issue returns a PEM certificate and its key, valid between two times.
func (a *signer) issue(from, to time.Time, addresses ...string) (certificate, key string) {
	a.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, NotBefore: from, NotAfter: to,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	leaf, private := a.Sign(template)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return authority.PEM(leaf), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// now returns a certificate that is valid now, and its key.
func (a *signer) now(addresses ...string) (certificate, key string) {
	return a.issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), addresses...)
}

// endpoint starts a server that answers with the common name of the client certificate, or with "nobody".
func (a *signer) endpoint(certificate, key string, change func(*tls.Config)) *httptest.Server {
	a.t.Helper()
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			fmt.Fprint(w, "nobody")
			return
		}
		fmt.Fprint(w, r.TLS.PeerCertificates[0].SerialNumber)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(server.TLS)
	}
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return server
}

func TestTLSFaultsAreSaidInWords(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	hour := time.Hour
	tests := map[string]struct {
		from, to time.Duration
		address  string
		ca       *signer
		change   func(*tls.Config)
		want     string
	}{
		"valid":             {-hour, hour, "127.0.0.1", a, nil, ""},
		"expired":           {-2 * hour, -hour, "127.0.0.1", a, nil, "has expired"},
		"not yet valid":     {hour, 2 * hour, "127.0.0.1", a, nil, "not yet valid"},
		"unknown authority": {-hour, hour, "127.0.0.1", other, nil, "unknown authority"},
		"public roots only": {-hour, hour, "127.0.0.1", nil, nil, "spec.tls.caSecretRef"},
		"wrong host":        {-hour, hour, "127.0.0.2", a, nil, "another host"},
		"TLS 1.1":           {-hour, hour, "127.0.0.1", a, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "no common TLS version"},
		"TLS 1.2":           {-hour, hour, "127.0.0.1", a, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
		"TLS 1.3":           {-hour, hour, "127.0.0.1", a, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, ""},
		"wants a client certificate": {-hour, hour, "127.0.0.1", a, func(c *tls.Config) {
			c.ClientAuth = tls.RequireAnyClientCert
		}, "spec.tls.clientCertificateSecretRef"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			certificate, key := a.issue(time.Now().Add(test.from), time.Now().Add(test.to), test.address)
			r := routeTo(a.endpoint(certificate, key, test.change).URL + "/?" + secretInURL)
			if test.ca != nil {
				r.TLS = &route.TLS{CA: authority.PEM(test.ca.Certificate)}
			}
			attempt := newSender().Send(t.Context(), r, event("{}"))
			if test.want == "" {
				if attempt.Outcome != v1alpha1.OutcomeSucceeded {
					t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
				}
				return
			}
			if attempt.Outcome != v1alpha1.OutcomeTLSFailed || !strings.Contains(attempt.Message, test.want) || strings.Contains(attempt.Message, secretInURL) {
				t.Errorf("attempt is %s: %s", attempt.Outcome, attempt.Message)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	certificate, key := a.now("127.0.0.1")
	pool := x509.NewCertPool()
	pool.AddCert(newAuthority(t).Certificate) // The endpoint asks for a certificate of another authority than the client's.
	server := a.endpoint(certificate, key, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequestClientCert, pool })
	sender := newSender()
	one, oneKey := a.now()
	two, twoKey := a.now()
	ca := authority.PEM(a.Certificate)
	send := func(postback types.UID, settings *route.TLS) v1alpha1.Attempt {
		r := routeTo(server.URL)
		r.UID, r.TLS = postback, settings
		return sender.Send(t.Context(), r, event("{}"))
	}
	seen := map[string]string{}
	for _, step := range []struct {
		postback types.UID
		who      string
		settings *route.TLS
	}{
		{"plain", "nobody", &route.TLS{CA: ca}},
		{"crm", "one", &route.TLS{CA: ca, Certificate: one, Key: oneKey}},
		{"shop", "two", &route.TLS{CA: ca, Certificate: two, Key: twoKey}},
		// Each Postback has its own connections.
		{"plain", "nobody", &route.TLS{CA: ca}},
		{"crm", "one", &route.TLS{CA: ca, Certificate: one, Key: oneKey}},
		// The next attempt uses a replaced certificate.
		{"crm", "two", &route.TLS{CA: ca, Certificate: two, Key: twoKey}},
		{"crm", "nobody", &route.TLS{CA: ca}},
	} {
		attempt := send(step.postback, step.settings)
		if attempt.Outcome != v1alpha1.OutcomeSucceeded {
			t.Fatalf("attempt is %s: %s", attempt.Outcome, attempt.Message)
		}
		if known, ok := seen[step.who]; ok && known != attempt.ResponseBody {
			t.Errorf("Postback %s was seen as %s, not as %s (%s)", step.postback, attempt.ResponseBody, known, step.who)
		}
		seen[step.who] = attempt.ResponseBody
	}
	if seen["nobody"] != "nobody" || seen["one"] == seen["two"] || seen["one"] == "nobody" {
		t.Errorf("seen are %v", seen)
	}
}

// With unusable TLS settings, the request is not sent at all, instead of without them.
func TestInvalidTLSSettings(t *testing.T) {
	a := newAuthority(t)
	certificate, key := a.now("127.0.0.1")
	_, otherKey := a.now()
	server := a.endpoint(certificate, key, nil)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent without TLS") }))
	defer plain.Close()
	for name, test := range map[string]struct {
		url      string
		settings route.TLS
		want     string
	}{
		"CA":        {server.URL, route.TLS{CA: "-----BEGIN s3cret"}, "caSecretRef"},
		"no key":    {server.URL, route.TLS{Certificate: certificate}, "clientCertificateSecretRef"},
		"other key": {server.URL, route.TLS{Certificate: certificate, Key: otherKey}, "clientCertificateSecretRef"},
		"no PEM":    {server.URL, route.TLS{Certificate: "s3cret", Key: "s3cret"}, "clientCertificateSecretRef"},
		"no https":  {plain.URL, route.TLS{Certificate: certificate, Key: key}, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			r := routeTo(test.url)
			r.TLS = &test.settings
			attempt := newSender().Send(t.Context(), r, event("{}"))
			if attempt.Outcome != v1alpha1.OutcomeInvalidRequest || !strings.Contains(attempt.Message, test.want) || strings.Contains(attempt.Message, "s3cret") {
				t.Errorf("%s: attempt is %s: %s", name, attempt.Outcome, attempt.Message)
			}
		})
	}
}
