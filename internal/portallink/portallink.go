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

// Package portallink is the contract between the portal and the backends that request links to it: one HTTP call.
package portallink

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// Name is the name of the portal's Namespace, Service, ConfigMap and label in config/portal.
	Name = "postback-portal"
	// URLKey is the key of the portal's address in its ConfigMap.
	URLKey = "url"
	// PortName is the name of the port for browsers and backends.
	PortName = "https"
	// PlainPortName is the name of that port if the portal runs without TLS.
	PlainPortName = "http"

	// MinTTL is the shortest lifetime that the API server accepts for a token.
	MinTTL = 10 * time.Minute
	// MaxTTL bounds a session to a day's work.
	MaxTTL = 12 * time.Hour
	// DefaultTTL is the length of a session for clients that let users omit it.
	DefaultTTL = 8 * time.Hour

	// Prefix begins the path of each request for a link.
	Prefix = "/v1/namespaces/"
	suffix = "/portal-links"
)

// Roles are the roles that a link gives. Each stands for a ServiceAccount in the partner's namespace.
var Roles = []string{"viewer", "editor", "key-reader"}

// Path returns the path to request a link for a namespace.
func Path(namespace string) string { return Prefix + namespace + suffix }

// Namespace returns the namespace in the path of a request for a link, or false for an invalid path.
func Namespace(path string) (string, bool) {
	namespace, found := strings.CutSuffix(strings.TrimPrefix(path, Prefix), suffix)
	return namespace, found && len(validation.IsDNS1123Label(namespace)) == 0
}

// Request is the body of a request.
type Request struct {
	Role string `json:"role"`
	// TTL is the length of the session, as a Go duration.
	TTL string `json:"ttl"`
}

// Length returns the length of the session, or an error if no link fits the request.
func (r Request) Length() (time.Duration, error) {
	if !slices.Contains(Roles, r.Role) {
		return 0, fmt.Errorf("role is %q, and must be one of %s", r.Role, strings.Join(Roles, ", "))
	}
	ttl, err := time.ParseDuration(r.TTL)
	if err != nil || ttl < MinTTL || ttl > MaxTTL {
		return 0, fmt.Errorf("ttl is %q, and must be a duration from 10m to 12h, such as 8h", r.TTL)
	}
	return ttl, nil
}

// Link is the answer to a request.
type Link struct {
	// URL holds the code of the link in its fragment, which reaches no server, log or referrer.
	URL string `json:"url"`
	// Expires is the time from which the link no longer opens.
	Expires time.Time `json:"expires"`
}

// Refusal is the answer to a refused request, as application/problem+json (RFC 9457).
type Refusal struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}
