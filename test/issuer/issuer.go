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

// Package issuer is an OpenID Connect issuer on loopback for tests, with TLS. It has the authorisation code flow with
// PKCE, refresh tokens that work once, revocation, and sign-out. It accepts nothing that a strict issuer refuses.
package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/client-go/util/cert"
)

const codeLife = time.Minute

// Client is an application that the issuer knows.
type Client struct {
	ID string
	// Secret is "" for a public client.
	Secret string
	// Redirects and Home are where the issuer leads back to, after a sign-in and after a sign-out.
	Redirects []string
	Home      string
}

// User is somebody who signs in.
type User struct {
	Subject string
	Claims  map[string]any
}

// Issuer is a running issuer. It is safe for concurrent use.
type Issuer struct {
	// URL is the issuer's identity, and CA its certificate authority in PEM.
	URL, CA string

	server *httptest.Server
	client *http.Client
	signer jose.Signer
	public jose.JSONWebKey

	mu       sync.Mutex
	clients  map[string]Client
	users    map[string]User
	codes    map[string]*grant
	families map[string]*grant
	set      Settings
	counts   Counts
}

// Settings are faults and properties that a test may change.
type Settings struct {
	// Lifetime is that of ID tokens. Now is the issuer's clock.
	Lifetime time.Duration
	Now      func() time.Time
	// Down makes each endpoint answer 503.
	Down bool
	// WithoutRefresh issues no refresh tokens, and WithoutIDToken no ID tokens at a refresh.
	WithoutRefresh, WithoutIDToken bool
	// Change changes the claims of an ID token before it is signed.
	Change func(claims map[string]any)
	// Answer changes the query with which the issuer leads back.
	Answer func(query map[string][]string)
}

// Counts count requests.
type Counts struct{ Codes, Renewals, Refused, Revocations int }

// grant is a sign-in, from its code to its last refresh token.
type grant struct {
	client                   Client
	user                     User
	nonce, challenge, scopes string
	redirect                 string
	until                    time.Time
	used                     bool
	// refresh is the refresh token that works, and family identifies those before it.
	refresh, family string
}

// Start returns a running issuer.
func Start() (*Issuer, error) {
	i := &Issuer{clients: map[string]Client{}, users: map[string]User{}, codes: map[string]*grant{}, families: map[string]*grant{}}
	i.Reset()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key for tokens: %w", err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: string(jose.ES256), Use: "sig"}
	i.public = private.Public()
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		return nil, fmt.Errorf("make the signer of tokens: %w", err)
	}
	certificate, certificateKey, err := cert.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, certificateKey)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		return nil, errors.New("read a certificate authority")
	}
	i.server = httptest.NewUnstartedServer(i.routes())
	i.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	i.server.StartTLS()
	// For a browser, this is another site than 127.0.0.1.
	i.URL, i.CA = strings.Replace(i.server.URL, "127.0.0.1", "localhost", 1), string(certificate)
	i.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return i, nil
}

// Close ends the issuer.
func (i *Issuer) Close() {
	i.server.CloseClientConnections()
	i.server.Close()
}

// Register adds or replaces a client.
func (i *Issuer) Register(c Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clients[c.ID] = c
}

// Add adds or replaces a user.
func (i *Issuer) Add(u User) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.users[u.Subject] = u
}

// Set changes the settings.
func (i *Issuer) Set(change func(*Settings)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(&i.set)
}

// Reset restores the settings and the counts.
func (i *Issuer) Reset() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set, i.counts = Settings{Lifetime: time.Hour, Now: time.Now}, Counts{}
}

// Counts returns the counts of requests.
func (i *Issuer) Counts() Counts {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts
}

// EndSessions makes every refresh token invalid, as an administrator of the issuer can.
func (i *Issuer) EndSessions() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.families)
}

// SignIn signs a user in at an address that starts a sign-in, as a browser does. It returns the address to which the
// issuer leads back.
func (i *Issuer) SignIn(address, subject string) (string, error) {
	request, err := http.NewRequest(http.MethodPost, address, strings.NewReader("user="+subject))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := i.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusFound {
		return "", fmt.Errorf("the issuer answers %s", response.Status)
	}
	return response.Header.Get("Location"), nil
}

// token returns a signed ID token. The caller holds the lock.
func (i *Issuer) token(g *grant, nonce string) (string, error) {
	now := i.set.Now()
	claims := map[string]any{
		"iss": i.URL, "sub": g.user.Subject, "aud": g.client.ID, "iat": now.Unix(), "exp": now.Add(i.set.Lifetime).Unix(),
		// Two tokens of one second differ.
		"jti": rand.Text(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	maps.Copy(claims, g.user.Claims)
	if i.set.Change != nil {
		i.set.Change(claims)
	}
	return jwt.Signed(i.signer).Claims(claims).Serialize()
}

func (g *grant) offline() bool { return slices.Contains(strings.Fields(g.scopes), "offline_access") }

// Authentication returns an AuthenticationConfiguration by which an API server trusts the issuer for a client. Names
// of users and groups get the prefix "oidc:".
func (i *Issuer) Authentication(client string) string {
	return `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: ` + i.URL + `
    audiences: [` + client + `]
    certificateAuthority: |
      ` + strings.ReplaceAll(strings.TrimSpace(i.CA), "\n", "\n      ") + `
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
    groups: {claim: groups, prefix: "oidc:"}
`
}
