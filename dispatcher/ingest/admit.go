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

package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/dispatcher/ingest/access"
)

// Access says who a caller is and whether they may post.
type Access interface {
	// Check returns the name of the user whose bearer token it is, if they may post events for a namespace. The error is
	// an *access.UnauthenticatedError, an *access.ForbiddenError, or another one if it is not known.
	Check(ctx context.Context, namespace, token string) (user string, err error)
}

const (
	retryAccess = 2 * time.Second
	realm       = `Bearer realm="postback-ingest"`

	getToken = "kubectl create token, or a projected volume"
)

// admit returns the name by which the rate of a caller is counted, or a refusal. It reads nothing of the body.
func (s *Server) admit(ctx context.Context, r *http.Request, namespace string) (caller string, a *answer) {
	caller, a = s.identify(ctx, r, namespace)
	if a == nil {
		a = s.charge(caller, 1, 0)
	}
	return caller, a
}

func (s *Server) identify(ctx context.Context, r *http.Request, namespace string) (caller string, a *answer) {
	if s.options.Access == nil {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		return host, nil
	}
	token, ok := bearerToken(r.Header)
	if !ok {
		return "", refuse(unauthenticated, "Send a token of a Kubernetes ServiceAccount (%s) in one header, Authorization: Bearer <token>.", getToken).
			with("WWW-Authenticate", realm)
	}
	user, err := s.options.Access.Check(ctx, namespace, token)
	if err == nil {
		return user, nil
	}
	return "", s.denied(r, namespace, err)
}

// denied is the answer to a caller who may not post, or of whom that is not known.
func (s *Server) denied(r *http.Request, namespace string, err error) *answer {
	if unknown, ok := errors.AsType[*access.UnauthenticatedError](err); ok {
		return refuse(unauthenticated, "%s Send a valid token of a ServiceAccount (%s).", unknown.Detail, getToken).
			with("WWW-Authenticate", realm+`, error="invalid_token"`)
	}
	if forbidden, ok := errors.AsType[*access.ForbiddenError](err); ok {
		return refuse(forbiddenSender, "%s. Whoever administers the namespace can allow it: kubectl -n %s create rolebinding NAME --clusterrole=postback-event-sender %s",
			forbidden.Error(), namespace, subject(forbidden.User))
	}
	a := refuse(accessUnknown, "The Kubernetes API did not say whether you may post. Nothing was stored: send the request again later.")
	a.retryAfter = retryAccess
	if r.Context().Err() == nil {
		s.options.Log.Error(err, "Cannot tell whether a caller may post", "namespace", namespace, "instance", a.problem.Instance)
	}
	return a
}

// subject returns how kubectl names a user.
func subject(user string) string {
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	return "--user=" + strconv.Quote(user)
}

// bearerToken returns the token of the header Authorization (RFC 6750), if there is exactly one.
func bearerToken(header http.Header) (token string, ok bool) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != "" && !strings.ContainsAny(token, " \t")
}

// charge takes n events from the rate of a caller, of whose request some were taken before, or refuses them.
func (s *Server) charge(caller string, n, taken int) *answer {
	wait, ok := s.pace.Take(caller, n, taken)
	if ok {
		return nil
	}
	a := refuse(rateLimited, "More than %s events per second, and %d at once, are not taken from one sender. Nothing was stored: send the request again later.",
		strconv.FormatFloat(s.pace.PerSecond(), 'f', -1, 64), s.options.Burst)
	a.retryAfter = wait
	return a
}

const (
	originHeader      = "WebHook-Request-Origin"
	rateHeader        = "WebHook-Request-Rate"
	maxOrigin         = 255
	secondsPerMinute  = 60
	anyRate           = "*"
	allowedOrigin     = "WebHook-Allowed-Origin"
	allowedRateHeader = "WebHook-Allowed-Rate"
)

// handshake answers the question of a sender of CloudEvents whether it may deliver here (HTTP 1.1 Web Hooks for Event
// Delivery, 4), or returns nil if it is none. Every origin may ask: the token of each request decides.
func (s *Server) handshake(r *http.Request) *answer {
	origin := r.Header.Get(originHeader)
	if r.Method != http.MethodOptions || origin == "" {
		return nil
	}
	if len(origin) > maxOrigin || strings.ContainsFunc(origin, notPrintable) {
		return refuse(invalidOrigin, "Send %s with at most %d printable ASCII characters.", originHeader, maxOrigin)
	}
	a := (&answer{status: http.StatusOK, header: http.Header{}}).with("Allow", http.MethodPost).with(allowedOrigin, origin)
	if r.Header.Get(rateHeader) != "" {
		a.with(allowedRateHeader, s.allowedRate())
	}
	return a
}

// allowedRate is in requests per minute.
func (s *Server) allowedRate() string {
	if s.pace.PerSecond() <= 0 {
		return anyRate
	}
	return fmt.Sprintf("%.0f", max(1, math.Floor(s.pace.PerSecond()*secondsPerMinute)))
}
