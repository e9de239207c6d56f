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

// Package send sends one delivery to an endpoint by HTTP and returns the outcome.
package send

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/postback/format"
	"github.com/postback-dev/postback-operator/internal/postback/header"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
)

const (
	// maxDrain is the number of bytes of a body that are read so that the connection can be reused. A longer body
	// ends the connection.
	maxDrain            = 64 << 10
	authorizationHeader = "Authorization"
	// minStatusCode and maxStatusCode bound the recorded status code; net/http accepts others.
	minStatusCode = 100
	maxStatusCode = 999
)

// Options configure a Sender. All are required.
type Options struct {
	Signer *sign.Signer
	// UserAgent is the value of the header User-Agent.
	UserAgent string
	Clock     clock.PassiveClock
	// Egress restricts the addresses that requests may reach.
	Egress *egress.Egress
}

// Sender sends deliveries. It is safe for concurrent use.
type Sender struct {
	signer     *sign.Signer
	userAgent  string
	clock      clock.PassiveClock
	transports *transports
	tokens     *tokens
}

// New returns a Sender.
func New(o Options) *Sender {
	return &Sender{
		signer: o.Signer, userAgent: o.UserAgent, clock: o.Clock,
		transports: newTransports(o.Egress, o.Clock), tokens: newTokens(o.Clock, o.UserAgent),
	}
}

// Send signs a delivery, posts it to the endpoint of a route, and returns the attempt, without its Number. The
// route's timeout covers everything from the token request to the end of the response. If ctx ends first, the outcome
// is Interrupted.
func (s *Sender) Send(ctx context.Context, r *route.Route, d *v1alpha1.PostbackDelivery) v1alpha1.Attempt {
	// The wall clock may jump, so the monotonic clock measures the duration. It is read first: on a busy machine time
	// passes between the two reads, and Time plus Duration must not lie before the end.
	began := time.Now()
	start := s.clock.Now()
	attempt := v1alpha1.Attempt{
		Time: metav1.NewMicroTime(start.UTC().Truncate(time.Microsecond)), PostbackGeneration: r.Generation,
	}
	bounded, cancel := context.WithTimeout(ctx, r.Timeout.Duration)
	defer cancel()
	s.exchange(ctx, egress.WithDialDeadline(bounded), r, d, &attempt)
	attempt.Message = tidy(attempt.Message)
	attempt.Duration = metav1.Duration{Duration: time.Since(began).Round(time.Microsecond)}
	return attempt
}

// exchange sends the request and sets the outcome of the attempt. ctx is the context of the attempt, bounded the same
// with its deadline.
func (s *Sender) exchange(ctx, bounded context.Context, r *route.Route, d *v1alpha1.PostbackDelivery, attempt *v1alpha1.Attempt) {
	var request *http.Request
	// Compute the secrets only for an attempt with texts: most have none.
	hidden := sync.OnceValue(func() *secrets {
		all := secretsOf(r)
		if request != nil {
			all.addHeader(request.Header, authorizationHeader)
			all.addHeader(request.Header, s.signer.Headers()...)
		}
		return all
	})
	defer func() {
		if attempt.Message != "" { // An error may quote a response.
			attempt.Message = hidden().redact(attempt.Message, len(attempt.Message))
		}
	}()
	lines, err := s.transports.forRoute(r)
	if err != nil {
		attempt.Outcome, attempt.Message = v1alpha1.OutcomeInvalidRequest, err.Error()
		return
	}
	authorization, err := s.authorization(ctx, bounded, r)
	if err != nil {
		attempt.Outcome, attempt.Message = v1alpha1.OutcomeInvalidRequest, err.Error()
		var fault *authError
		if errors.As(err, &fault) {
			attempt.Outcome = fault.outcome
		}
		return
	}
	bounded, stop := context.WithCancelCause(bounded)
	defer stop(nil)
	connection := connectionTrace{stop: stop}
	request, err = s.request(httptrace.WithClientTrace(bounded, connection.hooks()), r, d, authorization, attempt.Time.Time)
	if err != nil {
		attempt.Outcome, attempt.Message = v1alpha1.OutcomeInvalidRequest, err.Error()
		return
	}
	response, twice, err := do(lines, request, &connection)
	attempt.RemoteIP = connection.remoteIP()
	if err != nil {
		switch {
		case errors.Is(context.Cause(bounded), errAlwaysEnds):
			err = errAlwaysEnds
		case connection.cutOff(err):
			err = errCutOff
		}
		attempt.Outcome, attempt.Message = classifyError(ctx, err)
	} else {
		take(response, s.clock.Now(), hidden, attempt)
	}
	if twice {
		attempt.Message = strings.TrimPrefix(attempt.Message+"; "+sentTwice, "; ")
	}
	if err != nil {
		return
	}
	if response.StatusCode == http.StatusUnauthorized {
		s.tokens.drop(bounded, r, authorization)
	}
}

// sentTwice ends the message of an attempt whose request was repeated.
const sentTwice = "the request was sent twice, because the first connection ended before an answer"

// do sends a request, and repeats it on a fresh connection if the endpoint cannot have processed it. net/http itself
// repeats nothing, because do takes GetBody out of the request. twice reports whether bytes of both requests were
// written. do uses the transport without an http.Client, which would follow redirects: the POST would become a GET,
// or the event would go to another host.
func do(l *lines, request *http.Request, connection *connectionTrace) (response *http.Response, twice bool, err error) {
	body := request.GetBody
	request.GetBody = nil
	response, err = l.kept.RoundTrip(request)
	if err == nil || request.Context().Err() != nil || !connection.repeatable(err) {
		return response, false, err
	}
	sent, connections := connection.sent(), connection.count()
	again := request.Clone(request.Context())
	var bodyErr error
	if again.Body, bodyErr = body(); bodyErr != nil {
		return nil, false, err
	}
	response, err = l.fresh.RoundTrip(again)
	return response, sent && connection.count() > connections && connection.sent(), err
}

func (s *Sender) request(ctx context.Context, r *route.Route, d *v1alpha1.PostbackDelivery, authorization string, now time.Time) (*http.Request, error) {
	body := []byte(d.Spec.Body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	endpoint.Normalise(request.URL)
	request.Host = request.URL.Host
	trace.Inject(ctx, request.Header)
	for _, h := range r.Headers {
		// The route may be older than the API's rule against reserved headers.
		if !header.Reserved(h.Name) {
			request.Header.Set(h.Name, h.Value)
		}
	}
	if authorization != "" {
		request.Header.Set(authorizationHeader, authorization)
	}
	request.Header.Set("Content-Type", format.ContentType(d.Spec.Format))
	request.Header.Set("User-Agent", s.userAgent)
	signed := sign.Request{ID: d.Spec.Event.ID, Time: now, Body: body}
	return request, s.signer.Sign(request.Header, r.Signatures, r.Keys, signed)
}
