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

package send

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/lru"

	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

const (
	// maxResponseHeader bounds the header of an answer.
	maxResponseHeader = 64 << 10
	maxIdleConns      = 512
	maxIdlePerHost    = 32
	idleTimeout       = 90 * time.Second
	// maxHandshake is the longest spec.timeout: the end of an attempt does not end the handshake that it has begun.
	maxHandshake = 30 * time.Second
	// A connection of HTTP/2 whose other side has vanished is asked for a sign of life, or all requests on it would end
	// at their deadlines until it idles out.
	pingAfter, pingTimeout = 15 * time.Second, 5 * time.Second
	// maxOwnTransports is the number of Postbacks with spec.tls whose connections are kept.
	maxOwnTransports = 256
)

// transports hold the connections. Those of one transport carry only requests under the same address policy and with the
// same TLS settings.
type transports struct {
	egress *egress.Egress

	mu     sync.Mutex
	shared map[*egress.Dialer]*http.Transport
	own    *lru.Cache // of *ownTransport, by the Postback's UID
}

// ownTransport is that of a Postback with TLS settings.
type ownTransport struct {
	settings [sha256.Size]byte
	*http.Transport
}

func newTransports(e *egress.Egress) *transports {
	return &transports{
		egress: e,
		shared: map[*egress.Dialer]*http.Transport{},
		own: lru.NewWithEvictionFunc(maxOwnTransports, func(_ lru.Key, value any) {
			if old, ok := value.(*ownTransport); ok {
				old.CloseIdleConnections()
			}
		}),
	}
}

// forRoute returns the transport to the endpoint of a route.
func (t *transports) forRoute(r *route.Route) (*http.Transport, error) {
	if r.TLS == nil {
		return t.forNamespace(r.Namespace), nil
	}
	if scheme, _, _ := strings.Cut(r.URL, ":"); !strings.EqualFold(scheme, "https") {
		// Not to be sent without the certificate that somebody relies on.
		return nil, errors.New("spec.tls is set, but spec.url does not begin with https")
	}
	settings := sha256.Sum256([]byte(r.TLS.CA + "\x00" + r.TLS.Certificate + "\x00" + r.TLS.Key))
	t.mu.Lock()
	defer t.mu.Unlock()
	cached, _ := t.own.Get(r.UID)
	old, _ := cached.(*ownTransport)
	if old != nil && old.settings == settings {
		return old.Transport, nil
	}
	config, err := tlsConfig(r.TLS)
	if err != nil {
		return nil, err
	}
	if old != nil {
		old.CloseIdleConnections()
	}
	own := newTransport(t.egress.Dialer(r.Namespace), config)
	t.own.Add(r.UID, &ownTransport{settings: settings, Transport: own})
	return own, nil
}

// forNamespace returns the transport for what has no TLS settings of its own.
func (t *transports) forNamespace(namespace string) *http.Transport {
	dialer := t.egress.Dialer(namespace)
	t.mu.Lock()
	defer t.mu.Unlock()
	transport, ok := t.shared[dialer]
	if !ok {
		transport = newTransport(dialer, &tls.Config{MinVersion: tls.VersionTLS12})
		t.shared[dialer] = transport
	}
	return transport
}

// unfollowed leaves a Location that is no URL out of an answer. A client of net/http reads it though it follows no
// redirect, and fails with an error that quotes all of it, where a token may stand.
type unfollowed struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (u unfollowed) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := u.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if _, err := response.Location(); err != nil {
		response.Header.Del("Location")
	}
	return response, nil
}

func newTransport(dialer *egress.Dialer, config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    maxHandshake,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// An endpoint is not asked for compressed answers.
		DisableCompression: true,
	}
}

// tlsConfig reads the settings of a Postback. The errors show nothing of them.
func tlsConfig(settings *route.TLS) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if settings.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(settings.CA)) {
			return nil, errors.New("spec.tls.caSecretRef: the Secret holds no PEM certificate")
		}
	}
	if settings.Certificate != "" || settings.Key != "" {
		certificate, err := tls.X509KeyPair([]byte(settings.Certificate), []byte(settings.Key))
		if err != nil {
			return nil, errors.New("spec.tls.clientCertificateSecretRef: the Secret's tls.crt and tls.key are no PEM certificate and the key to it")
		}
		// It is shown whichever authorities the endpoint says it knows: many say it wrongly.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	return config, nil
}
