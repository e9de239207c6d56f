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
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"k8s.io/apimachinery/pkg/util/validation"
)

// maxNamespaces bounds the namespaces that a claim offers.
const maxNamespaces = 20

// Tokens are what a session needs.
type Tokens struct {
	// ID is the ID token, by which the API server authenticates the visitor. Refresh renews it, and may be "".
	ID, Refresh string
	// Subject identifies the visitor at the issuer.
	Subject string
	Expiry  time.Time
}

// verify returns the tokens in an answer of the token endpoint, after a check of the ID token's signature, issuer,
// audience and expiry.
func (c *Client) verify(ctx context.Context, found *endpoints, got *oauth2.Token) (Tokens, *oidc.IDToken, error) {
	raw, ok := got.Extra("id_token").(string)
	if !ok || raw == "" {
		return Tokens{}, nil, refused(c.Host()+" returned no ID token. Tell your platform.", "the answer has no id_token: allow the scope openid to the client, also at a refresh")
	}
	token, err := found.verifier.Verify(oidc.ClientContext(ctx, c.http), raw)
	if err != nil {
		return Tokens{}, nil, c.explainToken(err)
	}
	var claims struct {
		AuthorizedParty string `json:"azp"`
	}
	if err := token.Claims(&claims); err != nil || claims.AuthorizedParty != "" && claims.AuthorizedParty != c.options.ClientID {
		return Tokens{}, nil, refused("The sign-in is for another application. Tell your platform.", "the ID token has another azp than --oidc-client-id")
	}
	return Tokens{ID: raw, Refresh: got.RefreshToken, Subject: token.Subject, Expiry: token.Expiry}, token, nil
}

// explainToken turns an error of the verifier into one for the visitor.
func (c *Client) explainToken(err error) error {
	var expired *oidc.TokenExpiredError
	switch text := reason(err); {
	case errors.As(err, &expired):
		return refused("The sign-in had expired when it arrived. Your platform has to compare the clocks of "+c.Host()+" and the portal.",
			"the ID token expired at %s, and it is %s here: compare the clocks", expired.Expiry.UTC().Format(time.RFC3339), c.options.Clock.Now().UTC().Format(time.RFC3339))
	case strings.Contains(text, "fetching keys"):
		return unavailable(errors.New(text))
	case strings.Contains(text, "expected audience"):
		return refused("The sign-in is for another application. Tell your platform.", "the ID token is not for --oidc-client-id: %s", text)
	default:
		return refused("The portal cannot verify the sign-in. Tell your platform.", "verify the ID token: %s", text)
	}
}

// Namespaces returns the namespaces that an ID token offers, in the order of the claim. The claim gives no right.
func (c *Client) Namespaces(token string) []string {
	parts := strings.Split(token, ".")
	if c.options.NamespaceClaim == "" || len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]json.RawMessage
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return namespaces(claims[c.options.NamespaceClaim])
}

// namespaces reads a claim that is a name or a list of names. It omits texts that name no namespace.
func namespaces(claim json.RawMessage) []string {
	var one string
	var all, valid []string
	if json.Unmarshal(claim, &one) == nil {
		all = strings.Fields(one)
	} else if json.Unmarshal(claim, &all) != nil {
		return nil
	}
	for _, name := range all {
		if len(validation.IsDNS1123Label(name)) == 0 && !slices.Contains(valid, name) && len(valid) < maxNamespaces {
			valid = append(valid, name)
		}
	}
	return valid
}
