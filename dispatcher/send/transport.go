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
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// maxResponseHeader bounds the header of an answer.
	maxResponseHeader = 64 << 10
	maxIdleConns      = 512
	maxIdlePerHost    = 32
	idleTimeout       = 90 * time.Second
	// Connections are used for a time between minLife and maxLife: no request begins on an older one.
	minLife, maxLife = time.Minute, 2 * time.Minute
	shards           = 8
	// maxHandshake is the longest spec.timeout: the end of an attempt does not end the handshake that it has begun.
	maxHandshake = 30 * time.Second
	// HTTP/2 connections are probed by pings. Otherwise all requests on a dead one would end at their deadlines until
	// it idles out.
	pingAfter, pingTimeout = 15 * time.Second, 5 * time.Second
	// maxOwnTransports is the number of Postbacks with spec.tls whose connections are kept.
	maxOwnTransports = 256
)

// transports hold the connections. Those of one transport carry only requests under the same address policy and with the
// same TLS settings. They are replaced by age, so that a changed name and the address policy are heard while traffic flows.
type transports struct {
	egress *egress.Egress
	clock  clock.PassiveClock
	seed   maphash.Seed

	mu     sync.Mutex
	shared map[sharedKey]*aging
	own    *lru.Cache // of *ownTransport, by the Postback's UID
}

// sharedKey selects the connections of some hosts. Each shard has an age of its own, so that not all connections
// are replaced at once.
type sharedKey struct {
	dialer *egress.Dialer
	shard  uint64
}

// ownTransport is that of a Postback with TLS settings.
type ownTransport struct {
	settings [sha256.Size]byte
	aging
}

// lines are the connections to some endpoints.
type lines struct {
	// kept reuses connections, fresh opens one for each request.
	kept, fresh *http.Transport
}

// aging replaces lines by age.
type aging struct {
	dialer  *egress.Dialer
	config  *tls.Config
	maxIdle int

	lines *lines
	born  time.Time
	life  time.Duration
}

// at returns the lines to use at a time. Requests in flight stay on the lines of before, which then close.
func (a *aging) at(now time.Time) *lines {
	if age := now.Sub(a.born); a.lines != nil && age >= 0 && age < a.life {
		return a.lines
	}
	a.retire()
	a.born, a.life = now, minLife+rand.N(maxLife-minLife)
	a.lines = &lines{kept: newTransport(a.dialer, a.config, a.maxIdle), fresh: newTransport(a.dialer, a.config, a.maxIdle)}
	a.lines.fresh.DisableKeepAlives = true
	return a.lines
}

// retire closes the connections as they become idle.
func (a *aging) retire() {
	if a.lines == nil {
		return
	}
	old := a.lines.kept
	old.CloseIdleConnections()
	// A connection of HTTP/2 that has requests in flight stays open; its requests have ended by then.
	time.AfterFunc(maxHandshake, old.CloseIdleConnections)
}

func newTransports(e *egress.Egress, c clock.PassiveClock) *transports {
	return &transports{
		egress: e, clock: c, seed: maphash.MakeSeed(),
		shared: map[sharedKey]*aging{},
		own: lru.NewWithEvictionFunc(maxOwnTransports, func(_ lru.Key, value any) {
			if old, ok := value.(*ownTransport); ok {
				old.retire()
			}
		}),
	}
}

// forRoute returns the lines to the endpoint of a route.
func (t *transports) forRoute(r *route.Route) (*lines, error) {
	if r.TLS == nil {
		return t.forNamespace(r.Namespace, r.URL), nil
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
		return old.at(t.clock.Now()), nil
	}
	config, err := tlsConfig(r.TLS)
	if err != nil {
		return nil, err
	}
	if old != nil {
		old.retire()
	}
	own := &ownTransport{settings: settings, aging: aging{dialer: t.egress.Dialer(r.Namespace), config: config, maxIdle: maxIdleConns}}
	t.own.Add(r.UID, own)
	return own.at(t.clock.Now()), nil
}

// forNamespace returns the lines to a URL that has no TLS settings of its own.
func (t *transports) forNamespace(namespace, rawURL string) *lines {
	key := sharedKey{dialer: t.egress.Dialer(namespace)}
	if u, err := url.Parse(rawURL); err == nil {
		key.shard = maphash.String(t.seed, strings.ToLower(u.Host)) % shards
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	shared, ok := t.shared[key]
	if !ok {
		shared = &aging{dialer: key.dialer, config: &tls.Config{MinVersion: tls.VersionTLS12}, maxIdle: maxIdleConns / shards}
		t.shared[key] = shared
	}
	return shared.at(t.clock.Now())
}

// unfollowed leaves a Location that is no URL out of an answer. A client of net/http reads it though it follows no
// redirect, and fails with an error that quotes all of it, where a token may stand. It sets the header User-Agent, which
// golang.org/x/oauth2 leaves to net/http.
type unfollowed struct {
	*http.Transport
	userAgent string
}

// RoundTrip implements http.RoundTripper.
func (u unfollowed) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("User-Agent", u.userAgent)
	response, err := u.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if _, err := response.Location(); err != nil {
		response.Header.Del("Location")
	}
	return response, nil
}

func newTransport(dialer *egress.Dialer, config *tls.Config, maxIdle int) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: c}, nil
		},
		TLSClientConfig:        config.Clone(), // A transport writes to its own.
		TLSHandshakeTimeout:    maxHandshake,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:           maxIdle,
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
