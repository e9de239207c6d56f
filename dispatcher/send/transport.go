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
	// maxResponseHeader bounds the header of a response, in bytes.
	maxResponseHeader = 64 << 10
	// Many Postbacks may have endpoints at the same host: with too few idle connections, most attempts would dial.
	maxIdleConns   = 1024
	maxIdlePerHost = maxIdleConns / shards
	idleTimeout    = 90 * time.Second
	// Transports are replaced at an age between minLife and maxLife: no request begins on an older connection.
	minLife, maxLife = time.Minute, 2 * time.Minute
	shards           = 8
	// maxHandshake is the longest spec.timeout. A handshake may outlive the attempt that began it.
	maxHandshake = 30 * time.Second
	// Pings detect dead HTTP/2 connections. Otherwise all requests on such a connection would time out until it is
	// idle for idleTimeout.
	pingAfter, pingTimeout = 15 * time.Second, 5 * time.Second
	// maxOwnTransports is the number of Postbacks with spec.tls whose connections are kept.
	maxOwnTransports = 256
)

// transports have the connections to all endpoints. The connections of one transport serve only requests with the
// same rules for addresses and the same TLS settings. Transports are replaced by age, so that changes of DNS and of
// the rules take effect under constant traffic.
type transports struct {
	egress *egress.Egress
	clock  clock.PassiveClock
	seed   maphash.Seed

	mu     sync.Mutex
	shared map[sharedKey]*aging
	own    *lru.Cache // Has *ownTransport by the Postback's UID.
}

// sharedKey selects the connections to a group of hosts. Each shard is replaced at its own time, so not all
// connections are replaced at once.
type sharedKey struct {
	dialer *egress.Dialer
	shard  uint64
}

// ownTransport is the transport of a Postback with TLS settings.
type ownTransport struct {
	settings [sha256.Size]byte
	aging
}

// lines are the transports to a group of endpoints.
type lines struct {
	// kept reuses connections; fresh opens one for each request.
	kept, fresh *http.Transport
}

// aging replaces its lines by age.
type aging struct {
	dialer  *egress.Dialer
	config  *tls.Config
	maxIdle int

	lines *lines
	born  time.Time
	life  time.Duration
}

// at returns the lines for a request that begins now. Requests in flight end on the former lines, which then close.
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

// retire closes the connections of the former lines once they are idle.
func (a *aging) retire() {
	if a.lines == nil {
		return
	}
	old := a.lines.kept
	old.CloseIdleConnections()
	// An HTTP/2 connection with requests in flight stays open. By then, these requests have ended.
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
		// Sending without the client certificate would break a promise of spec.tls.
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

// forNamespace returns the lines to a URL without TLS settings of its own.
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

// unfollowed removes an invalid Location from a response. http.Client parses the Location even without following it,
// and its error would quote all of it, with a token perhaps. unfollowed also sets User-Agent, which
// golang.org/x/oauth2 does not.
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
		TLSClientConfig:        config.Clone(), // The transport changes its configuration.
		TLSHandshakeTimeout:    maxHandshake,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// Endpoints are not asked for compression.
		DisableCompression: true,
	}
}

// tlsConfig returns the TLS configuration of a Postback's settings. Its errors quote no setting.
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
		// Present the certificate whatever authorities the endpoint asks for: many endpoints name the wrong ones.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	return config, nil
}
