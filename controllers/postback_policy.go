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
	"net/url"
	"strings"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/internal/postback/header"
)

// Policy holds the installation's rules that the CRD's validation cannot express.
type Policy struct {
	// AllowPlainHTTP allows URLs that begin with http://.
	AllowPlainHTTP bool
	// SignatureHeader is the header of the signature scheme Dub, which no Postback may set itself.
	SignatureHeader string
}

// checkSpec removes the route if the spec breaks the policy or a validation rule. An object may be older than a rule.
func (r *PostbackReconciler) checkSpec(ctx context.Context, s *postbackScope) error {
	v := r.Policy.check(&s.postback.Spec)
	if v == nil {
		return nil
	}
	if err := r.removeRoute(ctx, s.postback); err != nil {
		return err
	}
	s.readiness, s.published.removed = v, true
	return nil
}

// checkFilter compiles the filter. After a failure the last good route stays in force with the earlier filter: without a route,
// every event that arrives meanwhile would be lost.
func (r *PostbackReconciler) checkFilter(_ context.Context, s *postbackScope) error {
	if s.postback.Spec.Filter == "" {
		return nil
	}
	_, err := r.filters.Get(s.postback.Spec.Filter)
	if mistake := (*filter.CompileError)(nil); errors.As(err, &mistake) {
		s.readiness = invalidFilter(mistake)
		return nil
	}
	return err
}

// check returns nil if the spec may be routed, or the readiness of the first mistake.
func (p Policy) check(spec *v1alpha1.PostbackSpec) *readiness {
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

// checkURL returns nil if a field's URL may be used, or the readiness of its mistake.
func (p Policy) checkURL(field, reason, raw string) *readiness {
	if mistake := endpoint.Mistake(raw); mistake != "" {
		return invalidField(reason, field, mistake)
	}
	if strings.EqualFold(raw[:strings.IndexByte(raw, ':')], "http") && !p.AllowPlainHTTP {
		return plainHTTPNotAllowed(field)
	}
	return nil
}

func (p Policy) checkHeader(h *v1alpha1.Header) *readiness {
	switch {
	case !header.ValidName(h.Name):
		return invalidHeader("%q in spec.headers is not an HTTP header name: correct it.", h.Name)
	case header.Reserved(h.Name):
		return invalidHeader("The header %q in spec.headers is set by HTTP, the operator or a proxy: choose another name.", h.Name)
	case strings.EqualFold(h.Name, p.SignatureHeader):
		return invalidHeader("The header %q in spec.headers carries the signature in this installation: choose another name.", h.Name)
	case h.Value == nil && (h.ValueFrom == nil || h.ValueFrom.SecretKeyRef == nil):
		return invalidHeader("The header %q in spec.headers has no value: set value or valueFrom.", h.Name)
	case h.Value != nil && header.ValueMistake(*h.Value) != "":
		return invalidHeaderValue(h.Name, header.ValueMistake(*h.Value))
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
