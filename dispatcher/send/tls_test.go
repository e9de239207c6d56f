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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

func pemOf(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

// authority signs certificates for a test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.certificate = a.make(template, nil, nil)
	return a
}

func (a *authority) make(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, certificate
}

// issue returns a certificate and its key, PEM, valid between two times.
func (a *authority) issue(from, to time.Time, addresses ...string) (certificate, key string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: from, NotAfter: to,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	private, leaf := a.make(template, a.certificate, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemOf(leaf), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// now returns a certificate that is valid now.
func (a *authority) now(addresses ...string) (certificate, key string) {
	return a.issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), addresses...)
}

// endpoint answers with the common name of the client's certificate, or with "nobody".
func (a *authority) endpoint(certificate, key string, change func(*tls.Config)) *httptest.Server {
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
		ca       *authority
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
				r.TLS = &route.TLS{CA: pemOf(test.ca.certificate)}
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
	pool.AddCert(newAuthority(t).certificate) // The endpoint names another authority than that of the client.
	server := a.endpoint(certificate, key, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequestClientCert, pool })
	sender := newSender()
	one, oneKey := a.now()
	two, twoKey := a.now()
	ca := pemOf(a.certificate)
	send := func(uid types.UID, settings *route.TLS) v1alpha1.Attempt {
		r := routeTo(server.URL)
		r.UID, r.TLS = uid, settings
		return sender.Send(t.Context(), r, event("{}"))
	}
	seen := map[string]string{}
	for _, step := range []struct {
		uid      types.UID
		who      string
		settings *route.TLS
	}{
		{"a", "nobody", &route.TLS{CA: ca}},
		{"b", "one", &route.TLS{CA: ca, Certificate: one, Key: oneKey}},
		{"c", "two", &route.TLS{CA: ca, Certificate: two, Key: twoKey}},
		// The connections of each Postback are its own.
		{"a", "nobody", &route.TLS{CA: ca}},
		{"b", "one", &route.TLS{CA: ca, Certificate: one, Key: oneKey}},
		// A certificate that is replaced holds for the next attempt.
		{"b", "two", &route.TLS{CA: ca, Certificate: two, Key: twoKey}},
		{"b", "nobody", &route.TLS{CA: ca}},
	} {
		attempt := send(step.uid, step.settings)
		if attempt.Outcome != v1alpha1.OutcomeSucceeded {
			t.Fatalf("attempt is %s: %s", attempt.Outcome, attempt.Message)
		}
		if known, ok := seen[step.who]; ok && known != attempt.ResponseBody {
			t.Errorf("Postback %s was seen as %s, not as %s (%s)", step.uid, attempt.ResponseBody, known, step.who)
		}
		seen[step.who] = attempt.ResponseBody
	}
	if seen["nobody"] != "nobody" || seen["one"] == seen["two"] || seen["one"] == "nobody" {
		t.Errorf("seen are %v", seen)
	}
}

// Settings that cannot be used are a request that is not sent, instead of one without them.
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
		r := routeTo(test.url)
		r.TLS = &test.settings
		attempt := newSender().Send(t.Context(), r, event("{}"))
		if attempt.Outcome != v1alpha1.OutcomeInvalidRequest || !strings.Contains(attempt.Message, test.want) || strings.Contains(attempt.Message, "s3cret") {
			t.Errorf("%s: attempt is %s: %s", name, attempt.Outcome, attempt.Message)
		}
	}
}
