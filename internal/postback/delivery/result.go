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

package delivery

import (
	"fmt"
	"net/http"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// Cause returns the reason of the condition EndpointHealthy for a failed attempt. code is the HTTP status code, or 0.
func Cause(outcome v1alpha1.Outcome, code int32, retryAfter bool) string {
	if retryAfter || code == http.StatusTooManyRequests {
		return v1alpha1.ThrottledReason
	}
	return string(outcome)
}

// Result describes the result of a failed attempt briefly. code is the HTTP status code, or 0.
func Result(outcome v1alpha1.Outcome, code int32) string {
	if code != 0 {
		return fmt.Sprintf("HTTP %d", code)
	}
	if words, ok := outcomeWords[outcome]; ok {
		return words
	}
	return string(outcome)
}

var outcomeWords = map[v1alpha1.Outcome]string{
	v1alpha1.OutcomeTimeout:              "timeout",
	v1alpha1.OutcomeConnectionRefused:    "connection refused",
	v1alpha1.OutcomeConnectionReset:      "connection reset",
	v1alpha1.OutcomeConnectionFailed:     "no connection",
	v1alpha1.OutcomeNameNotResolved:      "host name not resolved",
	v1alpha1.OutcomeAddressBlocked:       "address blocked by the egress policy",
	v1alpha1.OutcomeTLSFailed:            "TLS failed",
	v1alpha1.OutcomeProxyFailed:          "egress proxy failed",
	v1alpha1.OutcomeAuthenticationFailed: "no token from the authorization server",
	v1alpha1.OutcomeInvalidResponse:      "response that is not HTTP",
	v1alpha1.OutcomeInvalidRequest:       "request could not be made",
}
