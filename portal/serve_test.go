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

package portal

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// certificate writes a certificate for example.com and its key to files, and returns a client that trusts it.
func certificate(t *testing.T) (certFile, keyFile string, trusting *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, server.Client()
}

// TestServing runs a portal from start to end, with a page open.
func TestServing(t *testing.T) {
	r := start(t, keys)
	acme := partner(t, "serving-acme")
	cookie := r.visitor(acme, "viewer")
	keyOfSessions := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keyOfSessions, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, browser := certificate(t)
	p, err := New(own, Options{
		URL: "https://" + host, Namespace: "postback-portal", Installation: "postback-system", SessionKeyFile: keyOfSessions,
		CertFile: certFile, KeyFile: keyFile, ProbeAddress: "127.0.0.1:0", Log: logr.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, listener) }()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	request.Header.Set("Cookie", cookie)
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewScanner(response.Body)
	if !stream.Scan() || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("a live page is answered with %s", response.Status)
	}
	cancel()
	for stream.Scan() { // The stream ends with the portal.
		continue
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the portal does not end while a page is open")
	}
}

func TestSettingsThatDoNotFit(t *testing.T) {
	sessionKeys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(sessionKeys, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Options{URL: "https://" + host, Namespace: "postback-portal", SessionKeyFile: sessionKeys, PlainHTTP: true}
	for name, change := range map[string]func(*Options){
		"without TLS":                  func(o *Options) { o.PlainHTTP = false },
		"with a certificate alone":     func(o *Options) { o.CertFile = "tls.crt" },
		"without a namespace":          func(o *Options) { o.Namespace = "" },
		"without HTTPS in the address": func(o *Options) { o.URL = "http://" + host },
		"without a file of keys":       func(o *Options) { o.SessionKeyFile = sessionKeys + ".missing" },
	} {
		t.Run(name, func(t *testing.T) {
			changed := good
			change(&changed)
			if _, err := New(own, changed); err == nil {
				t.Error("it starts")
			}
		})
	}
	if _, err := New(own, good); err != nil {
		t.Error(err)
	}
}
