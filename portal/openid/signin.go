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
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// RefusedError means that a sign-in or a renewal failed for good.
type RefusedError struct {
	// Text tells the visitor the reason. It contains no token, no code and no text of the issuer's.
	Text  string
	cause error
}

// Error implements error.
func (e *RefusedError) Error() string { return e.cause.Error() }

// Unwrap implements the interface of package errors.
func (e *RefusedError) Unwrap() error { return e.cause }

func refused(text, format string, args ...any) error {
	return &RefusedError{Text: text, cause: fmt.Errorf(format, args...)}
}

const notStarted = "This sign-in did not start in this browser, is older than 10 minutes, or was used already. Sign in again."

// Attempt is a sign-in that has started. Only the browser that started it may finish it.
type Attempt struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
}

// Begin starts a sign-in. It returns the address at the issuer to send the browser to.
func (c *Client) Begin() (Attempt, string, error) {
	found, err := c.endpoints()
	if err != nil {
		return Attempt{}, "", err
	}
	a := Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
	config := c.config(found, "")
	return a, config.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), nil
}

func (c *Client) config(found *endpoints, secret string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: c.options.ClientID, ClientSecret: secret, Endpoint: found.Endpoint, RedirectURL: c.options.RedirectURL, Scopes: c.scopes,
	}
}

// Finish exchanges the code in the issuer's answer for tokens. answer is the query of the redirect URL.
func (c *Client) Finish(ctx context.Context, a Attempt, answer url.Values) (Tokens, error) {
	found, err := c.endpoints()
	if err != nil {
		return Tokens{}, err
	}
	code, err := c.read(found, a, answer)
	if err != nil {
		return Tokens{}, err
	}
	secret, err := c.secret()
	if err != nil {
		return Tokens{}, unavailable(err)
	}
	got, err := c.config(found, secret).Exchange(oidc.ClientContext(ctx, c.http), code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return Tokens{}, c.explain(err)
	}
	tokens, token, err := c.verify(ctx, found, got)
	if err != nil {
		return Tokens{}, err
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(a.Nonce)) != 1 {
		return Tokens{}, refused(notStarted, "the ID token has another nonce than the sign-in")
	}
	return tokens, nil
}

// read returns the code of an answer that belongs to an attempt and comes from the issuer.
func (c *Client) read(found *endpoints, a Attempt, answer url.Values) (string, error) {
	for _, name := range []string{"state", "code", "error", "iss"} {
		if len(answer[name]) > 1 {
			return "", refused(notStarted, "the answer has several values of %s", name)
		}
	}
	state, issuer, named := answer.Get("state"), answer.Get("iss"), answer.Has("iss")
	switch {
	case a.State == "" || subtle.ConstantTimeCompare([]byte(state), []byte(a.State)) != 1:
		return "", refused(notStarted, "the answer has another state than the sign-in")
	case named && issuer != c.options.Issuer, !named && found.metadata.NamesIssuer:
		return "", refused("The answer comes from another issuer than "+c.Host()+". Sign in again.", "the answer names another issuer, or none")
	case answer.Get("error") != "":
		why := errorCode(answer.Get("error"))
		return "", refused(c.Host()+" refused the sign-in: "+why+".", "the issuer refused the sign-in: %s", why)
	case answer.Get("code") == "":
		return "", refused(notStarted, "the answer has no code")
	}
	return answer.Get("code"), nil
}

// codes are those of OAuth and OpenID Connect. Anybody can write another text into the address.
var codes = regexp.MustCompile(`^[a-z_]{1,40}$`)

func errorCode(text string) string {
	if !codes.MatchString(text) {
		return "unknown error"
	}
	return text
}

// explain turns an error of the token endpoint into a *RefusedError or an *UnavailableError. The text of the original
// error quotes the answer, which may contain tokens.
func (c *Client) explain(err error) error {
	var retrieve *oauth2.RetrieveError
	if !errors.As(err, &retrieve) || retrieve.Response == nil {
		return unavailable(errors.New(reason(err)))
	}
	code := errorCode(retrieve.ErrorCode)
	switch status := retrieve.Response.StatusCode; {
	case code == "invalid_grant":
		return refused(c.Host()+" does not accept this sign-in any more. Sign in again.", "the token endpoint answers %d, invalid_grant", status)
	case status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusTooManyRequests:
		return refused(c.Host()+" does not accept the portal: "+code+". Tell your platform.",
			"the token endpoint answers %d, %s: compare --oidc-client-id, --oidc-client-secret-file and the redirect URL with the client at the issuer", status, code)
	default:
		return unavailable(fmt.Errorf("the token endpoint answers %d", status))
	}
}

func unavailable(cause error) error {
	return &UnavailableError{Text: "The sign-in service does not answer. Try again in a moment.", cause: cause}
}
