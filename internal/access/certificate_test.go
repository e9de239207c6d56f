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

package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/internal/rbacreview"
	"github.com/postback-dev/postback-operator/test/authority"
)

// request returns a request over a connection with a client certificate for jane.
func request(a *authority.Authority, template x509.Certificate) *http.Request {
	template.Subject = pkix.Name{CommonName: "jane", Organization: []string{"partners"}}
	certificate, _ := a.Sign(&template)
	return &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}}
}

var (
	forClients = x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	ofServer   = x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	expired    = x509.Certificate{ExtKeyUsage: forClients.ExtKeyUsage, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
)

func TestCertificates(t *testing.T) {
	s, _, clock := newTest(t, "")
	clients := s.clients()
	certificates, err := NewCertificates(clients, New(clients, "", func(string, bool) {}, clock))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- certificates.Start(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	old, current := authority.New(t), authority.New(t)
	list := rbacreview.Right{Verb: "list", Group: "postback.dev", Resource: "postbackdeliveries", Namespace: "acme"}
	allow := func(r *http.Request) (string, error) { return certificates.AllowCertificate(t.Context(), r, list) }
	eventually := gomega.NewWithT(t).Eventually

	if _, err := allow(request(old, forClients)); !isUnauthenticated(err) || !strings.Contains(err.Error(), "publishes no CA") {
		t.Errorf("without the ConfigMap: %v", err)
	}
	published := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: caNamespace, Name: caConfigMap}, Data: map[string]string{caKey: old.Bundle()},
	}
	if _, err := clients.CoreV1().ConfigMaps(caNamespace).Create(t.Context(), published, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(func() (string, error) { return allow(request(old, forClients)) }).WithTimeout(time.Minute).Should(gomega.Equal("jane"))
	s.mu.Lock()
	if asked := s.lastRight; asked.User != "jane" || !slices.Contains(asked.Groups, "partners") || asked.ResourceAttributes.Verb != "list" {
		t.Errorf("the API server is asked %+v", asked)
	}
	s.mu.Unlock()
	for name, r := range map[string]*http.Request{
		"of another CA": request(current, forClients), "of a server": request(old, ofServer), "that expired": request(old, expired),
	} {
		t.Run(name, func(t *testing.T) {
			if user, err := allow(r); !isUnauthenticated(err) || user != "" {
				t.Errorf("a certificate %s: %q, %v", name, user, err)
			}
		})
	}
	s.denied.Store(true)
	if _, err := allow(request(old, forClients)); err == nil || err.Error() != "jane may not list postbackdeliveries.postback.dev in namespace acme" {
		t.Errorf("without the right: %v", err)
	}
	s.denied.Store(false)

	published.Data[caKey] = current.Bundle()
	if _, err := clients.CoreV1().ConfigMaps(caNamespace).Update(t.Context(), published, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(func() (string, error) { return allow(request(current, forClients)) }).WithTimeout(time.Minute).Should(gomega.Equal("jane"))
	if _, err := allow(request(old, forClients)); !isUnauthenticated(err) {
		t.Errorf("a certificate of the CA before: %v", err)
	}
}
