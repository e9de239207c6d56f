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

package openid

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// maxReason bounds the text of an error in the log.
	maxReason = 300
)

// UnavailableError means that the issuer cannot sign visitors in now. It is worth another try.
type UnavailableError struct {
	// Text tells the visitor the reason, and when the portal tries again if it is known.
	Text string
	// cause is for the log.
	cause error
}

// Error implements error.
func (e *UnavailableError) Error() string { return e.cause.Error() }

// Unwrap implements the interface of package errors.
func (e *UnavailableError) Unwrap() error { return e.cause }

// discovery is the state of the discovery of the issuer's endpoints.
type discovery struct {
	found *endpoints
	err   error
	next  time.Time
}

// endpoints are the issuer's endpoints and keys.
type endpoints struct {
	oauth2.Endpoint
	verifier *oidc.IDTokenVerifier
	metadata metadata
}

// metadata are the fields of the discovery document that go-oidc does not read.
type metadata struct {
	JWKS       string   `json:"jwks_uri"`
	EndSession string   `json:"end_session_endpoint"`
	Revocation string   `json:"revocation_endpoint"`
	Auth       []string `json:"token_endpoint_auth_methods_supported"`
	PKCE       []string `json:"code_challenge_methods_supported"`
	// NamesIssuer says that the issuer names itself in each answer (RFC 9207).
	NamesIssuer bool `json:"authorization_response_iss_parameter_supported"`
}

// Run discovers the issuer's endpoints. It retries until it has them or ctx ends.
func (c *Client) Run(ctx context.Context) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		found, err := c.discover(ctx)
		c.mu.Lock()
		c.state = discovery{found: found, err: err, next: c.options.Clock.Now().Add(wait)}
		c.mu.Unlock()
		if err == nil {
			c.options.Log.Info("Issuer discovered", "issuer", c.options.Issuer)
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.options.Log.Error(errors.New(reason(err)), "Cannot discover the issuer", "issuer", c.options.Issuer, "retry", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// discover reads the issuer's discovery document.
func (c *Client) discover(ctx context.Context) (*endpoints, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, c.http), c.options.Issuer)
	if err != nil {
		return nil, err
	}
	found := &endpoints{Endpoint: provider.Endpoint()}
	if err := provider.Claims(&found.metadata); err != nil {
		return nil, err
	}
	m := &found.metadata
	for field, address := range map[string]string{
		"authorization_endpoint": found.AuthURL, "token_endpoint": found.TokenURL, "jwks_uri": m.JWKS,
	} {
		if !secure(address) {
			return nil, fmt.Errorf("the discovery document has %s %q, which must be an https:// URL", field, address)
		}
	}
	if len(m.PKCE) > 0 && !slices.Contains(m.PKCE, "S256") {
		return nil, errors.New("the discovery document has no S256 in code_challenge_methods_supported: enable PKCE for the client")
	}
	found.AuthStyle = c.authStyle(m.Auth)
	// The provider keeps the issuer's keys, and reads them again for a key that it does not know.
	found.verifier = provider.Verifier(&oidc.Config{ClientID: c.options.ClientID, Now: c.options.Clock.Now})
	return found, nil
}

func secure(address string) bool {
	parsed, err := url.Parse(address)
	return err == nil && parsed.Scheme == "https" && parsed.Host != ""
}

// authStyle returns how the portal authenticates at the token endpoint. A guess could send the code twice.
func (c *Client) authStyle(supported []string) oauth2.AuthStyle {
	if c.options.SecretFile == "" || len(supported) > 0 && !slices.Contains(supported, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// endpoints returns the issuer's endpoints, or an *UnavailableError.
func (c *Client) endpoints() (*endpoints, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.found != nil:
		return c.state.found, nil
	case c.state.err == nil:
		return nil, &UnavailableError{Text: "The portal has just started, and asks " + c.Host() + " for its settings. Try again in a moment.", cause: errors.New("the issuer is not discovered yet")}
	}
	text := fmt.Sprintf("%s does not give the portal its settings. The portal tries again at %s UTC.", c.Host(), c.state.next.UTC().Format(time.TimeOnly))
	return nil, &UnavailableError{Text: text, cause: fmt.Errorf("the issuer is not discovered: %s", reason(c.state.err))}
}

// reason returns the text of an error on one line, of bounded length: some errors quote the issuer's page.
func reason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}
