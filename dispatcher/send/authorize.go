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
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// maxTokens is the number of Postbacks whose OAuth 2.0 tokens are cached.
	maxTokens = 4096
	// maxTokenLife is the lifetime of a token if the authorisation server states none.
	maxTokenLife = time.Hour
	// A token is not used at the end of its lifetime, so that it does not expire in flight.
	maxTokenMargin    = 30 * time.Second
	tokenMarginOfLife = 10
)

// authError explains why an attempt has no header Authorization. Nothing was sent to the endpoint.
type authError struct {
	outcome v1alpha1.Outcome
	text    string
}

func (e *authError) Error() string { return e.text }

// authorization returns the header Authorization of a route, or "". ctx is the context of the attempt, bounded the
// same with its deadline.
func (s *Sender) authorization(ctx, bounded context.Context, r *route.Route) (string, error) {
	switch {
	case r.Auth == nil:
		return "", nil
	case r.Auth.Basic != nil:
		pair := r.Auth.Basic.Username + ":" + r.Auth.Basic.Password
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
	case r.Auth.Bearer != "":
		return "Bearer " + r.Auth.Bearer, nil
	case r.Auth.OAuth2 != nil:
		token, err := s.tokens.get(bounded, r, s.transports.forNamespace(r.Namespace, r.Auth.OAuth2.TokenURL).kept)
		if err != nil {
			return "", tokenFault(ctx, err)
		}
		return "Bearer " + token, nil
	default:
		return "", errors.New("spec.auth holds no way to authenticate")
	}
}

// tokens caches the OAuth 2.0 tokens by the UID of their Postback.
type tokens struct {
	clock     clock.PassiveClock
	userAgent string
	mu        sync.Mutex
	cache     *lru.Cache
}

func newTokens(c clock.PassiveClock, userAgent string) *tokens {
	return &tokens{clock: c, userAgent: userAgent, cache: lru.New(maxTokens)}
}

// grant is the token of one Postback, with the settings to request the next one.
type grant struct {
	settings [sha256.Size]byte
	config   clientcredentials.Config

	// lock guards token and expires, so that concurrent attempts request one token. A sync.Mutex cannot be acquired
	// with a deadline.
	lock    *semaphore.Weighted
	token   string
	expires time.Time
}

// of returns the grant of a route. It is a new one if the settings or the endpoint have changed, so no endpoint gets
// a token that another endpoint has seen.
func (t *tokens) of(r *route.Route) *grant {
	settings := sha256.Sum256(fmt.Appendf(nil, "%q %q", r.URL, *r.Auth.OAuth2))
	t.mu.Lock()
	defer t.mu.Unlock()
	cached, _ := t.cache.Get(r.UID)
	if g, _ := cached.(*grant); g != nil && g.settings == settings {
		return g
	}
	o := r.Auth.OAuth2
	g := &grant{settings: settings, lock: semaphore.NewWeighted(1), config: clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes,
	}}
	if o.Audience != "" {
		g.config.EndpointParams = url.Values{"audience": {o.Audience}}
	}
	t.cache.Add(r.UID, g)
	return g
}

// noRedirect makes an http.Client return a redirect instead of following it.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// get returns the token of a route, from the cache or from the authorisation server.
func (t *tokens) get(ctx context.Context, r *route.Route, transport *http.Transport) (string, error) {
	g := t.of(r)
	if err := g.lock.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer g.lock.Release(1)
	now := t.clock.Now()
	if g.token != "" && now.Before(g.expires) {
		return g.token, nil
	}
	g.token = ""
	// A followed redirect could send the client secret elsewhere.
	client := &http.Client{Transport: unfollowed{transport, t.userAgent}, CheckRedirect: noRedirect}
	token, err := g.config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return "", err
	}
	if !strings.EqualFold(token.Type(), "Bearer") || !httpguts.ValidHeaderFieldValue(token.AccessToken) {
		return "", errNoBearer
	}
	life := maxTokenLife
	if !token.Expiry.IsZero() {
		life = time.Until(token.Expiry)
	}
	g.token, g.expires = token.AccessToken, now.Add(life-min(maxTokenMargin, life/tokenMarginOfLife))
	return g.token, nil
}

// drop removes the token that the endpoint rejected, unless a newer one has replaced it.
func (t *tokens) drop(ctx context.Context, r *route.Route, sent string) {
	if r.Auth == nil || r.Auth.OAuth2 == nil {
		return
	}
	g := t.of(r)
	if g.lock.Acquire(ctx, 1) != nil {
		return
	}
	defer g.lock.Release(1)
	if "Bearer "+g.token == sent {
		g.token = ""
	}
}

var errNoBearer = errors.New("no bearer token in the answer")

// tokenErrors are the error codes of RFC 6749, section 5.2, with explanations. No other text of an authorisation
// server is shown.
var tokenErrors = map[string]string{
	"invalid_request":        "",
	"invalid_client":         ": see spec.auth.oauth2.clientID and clientSecretRef",
	"invalid_grant":          "",
	"unauthorized_client":    ": the client may not use the client credentials grant",
	"unsupported_grant_type": ": the server does not know the client credentials grant",
	"invalid_scope":          ": see spec.auth.oauth2.scopes",
}

// tokenFault converts the error of a token request. The result has the status, a known error code and the host of a
// redirect, but never a text of the authorisation server.
func tokenFault(ctx context.Context, err error) error {
	fault := &authError{outcome: v1alpha1.OutcomeAuthenticationFailed}
	const server = "no token from spec.auth.oauth2.tokenURL: "
	var answer *oauth2.RetrieveError
	var request *url.Error
	var proxy *egress.ProxyError
	switch {
	case ctx.Err() != nil:
		fault.outcome, fault.text = v1alpha1.OutcomeInterrupted, "the dispatcher had to stop before the attempt; nothing was sent"
	case errors.As(err, &proxy):
		fault.outcome, fault.text = v1alpha1.OutcomeProxyFailed, server+proxy.Error()
	case errors.As(err, &answer) && answer.Response != nil:
		fault.text = fmt.Sprintf("%sit answered %d %s", server, answer.Response.StatusCode, http.StatusText(answer.Response.StatusCode))
		if hint, ok := tokenErrors[answer.ErrorCode]; ok {
			fault.text += " (" + answer.ErrorCode + ")" + hint
		} else if answer.Response.StatusCode/100 == 3 {
			fault.text += ": redirects are not followed" + redirectTarget(answer.Response, "spec.auth.oauth2.tokenURL")
		}
	case errors.As(err, &request), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		outcome, text := classifyError(ctx, err)
		if outcome == v1alpha1.OutcomeInvalidResponse {
			// net/http quotes an invalid response. It may contain a new token, which redaction does not know yet.
			text = "its answer is no valid HTTP"
		}
		fault.text = server + text
	default:
		fault.text = server + "its answer has no bearer token (RFC 6749, section 5.1)"
	}
	return fault
}
