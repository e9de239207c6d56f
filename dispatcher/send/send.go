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
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/route"
	"github.com/postback-dev/postback-operator/dispatcher/sign"
)

const (
	// maxDrain is how much of a body is read so that its connection can be used again; a longer one is cut off.
	maxDrain = 64 << 10
	// maxResponseHeader bounds the header of an answer.
	maxResponseHeader = 64 << 10
	maxIdleConns      = 512
	idempotencyKey    = "Idempotency-Key"
	maxIdlePerHost    = 32
	idleTimeout       = 90 * time.Second
	// minStatusCode and maxStatusCode bound what may stand in a status; net/http lets others through.
	minStatusCode = 100
	maxStatusCode = 999
)

// Sender sends requests. It is safe for concurrent use.
type Sender struct {
	client    *http.Client
	signer    *sign.Signer
	userAgent string
	clock     clock.PassiveClock
}

// New returns a Sender. userAgent is the value of the header User-Agent.
func New(signer *sign.Signer, userAgent string, c clock.PassiveClock) *Sender {
	dialer := &net.Dialer{KeepAlive: 30 * time.Second}
	return &Sender{
		signer:    signer,
		userAgent: userAgent,
		clock:     c,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:            dialer.DialContext,
				ForceAttemptHTTP2:      true,
				MaxIdleConns:           maxIdleConns,
				MaxIdleConnsPerHost:    maxIdlePerHost,
				IdleConnTimeout:        idleTimeout,
				MaxResponseHeaderBytes: maxResponseHeader,
				// An endpoint is not asked for compressed answers, so there is nothing to blow up.
				DisableCompression: true,
				TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12},
			},
			// A redirect would turn a POST into a GET, or send the event where nobody declared it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Send posts a body to the endpoint of a route, signed anew, and returns the record of the attempt, without its number.
// The route's timeout covers everything from the dial to the end of the answer. If ctx ends first, the outcome is
// Interrupted.
func (s *Sender) Send(ctx context.Context, r *route.Route, eventID string, body []byte) v1alpha1.Attempt {
	// The wall clock may jump, so the duration is measured apart from it.
	start, began := s.clock.Now(), time.Now()
	attempt := v1alpha1.Attempt{Time: metav1.NewMicroTime(start.UTC().Truncate(time.Microsecond))}

	bounded, cancel := context.WithTimeout(ctx, r.Timeout.Duration)
	defer cancel()
	bounded = httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if host, _, err := net.SplitHostPort(info.Conn.RemoteAddr().String()); err == nil {
				attempt.RemoteIP = host
			}
		},
	})
	request, err := s.request(bounded, r, eventID, start, body)
	if err != nil {
		attempt.Outcome, attempt.Message = v1alpha1.OutcomeInvalidRequest, tidy(err.Error())
		return attempt
	}
	response, err := s.client.Do(request)
	if err != nil {
		attempt.Outcome, attempt.Message = classifyError(ctx, err)
	} else {
		take(response, &attempt)
		if attempt.Outcome != v1alpha1.OutcomeSucceeded {
			attempt.RetryAfterTime = retryAfter(response.Header, s.clock.Now())
		}
	}
	attempt.Message = tidy(attempt.Message)
	attempt.Duration = metav1.Duration{Duration: time.Since(began).Round(time.Microsecond)}
	return attempt
}

func (s *Sender) request(ctx context.Context, r *route.Route, eventID string, now time.Time, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	for _, h := range r.Headers {
		request.Header.Set(h.Name, h.Value)
	}
	if request.Header.Get(idempotencyKey) == "" {
		// Not sent, for it has no value, but it tells net/http that this POST may be sent again on a new connection
		// when an idle one turns out to be closed. The event's id makes it so.
		request.Header[idempotencyKey] = nil
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", s.userAgent)
	signed := sign.Request{ID: eventID, Time: now, Body: body}
	return request, s.signer.Sign(request.Header, r.Signatures, r.Keys, signed)
}

// take reads an answer. Its status decides: what follows it is only for the log.
func take(response *http.Response, attempt *v1alpha1.Attempt) {
	defer response.Body.Close()
	if code := response.StatusCode; code >= minStatusCode && code <= maxStatusCode {
		attempt.StatusCode = ptr.To(int32(code))
	}
	attempt.Outcome, attempt.Message = classifyResponse(response)
	excerpt, err := io.ReadAll(io.LimitReader(response.Body, v1alpha1.MaxResponseBody))
	attempt.ResponseBody = validUTF8(excerpt, v1alpha1.MaxResponseBody)
	if err != nil {
		return
	}
	// An answer that goes on beyond this, or fails, has its connection closed instead of reused.
	_, _ = io.CopyN(io.Discard, response.Body, maxDrain)
}

// validUTF8 returns at most limit bytes of b as a valid string. A character that is cut in two at the end is left out;
// bytes that are no UTF-8 are replaced.
func validUTF8(b []byte, limit int) string {
	s := strings.ToValidUTF8(string(b), "\uFFFD")
	// NUL is valid UTF-8, but unwelcome in terminals and in some clients.
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// tidy makes a message one line of bounded length.
func tidy(message string) string {
	message = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, message)
	return validUTF8([]byte(message), v1alpha1.MaxMessage)
}
