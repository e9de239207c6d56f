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

package controllers

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// maxHeaderValue bounds the value of a header, wherever it comes from.
const maxHeaderValue = 4096

// What the parts of a URL's host are at most: a domain name, by RFC 1035, and a port.
const (
	maxHost = 253
	maxPort = len("65535")
)

// Policy is what the installation allows beyond what the API's own rules can say.
type Policy struct {
	// AllowPlainHTTP allows URLs that begin with http://.
	AllowPlainHTTP bool
	// SignatureHeader is the header of the signature scheme Dub, which no Postback may set itself.
	SignatureHeader string
}

// checkSpec takes the route away if the spec breaks the policy, or the part of the API's own rules that is repeated here
// because a broken one could do harm: an object may have been stored before the rules. The rules have it alone that
// names of headers which HTTP or the operator sets are reserved; only the signature's is known here, for it can be chosen.
func (r *PostbackReconciler) checkSpec(ctx context.Context, s *postbackScope) error {
	v := r.Policy.check(&s.postback.Spec)
	if v == nil {
		return nil
	}
	if err := r.removeRoute(ctx, s.postback); err != nil {
		return err
	}
	s.verdict, s.routeRemoved = v, true
	return nil
}

// check returns a verdict if the spec must not be routed. It repeats no part of the URL, which may hold a token.
func (p Policy) check(spec *v1alpha1.PostbackSpec) *verdict {
	if v := p.checkURL(spec.URL); v != nil {
		return v
	}
	for i := range spec.Headers {
		if v := p.checkHeader(&spec.Headers[i]); v != nil {
			return v
		}
	}
	return nil
}

func (p Policy) checkURL(raw string) *verdict {
	u, err := url.Parse(raw)
	if err != nil || !validHost(u.Hostname()) || u.Scheme != "https" && u.Scheme != "http" || !validPort(u.Port()) {
		return stalled(v1alpha1.InvalidURLReason, "spec.url is not an absolute https URL with a host of at most 253 characters, such as https://example.com/hooks: correct it.")
	}
	if u.User != nil {
		return stalled(v1alpha1.InvalidURLReason, "spec.url must not hold a user name or password: use a header with valueFrom.secretKeyRef instead.")
	}
	if u.Scheme == "http" && !p.AllowPlainHTTP {
		return stalled(v1alpha1.PlainHTTPNotAllowedReason, "spec.url must begin with https://: "+
			"this installation does not allow plain http (the manager's flag --allow-plain-http).")
	}
	return nil
}

// validHost keeps out what can be no host, and could not be shown in the status.
func validHost(host string) bool {
	return host != "" && len(host) <= maxHost && utf8.ValidString(host)
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	if len(port) > maxPort {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

func (p Policy) checkHeader(header *v1alpha1.Header) *verdict {
	switch {
	case !httpguts.ValidHeaderFieldName(header.Name):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("%q in spec.headers is not an HTTP header name: correct it.", header.Name))
	case strings.EqualFold(header.Name, p.SignatureHeader):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The header %q in spec.headers carries the signature in this installation: choose another name.", header.Name))
	case header.Value == nil && (header.ValueFrom == nil || header.ValueFrom.SecretKeyRef == nil):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The header %q in spec.headers has no value: set value or valueFrom.", header.Name))
	case header.Value != nil && headerValueMistake(*header.Value) != "":
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The value of the header %q in spec.headers %s.", header.Name, headerValueMistake(*header.Value)))
	}
	return nil
}

// headerValueMistake says what is wrong with the value of a header, without showing it, or "".
func headerValueMistake(value string) string {
	switch {
	case strings.ContainsAny(value, "\r\n"):
		return "contains a line break: remove it (printf instead of echo)"
	case !httpguts.ValidHeaderFieldValue(value):
		return "contains a control character: remove it"
	case len(value) > maxHeaderValue:
		return fmt.Sprintf("is longer than %d bytes: shorten it", maxHeaderValue)
	}
	return ""
}

// endpointHost returns the host, and port if one is given, of a URL.
func endpointHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
