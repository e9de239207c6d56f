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
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/filter"
	"github.com/postback-dev/postback-operator/dispatcher/header"
)

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
// because a broken one could do harm: an object may have been stored before the rules.
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

// checkFilter sees to it that a filter compiles. If it does not, the last good route stays in force, with the filter of
// before: what the new one was meant to let through or to hold back nobody can know, and without a route every event
// that is posted meanwhile would be lost.
func (r *PostbackReconciler) checkFilter(_ context.Context, s *postbackScope) error {
	if s.postback.Spec.Filter == "" {
		return nil
	}
	_, err := r.filters.Get(s.postback.Spec.Filter)
	if mistake := (*filter.CompileError)(nil); errors.As(err, &mistake) {
		s.verdict = stalled(v1alpha1.InvalidFilterReason, fmt.Sprintf("spec.filter is not a valid filter: %s. Correct it.", mistake))
		return nil
	}
	return err
}

// check returns a verdict if the spec must not be routed. It repeats no part of the URL, which may hold a token.
func (p Policy) check(spec *v1alpha1.PostbackSpec) *verdict {
	if v := p.checkURL("spec.url", v1alpha1.InvalidURLReason, spec.URL); v != nil {
		return v
	}
	for i := range spec.Headers {
		if v := p.checkHeader(&spec.Headers[i]); v != nil {
			return v
		}
	}
	return p.checkAuth(spec)
}

// checkURL checks the URL of a field. It repeats no part of it.
func (p Policy) checkURL(field, reason, raw string) *verdict {
	u, err := url.Parse(raw)
	if err != nil || !validHost(u.Hostname()) || u.Scheme != "https" && u.Scheme != "http" || !validPort(u.Port()) {
		return stalled(reason, field+" is not an absolute https URL with a host of at most 253 characters, such as https://example.com/hooks: correct it.")
	}
	if u.User != nil {
		return stalled(reason, field+" must not hold a user name or password: keep them in a Secret, and name it in spec.auth.")
	}
	if u.Scheme == "http" && !p.AllowPlainHTTP {
		return stalled(v1alpha1.PlainHTTPNotAllowedReason, field+" must begin with https://: "+
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

func (p Policy) checkHeader(h *v1alpha1.Header) *verdict {
	switch {
	case !header.ValidName(h.Name):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("%q in spec.headers is not an HTTP header name: correct it.", h.Name))
	case header.Reserved(h.Name):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The header %q in spec.headers is set by HTTP, the operator or a proxy: choose another name.", h.Name))
	case strings.EqualFold(h.Name, p.SignatureHeader):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The header %q in spec.headers carries the signature in this installation: choose another name.", h.Name))
	case h.Value == nil && (h.ValueFrom == nil || h.ValueFrom.SecretKeyRef == nil):
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The header %q in spec.headers has no value: set value or valueFrom.", h.Name))
	case h.Value != nil && header.ValueMistake(*h.Value) != "":
		return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The value of the header %q in spec.headers %s.", h.Name, header.ValueMistake(*h.Value)))
	}
	return nil
}

// endpointHost returns the host, and port if one is given, of a URL.
func endpointHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
