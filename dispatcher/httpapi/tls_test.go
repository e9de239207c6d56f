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

package httpapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/doors"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

// issue replaces a certificate and its key in a folder by renames, as the volume of a Secret does.
func (a *authority) issue(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		next := filepath.Join(dir, name+".next")
		if err := os.WriteFile(next, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *authority) client(keepAlive bool, versions uint16) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: versions},
		ForceAttemptHTTP2: keepAlive, DisableKeepAlives: !keepAlive,
	}}
}

func securePost(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+eventsURL, bytes.NewReader([]byte(simple)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", jsonType)
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("answered %s", response.Status)
	}
	return response, nil
}

func startSecure(t *testing.T) (a *authority, dir, url string) {
	t.Helper()
	a, dir = newAuthority(t), t.TempDir()
	a.issue(t, dir, 100)
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "*"))
	options.CertFile, options.KeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	s, stop, ended := startServer(t, options)
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return a, dir, "https://" + s.Addr().String()
}

func TestTLS(t *testing.T) {
	a, _, url := startSecure(t)
	response, err := securePost(t.Context(), a.client(true, 0), url)
	if err != nil {
		t.Fatal(err)
	}
	if response.ProtoMajor != 2 {
		t.Errorf("speaks %s", response.Proto)
	}
	if response, err := securePost(t.Context(), a.client(false, tls.VersionTLS12), url); err != nil || response.TLS.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
	if _, err := securePost(t.Context(), a.client(false, tls.VersionTLS11), url); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	if _, err := securePost(t.Context(), http.DefaultClient, "http"+strings.TrimPrefix(url, "https")); err == nil {
		t.Error("plain HTTP is answered")
	}
}

func TestCertificateIsReplacedUnderLoad(t *testing.T) {
	a, dir, url := startSecure(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var sent, serial atomic.Int64
	for range 4 {
		load.Go(func() {
			client := a.client(false, 0) // Each request makes its own handshake.
			for ctx.Err() == nil {
				response, err := securePost(ctx, client, url)
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("request %d: %v", sent.Load(), err)
					}
					return
				}
				sent.Add(1)
				serial.Store(response.TLS.PeerCertificates[0].SerialNumber.Int64())
			}
		})
	}
	g := gomega.NewWithT(t)
	for next := int64(101); next <= 105; next++ {
		before := sent.Load()
		g.Eventually(sent.Load, "1m", "5ms").Should(gomega.BeNumerically(">", before+10))
		a.issue(t, dir, next)
		g.Eventually(serial.Load, "1m", "5ms").Should(gomega.Equal(next))
	}
	stop()
	load.Wait()
	t.Logf("%d requests over 5 certificates", sent.Load())
}

func TestCertificateThatCannotBeRead(t *testing.T) {
	options, _ := testOptions(doors.Store{})
	options.Address = "127.0.0.1:0"
	options.CertFile, options.KeyFile = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	if err := options.server(t).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "--ingest-tls-cert-file") {
		t.Errorf("got %v", err)
	}
}
