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

package controllers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// certificate returns a self-signed certificate and its key as PEM.
func certificate(t *testing.T, notBefore, notAfter time.Time) (crt, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postback"}, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der8}))
}

func tlsOf(ca, client string) *v1alpha1.TLS {
	spec := &v1alpha1.TLS{}
	if ca != "" {
		spec.CASecretRef = &v1alpha1.SecretKeySelector{Name: ca, Key: "ca.crt"}
	}
	if client != "" {
		spec.ClientCertificateSecretRef = &v1alpha1.LocalReference{Name: client}
	}
	return spec
}

func TestTLSFromSecrets(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	ca, _ := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	crt, key := certificate(t, now.Add(-time.Hour), now.Add(30*time.Minute))
	b.create(newPostback("crm", func(p *v1alpha1.Postback) { p.Spec.TLS = tlsOf("authorities", "client") }))
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.TLSSecretNotFoundReason, `Secret "authorities"`)
	b.create(secretOf("authorities", map[string]string{"ca.crt": "# our own\n" + ca + ca}))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.TLSSecretNotFoundReason, `Secret "client"`)
	b.create(secretOf("client", map[string]string{"tls.crt": crt}))
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.TLSSecretNotFoundReason, `no data key "tls.key"`)
	modify(b, &corev1.Secret{}, "client", func(s *corev1.Secret) { s.Data["tls.key"] = []byte(key) })
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if got := b.route("crm").TLS; got == nil || got.CA != "# our own\n"+ca+ca || got.Certificate != crt || got.Key != key {
		t.Fatalf("the route has %+v", got)
	}

	// The certificate expires: the manager warns once, and the route stays.
	b.told()
	b.clock.Step(31 * time.Minute)
	b.heartbeat("east", loadedEverything)
	b.settle("crm")
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "was valid until")
	if told := b.told(); len(told) != 1 || !strings.Contains(told[0], v1alpha1.ClientCertificateInvalidReason) {
		t.Errorf("events %q", told)
	}
	// The certificate is renewed. The Postback stays ready.
	b.heartbeat("east", b.routeSecret("crm").ResourceVersion)
	crt, key = certificate(t, b.clock.Now().Add(-time.Hour), b.clock.Now().Add(30*24*time.Hour))
	modify(b, &corev1.Secret{}, "client", func(s *corev1.Secret) { s.Data = secretOf("", map[string]string{"tls.crt": crt, "tls.key": key}).Data })
	b.settle("crm")
	b.checkPostback("crm", stateReady, v1alpha1.RoutedReason, "")
	if strings.Contains(describe(b.postback("crm").Status.Conditions), "valid") {
		t.Error("the remark stays")
	}
	b.must(b.direct.Delete(b.ctx, b.secret("authorities")))
	b.told()
	b.settle("crm")
	b.checkPostback("crm", stateReconciling, v1alpha1.TLSSecretNotFoundReason, "make it")
	if told := b.told(); len(told) != 1 || b.route("crm").TLS.Key != key {
		t.Errorf("events %q, or the last good route did not stay", told)
	}
}

func TestInvalidTLS(t *testing.T) {
	b := newBench(t)
	b.heartbeat("east", loadedEverything)
	now := b.clock.Now()
	crt, key := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	_, otherKey := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	block := func(kind, content string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)}))
	}
	pair := func(crt, key string) map[string]string { return map[string]string{"tls.crt": crt, "tls.key": key} }
	tests := map[string]struct {
		client bool
		data   map[string]string
		want   string
	}{
		"no PEM":                   {false, map[string]string{"ca.crt": "s3cret"}, "has no PEM certificate"},
		"empty":                    {false, map[string]string{"ca.crt": ""}, "has no PEM certificate"},
		"a key among them":         {false, map[string]string{"ca.crt": crt + key}, "PEM block, number 2, that is not a certificate"},
		"not a certificate inside": {false, map[string]string{"ca.crt": block("CERTIFICATE", "s3cret")}, "cannot be read"},
		"cut off":                  {false, map[string]string{"ca.crt": crt + crt[:len(crt)/2]}, "incomplete PEM block"},
		"broken base64":            {false, map[string]string{"ca.crt": crt + strings.Replace(crt, "\nMII", "\n!!!", 1)}, "incomplete PEM block"},
		"too long":                 {false, map[string]string{"ca.crt": strings.Repeat("#", maxCA+1)}, "longer than"},
		"key of another":           {true, pair(crt, otherKey), "does not belong to the certificate"},
		"key with a passphrase":    {true, pair(crt, block("ENCRYPTED PRIVATE KEY", "s3cret")), "without a passphrase"},
		"no key":                   {true, pair(crt, "s3cret"), "not a PEM private key"},
		"key too long":             {true, pair(crt, strings.Repeat("#", maxPair+1)), "longer than"},
		"certificate and key swap": {true, pair(key, crt), "that is not a certificate"},
	}
	number := 0
	for name, tt := range tests {
		number++
		object := "crm-" + string(rune('a'+number))
		t.Run(name, func(t *testing.T) {
			b.create(secretOf(object+"-tls", tt.data))
			b.create(newPostback(object, func(p *v1alpha1.Postback) {
				p.Spec.TLS = tlsOf(object+"-tls", "")
				if tt.client {
					p.Spec.TLS = tlsOf("", object+"-tls")
				}
			}))
			b.settle(object)
			b.checkPostback(object, stateStalled, v1alpha1.InvalidTLSReason, tt.want)
			shown := describe(b.postback(object).Status.Conditions) + strings.Join(b.told(), " ")
			if strings.Contains(shown, "s3cret") || strings.Contains(shown, "-----BEGIN PRIVATE") {
				t.Errorf("shown: %s", shown)
			}
		})
	}
}
