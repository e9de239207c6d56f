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

// Package send makes one HTTP request to an endpoint and says how it ended.
package send

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/format"
	"github.com/postback-dev/postback-operator/dispatcher/header"
	"github.com/postback-dev/postback-operator/dispatcher/route"
	"github.com/postback-dev/postback-operator/dispatcher/sign"
	"github.com/postback-dev/postback-operator/dispatcher/trace"
)

const (
	// maxDrain is how much of a body is read so that its connection can be used again; a longer one is cut off.
	maxDrain = 64 << 10
	// maxStale is how many connections that turn out to be dead are replaced within one attempt.
	maxStale = 3
	// maxConnections is how many connections one attempt may use, those that net/http replaces by itself included: it
	// knows no bound where an endpoint of HTTP/2 ends each with GOAWAY.
	maxConnections      = 10
	idempotencyKey      = "Idempotency-Key"
	authorizationHeader = "Authorization"
	// minStatusCode and maxStatusCode bound what may stand in a status; net/http lets others through.
	minStatusCode = 100
	maxStatusCode = 999
)

// Options of a Sender. All are needed.
type Options struct {
	Signer *sign.Signer
	// UserAgent is the value of the header User-Agent.
	UserAgent string
	Clock     clock.PassiveClock
	// Egress says what may be reached.
	Egress *egress.Egress
}

// Sender sends requests. It is safe for concurrent use.
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
		transports: newTransports(o.Egress), tokens: newTokens(o.Clock),
	}
}

// Send posts a delivery to the endpoint of a route, signed anew, and returns the record of the attempt, without its
// number. The route's timeout covers everything from getting a token to the end of the answer. If ctx ends first, the
// outcome is Interrupted.
func (s *Sender) Send(ctx context.Context, r *route.Route, d *v1alpha1.PostbackDelivery) v1alpha1.Attempt {
	// The wall clock may jump, so the duration is measured apart from it, and from before it is read: on a busy machine
	// time passes between the two, and the request must not seem to come after the end.
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

// exchange sends the request and fills in how it ended. ctx is the attempt's, bounded the same with its deadline.
func (s *Sender) exchange(ctx, bounded context.Context, r *route.Route, d *v1alpha1.PostbackDelivery, attempt *v1alpha1.Attempt) {
	hidden := secretsOf(r)
	// An error may quote what the other side wrote.
	defer func() { attempt.Message = hidden.redact(attempt.Message, len(attempt.Message)) }()
	transport, err := s.transports.forRoute(r)
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
	request, err := s.request(httptrace.WithClientTrace(bounded, connection.hooks()), r, d, authorization, attempt.Time.Time)
	if err != nil {
		attempt.Outcome, attempt.Message = v1alpha1.OutcomeInvalidRequest, err.Error()
		return
	}
	hidden.addHeader(request.Header, authorizationHeader)
	hidden.addHeader(request.Header, s.signer.Headers()...)
	response, err := do(transport, request, &connection)
	attempt.RemoteIP = connection.remoteIP()
	if err != nil {
		if errors.Is(context.Cause(bounded), errAlwaysEnds) {
			err = errAlwaysEnds
		}
		attempt.Outcome, attempt.Message = classifyError(ctx, err)
		return
	}
	take(response, s.clock.Now(), hidden, attempt)
	if response.StatusCode == http.StatusUnauthorized {
		s.tokens.drop(bounded, r, authorization)
	}
}

// do sends a request, and once more on another connection each time that one turns out to be dead. net/http does so
// itself where it is sure that the endpoint has not begun to read; an endpoint that has will know the event by its id.
// There is no http.Client around the transport, for it would copy the header to follow redirects: that would turn a POST
// into a GET, or send the event where nobody declared it.
func do(transport *http.Transport, request *http.Request, connection *connectionTrace) (*http.Response, error) {
	for try := 0; ; try++ {
		response, err := transport.RoundTrip(request)
		if err == nil || try == maxStale || request.Context().Err() != nil || !connection.stale(err) {
			return response, err
		}
		body, bodyErr := request.GetBody()
		if bodyErr != nil {
			return nil, err
		}
		request = request.Clone(request.Context())
		request.Body = body
	}
}

func (s *Sender) request(ctx context.Context, r *route.Route, d *v1alpha1.PostbackDelivery, authorization string, now time.Time) (*http.Request, error) {
	body := []byte(d.Spec.Body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	trace.Inject(ctx, request.Header)
	for _, h := range r.Headers {
		// A route may be older than a rule of the API.
		if !header.Reserved(h.Name) {
			request.Header.Set(h.Name, h.Value)
		}
	}
	if request.Header.Get(idempotencyKey) == "" {
		// Not sent, for it has no value, but it tells net/http that this POST may be sent again on a new connection
		// when an idle one turns out to be closed. The event's id makes it so.
		request.Header[idempotencyKey] = nil
	}
	if authorization != "" {
		request.Header.Set(authorizationHeader, authorization)
	}
	request.Header.Set("Content-Type", format.ContentType(d.Spec.Format))
	request.Header.Set("User-Agent", s.userAgent)
	signed := sign.Request{ID: d.Spec.Event.ID, Time: now, Body: body}
	return request, s.signer.Sign(request.Header, r.Signatures, r.Keys, signed)
}

var errAlwaysEnds = errors.New("the endpoint ended every connection before it answered")

// connectionTrace knows what became of the connection of a request. net/http calls its hooks from several goroutines.
type connectionTrace struct {
	// stop ends the request.
	stop context.CancelCauseFunc

	mu       sync.Mutex
	remote   net.Addr
	reused   bool
	answered bool
	used     int
}

func (t *connectionTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.remote, t.reused, t.answered = info.Conn.RemoteAddr(), info.Reused, false
			if t.used++; t.used > maxConnections {
				t.stop(errAlwaysEnds)
			}
		},
		GotFirstResponseByte: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.answered = true
		},
	}
}

// remoteIP returns the address of the endpoint, or "" if it is not known.
func (t *connectionTrace) remoteIP() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.remote == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(t.remote.String())
	if err != nil {
		return "" // An egress proxy does not say which address it connected to.
	}
	return host
}

// stale reports whether a request failed because its connection was dead before, or was about to be ended: it had
// served others, and no byte of an answer came, or the endpoint said that it takes no further requests on it (GOAWAY).
func (t *connectionTrace) stale(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.answered && (isGoAway(err) || t.reused && (isReset(err) || isUnsolicited(err)))
}
