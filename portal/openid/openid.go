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

// Package openid signs visitors in at an OpenID Connect issuer: the authorisation code flow with PKCE, renewal and
// sign-out. It returns ID tokens, which the API server authenticates. It keeps no token.
package openid

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

const (
	// callTimeout bounds a request to the issuer.
	callTimeout = 10 * time.Second
	// maxAnswer bounds an answer of the issuer, in bytes.
	maxAnswer = 1 << 20
	maxSecret = 4 << 10
)

// Options configure a Client.
type Options struct {
	// Issuer is the URL of the issuer, exactly as in its tokens.
	Issuer string
	// ClientID is the portal's identity at the issuer, and the audience of the ID tokens.
	ClientID string
	// SecretFile holds the client secret. "" means a public client, which PKCE protects.
	SecretFile string
	// CAFile holds the certificate authorities of the issuer, in PEM. "" means those of the system.
	CAFile string
	// Scopes are those to request besides openid, separated by commas.
	Scopes string
	// RedirectURL is where the issuer sends visitors back to.
	RedirectURL string
	// NamespaceClaim is the claim with the namespaces to offer, or "".
	NamespaceClaim string
	Clock          clock.PassiveClock
	Log            logr.Logger
}

// Client is a relying party of one issuer. It is safe for concurrent use.
type Client struct {
	options Options
	scopes  []string
	http    *http.Client

	mu    sync.Mutex
	state discovery
}

// New returns a Client. It knows the issuer's endpoints only after Run has discovered them.
func New(o Options) (*Client, error) {
	issuer, err := url.Parse(o.Issuer)
	switch {
	case err != nil || issuer.Scheme != "https" || issuer.Host == "" || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "":
		return nil, fmt.Errorf("--oidc-issuer-url is %q, and must be https:// and a host, as in the field issuer of the issuer's discovery document", o.Issuer)
	case o.ClientID == "":
		return nil, errors.New("--oidc-client-id must name the client of the portal at the issuer")
	}
	c := &Client{options: o, scopes: scopes(o.Scopes)}
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	if _, err := c.secret(); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: callTimeout, ResponseHeaderTimeout: callTimeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}
	c.http = &http.Client{
		Transport: bounded{transport}, Timeout: callTimeout,
		// A redirect would send the code and the client secret to another address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// scopes reads a list. It adds openid, by which the issuer returns an ID token.
func scopes(text string) []string {
	all := []string{oidc.ScopeOpenID}
	for _, scope := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
		if !slices.Contains(all, scope) {
			all = append(all, scope)
		}
	}
	return all
}

// roots returns the certificate authorities of the issuer; nil means those of the system.
func (o *Options) roots() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	content, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities of the issuer (--oidc-ca-file): %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("--oidc-ca-file %s holds no certificate in PEM", o.CAFile)
	}
	return pool, nil
}

// secret reads the client secret, so that a new one takes effect without a restart.
func (c *Client) secret() (string, error) {
	if c.options.SecretFile == "" {
		return "", nil
	}
	content, err := os.ReadFile(c.options.SecretFile)
	if err != nil {
		return "", fmt.Errorf("read the client secret (--oidc-client-secret-file): %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" || len(secret) > maxSecret {
		return "", fmt.Errorf("--oidc-client-secret-file holds %d characters, and needs 1 to %d: omit the flag for a public client", len(secret), maxSecret)
	}
	return secret, nil
}

// Host returns the issuer's host, for the pages.
func (c *Client) Host() string {
	issuer, err := url.Parse(c.options.Issuer)
	if err != nil {
		return c.options.Issuer
	}
	return issuer.Host
}

// Issuer returns the issuer's URL, and ClientID the audience of its tokens.
func (c *Client) Issuer() string { return c.options.Issuer }

// ClientID returns the portal's identity at the issuer.
func (c *Client) ClientID() string { return c.options.ClientID }

// bounded is a transport whose answers have a bounded length.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	}
	return response, err
}
