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
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Renew exchanges a refresh token for new tokens of the same visitor.
func (c *Client) Renew(ctx context.Context, refresh, subject string) (Tokens, error) {
	found, err := c.endpoints()
	if err != nil {
		return Tokens{}, err
	}
	secret, err := c.secret()
	if err != nil {
		return Tokens{}, unavailable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := c.config(found, secret).TokenSource(oidc.ClientContext(ctx, c.http), &oauth2.Token{RefreshToken: refresh}).Token()
	if err != nil {
		return Tokens{}, c.explain(err)
	}
	tokens, token, err := c.verify(ctx, found, got)
	if err != nil {
		return Tokens{}, err
	}
	if token.Subject != subject {
		return Tokens{}, refused("The sign-in became that of somebody else. Sign in again.", "the renewed ID token has another subject")
	}
	return tokens, nil
}

// Revoke ends a refresh token at the issuer (RFC 7009), if the issuer supports it.
func (c *Client) Revoke(ctx context.Context, refresh string) error {
	found, err := c.endpoints()
	if err != nil || refresh == "" || !secure(found.metadata.Revocation) {
		return err
	}
	secret, err := c.secret()
	if err != nil {
		return err
	}
	form := url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}}
	if found.AuthStyle == oauth2.AuthStyleInParams {
		form.Set("client_id", c.options.ClientID)
		if secret != "" {
			form.Set("client_secret", secret)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, found.metadata.Revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if found.AuthStyle == oauth2.AuthStyleInHeader {
		request.SetBasicAuth(url.QueryEscape(c.options.ClientID), url.QueryEscape(secret))
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the revocation endpoint answers %s", response.Status)
	}
	return nil
}

// EndSession returns the address that ends the visitor's session at the issuer and leads back, or "" without such an
// endpoint. It holds no ID token: addresses are in histories and logs.
func (c *Client) EndSession(back string) string {
	found, err := c.endpoints()
	if err != nil || !secure(found.metadata.EndSession) {
		return ""
	}
	address, err := url.Parse(found.metadata.EndSession)
	if err != nil {
		return ""
	}
	query := address.Query()
	query.Set("client_id", c.options.ClientID)
	query.Set("post_logout_redirect_uri", back)
	address.RawQuery = query.Encode()
	return address.String()
}
