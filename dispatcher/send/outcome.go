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
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
)

// classifyResponse returns the outcome of a response, and the reason of a failure.
func classifyResponse(response *http.Response) (v1alpha1.Outcome, string) {
	code := response.StatusCode
	if code >= 200 && code < 300 {
		return v1alpha1.OutcomeSucceeded, ""
	}
	answered := fmt.Sprintf("the endpoint answered %d %s", code, http.StatusText(code))
	switch {
	case code < minStatusCode || code > maxStatusCode:
		return v1alpha1.OutcomeInvalidResponse, fmt.Sprintf("the endpoint answered with %q, which is no HTTP status", response.Status)
	case code >= 300 && code < 400:
		return v1alpha1.OutcomeRedirected, answered + ": redirects are not followed" + redirectTarget(response, "spec.url")
	case code == http.StatusGone:
		return v1alpha1.OutcomeGone, answered + ": it accepts no more events"
	case code >= 400 && code < 500:
		return v1alpha1.OutcomeRejected4xx, answered
	case code >= 500 && code < 600:
		return v1alpha1.OutcomeFailed5xx, answered
	default:
		return v1alpha1.OutcomeUnexpectedStatus, answered
	}
}

// redirectTarget names only the host of a Location, the rest of which may contain a token. field is the field to
// change.
func redirectTarget(response *http.Response, field string) string {
	location, err := response.Location()
	if err != nil || location.Host == "" {
		return ""
	}
	return "; if the endpoint has moved to " + location.Host + ", change " + field
}

// classifyError returns the outcome and reason of an attempt without a response. ctx is the context of the attempt,
// without its deadline.
func classifyError(ctx context.Context, err error) (v1alpha1.Outcome, string) {
	err = withoutURL(err)
	outcome := outcomeOf(ctx, err)
	var upstream *egress.UpstreamError
	var dns *net.DNSError
	switch {
	case outcome == v1alpha1.OutcomeInterrupted:
		return outcome, "the dispatcher had to stop during the attempt; the endpoint may have received it"
	case outcome == v1alpha1.OutcomeTimeout && !errors.As(err, &upstream):
		return outcome, "no answer within spec.timeout"
	case outcome == v1alpha1.OutcomeNameNotResolved && errors.As(err, &dns):
		// The error of package net would name the cluster's DNS server.
		return outcome, fmt.Sprintf("the host %s was not resolved: %s", dns.Name, dns.Err)
	case outcome == v1alpha1.OutcomeInvalidResponse && isUnsolicited(err):
		return outcome, "the endpoint answered before the request"
	case outcome == v1alpha1.OutcomeConnectionReset && isUnprocessed(err):
		return outcome, "the endpoint refused the request on this connection of HTTP/2 (GOAWAY or REFUSED_STREAM)"
	case outcome == v1alpha1.OutcomeTLSFailed:
		return outcome, tlsMessage(err)
	default:
		return outcome, err.Error()
	}
}

func outcomeOf(ctx context.Context, err error) v1alpha1.Outcome {
	var dns *net.DNSError
	var timeout net.Error
	var blocked *egress.BlockedError
	var proxy *egress.ProxyError
	switch {
	case ctx.Err() != nil:
		return v1alpha1.OutcomeInterrupted
	case errors.As(err, &blocked):
		return v1alpha1.OutcomeAddressBlocked
	case errors.As(err, &proxy):
		return v1alpha1.OutcomeProxyFailed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return v1alpha1.OutcomeTimeout
	case errors.As(err, &dns):
		return v1alpha1.OutcomeNameNotResolved
	case strings.Contains(err.Error(), "net/http: invalid header field"), strings.Contains(err.Error(), "net/http: invalid trailer"):
		return v1alpha1.OutcomeInvalidRequest
	case isTLS(err):
		return v1alpha1.OutcomeTLSFailed
	case errors.As(err, &timeout) && timeout.Timeout():
		return v1alpha1.OutcomeTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return v1alpha1.OutcomeConnectionRefused
	case isEnded(err), isUnprocessed(err), isStreamError(err), errors.Is(err, errCutOff), errors.Is(err, errAlwaysEnds):
		return v1alpha1.OutcomeConnectionReset
	case isMalformed(err), isUnsolicited(err):
		return v1alpha1.OutcomeInvalidResponse
	default:
		return v1alpha1.OutcomeConnectionFailed
	}
}

var errCutOff = errors.New("the endpoint ended the connection within the header of its answer")

// isEnded reports whether the endpoint ended the connection. Some errors of net/http have no exported type.
func isEnded(err error) bool {
	text := err.Error()
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(text, "server closed idle connection") ||
		strings.Contains(text, "http2: client connection lost") ||
		strings.Contains(text, "http2: server sent GOAWAY and closed the connection")
}

// isUnprocessed reports whether an HTTP/2 endpoint states that it has not processed a request (RFC 9113, sections 6.8
// and 8.7).
func isUnprocessed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "GOAWAY") && strings.Contains(text, "http2: Transport received") || strings.Contains(text, "REFUSED_STREAM")
}

// isStreamError reports whether an HTTP/2 endpoint ended only this request.
func isStreamError(err error) bool {
	text := err.Error()
	return strings.Contains(text, "stream error: ") && strings.Contains(text, "received from peer")
}

// isUnsolicited reports whether the endpoint wrote to the connection before a request was sent.
func isUnsolicited(err error) bool { return strings.Contains(err.Error(), "readLoopPeekFailLocked") }

// isMalformed recognises a malformed response by the texts of net/http's errors, which have no type.
func isMalformed(err error) bool {
	text := err.Error()
	for _, part := range []string{"malformed", "response headers exceeded", "Content-Length", "invalid ", "unsupported transfer encoding", "too many"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// withoutURL removes the URL, whose query may contain a token, from an error of net/http.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
