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

package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/postback-dev/postback-operator/dispatcher/decode"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi/problem"
	"github.com/postback-dev/postback-operator/internal/access"
)

// Access authenticates and authorises callers that post events.
type Access interface {
	// Check returns the name of the user of a bearer token if they may post events for a namespace. The error is an
	// *access.UnauthenticatedError, an *access.ForbiddenError, or another one if the check failed.
	Check(ctx context.Context, namespace, token string) (user string, err error)
}

const getToken = "kubectl create token, or a projected volume"

// authorize returns the name under which the rate of the caller counts, or a refusal. It does not read the body.
func (s *Server) authorize(ctx context.Context, r *http.Request, namespace string) (caller string, a *problem.Answer) {
	caller, a = s.identify(ctx, r, namespace)
	if a == nil {
		a = s.charge(caller, 1, 0)
	}
	return caller, a
}

func (s *Server) identify(ctx context.Context, r *http.Request, namespace string) (caller string, a *problem.Answer) {
	if s.options.Access == nil {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		return host, nil
	}
	token, ok := access.BearerToken(r.Header)
	if !ok {
		return "", problem.Refuse(problem.Unauthenticated, "Send a token of a Kubernetes ServiceAccount (%s) in one header, Authorization: Bearer <token>.", getToken).
			With("WWW-Authenticate", access.Challenge)
	}
	user, err := s.options.Access.Check(ctx, namespace, token)
	if err == nil {
		return user, nil
	}
	return "", s.denied(r, namespace, err)
}

// denied returns the answer for a caller without the right to post, or whose right could not be checked.
func (s *Server) denied(r *http.Request, namespace string, err error) *problem.Answer {
	if unknown, ok := errors.AsType[*access.UnauthenticatedError](err); ok {
		return problem.Refuse(problem.Unauthenticated, "%s Send a valid token of a ServiceAccount (%s).", unknown.Detail, getToken).
			With("WWW-Authenticate", access.Challenge+`, error="invalid_token"`)
	}
	if forbidden, ok := errors.AsType[*access.ForbiddenError](err); ok {
		return problem.Refuse(problem.ForbiddenSender, "%s. An administrator of the namespace can allow it: kubectl -n %s create rolebinding NAME --clusterrole=postback-event-sender %s",
			forbidden.Error(), namespace, subject(forbidden.User))
	}
	a := problem.Refuse(problem.AccessUnknown, "The Kubernetes API did not confirm your right to post. Nothing was stored: send the request again later.")
	if r.Context().Err() == nil {
		s.options.Log.Error(err, "Cannot check a caller's right to post", "namespace", namespace, "instance", a.Problem.Instance)
	}
	return a
}

// subject returns the name of a user as kubectl spells it.
func subject(user string) string {
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	return "--user=" + strconv.Quote(user)
}

// charge takes n events from the rate of a caller, or refuses the request. acquired is the number of events that the
// request has taken before.
func (s *Server) charge(caller string, n, acquired int) *problem.Answer {
	wait, ok := s.pace.Acquire(caller, n, acquired)
	if ok {
		return nil
	}
	a := problem.Refuse(problem.RateLimited, "One producer may post %s events per second, and %d at once. Nothing was stored: send the request again later.",
		strconv.FormatFloat(s.pace.PerSecond(), 'f', -1, 64), s.options.Burst)
	a.RetryAfter = wait
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

// handshake answers the handshake of a producer of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, 4). It returns
// nil for any other request. It permits every origin, because each request needs a token.
func (s *Server) handshake(r *http.Request) *problem.Answer {
	origin := r.Header.Get(originHeader)
	if r.Method != http.MethodOptions || origin == "" {
		return nil
	}
	if len(origin) > maxOrigin || strings.ContainsFunc(origin, decode.NotPrintable) {
		return problem.Refuse(problem.InvalidOrigin, "Send %s with at most %d printable ASCII characters.", originHeader, maxOrigin)
	}
	a := (&problem.Answer{Status: http.StatusOK, Header: http.Header{}}).With("Allow", http.MethodPost).With(allowedOrigin, origin)
	if r.Header.Get(rateHeader) != "" {
		a.With(allowedRateHeader, s.allowedRate())
	}
	return a
}

// allowedRate returns the rate in requests per minute.
func (s *Server) allowedRate() string {
	if s.pace.PerSecond() <= 0 {
		return anyRate
	}
	return fmt.Sprintf("%.0f", max(1, math.Floor(s.pace.PerSecond()*secondsPerMinute)))
}
