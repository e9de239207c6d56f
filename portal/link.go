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

package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/access"
	"github.com/postback-dev/postback-operator/internal/portallink"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

const (
	// Resource names the right of a backend: to create it in the partner's namespace, with the role as the object's
	// name. The resource does not exist in the API.
	Resource   = "postbackportallinks"
	maxRequest = 4 << 10
)

// refusal is the error that answers a refused request.
type refusal portallink.Refusal

// Error implements error.
func (e *refusal) Error() string { return e.Detail }

func refused(status int, format string, args ...any) *refusal {
	return &refusal{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// link answers a backend's request for a link.
func (d *door) link(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	code, until, err := d.makeLink(ctx, w, r)
	if err != nil {
		var why *refusal
		if !errors.As(err, &why) {
			d.log.Error(err, "Cannot make a link")
			why = refused(http.StatusServiceUnavailable, "The Kubernetes API server does not answer. Try again.")
		}
		if why.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="postback-portal"`)
		}
		writeJSON(w, why.Status, "application/problem+json", why)
		return
	}
	// The fragment of a URL reaches no server, log or referrer.
	writeJSON(w, http.StatusCreated, "application/json", portallink.Link{
		URL: d.origin.Scheme + "://" + d.origin.Host + signInPath + "#" + code, Expires: until.UTC().Truncate(time.Second),
	})
}

func writeJSON(w http.ResponseWriter, status int, kind string, value any) {
	content, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(append(content, '\n'))
}

func (d *door) makeLink(ctx context.Context, w http.ResponseWriter, r *http.Request) (code string, until time.Time, err error) {
	namespace, found := portallink.Namespace(r.URL.Path)
	switch {
	case !found:
		return "", until, refused(http.StatusNotFound, "The path is %s.", portallink.Path("NAMESPACE"))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return "", until, refused(http.StatusMethodNotAllowed, "Request a link with POST.")
	}
	token, ok := access.BearerToken(r.Header)
	if !ok {
		return "", until, refused(http.StatusUnauthorized, "The header Authorization must hold one bearer token.")
	}
	if wait, ok := d.senders.Acquire("address "+d.address(r), 1, 0); !ok {
		refusedTotal.WithLabelValues(boundLinkRate).Inc()
		w.Header().Set("Retry-After", retryAfter(wait))
		return "", until, refused(http.StatusTooManyRequests, "Too many links are requested from this address.")
	}
	g, err := readGrant(http.MaxBytesReader(w, r.Body, maxRequest), namespace)
	if err != nil {
		return "", until, err
	}
	user, err := d.access.Allow(ctx, token, rbacreview.Right{
		Verb: "create", Group: v1alpha1.GroupVersion.Group, Resource: Resource, Namespace: namespace, Name: g.Role,
	})
	if err != nil {
		return "", until, denied(err)
	}
	if wait, ok := d.senders.Acquire("user "+user, 1, 0); !ok {
		refusedTotal.WithLabelValues(boundLinkRate).Inc()
		w.Header().Set("Retry-After", retryAfter(wait))
		return "", until, refused(http.StatusTooManyRequests, "%s requests too many links.", user)
	}
	_, err = d.links.api.CoreV1().ServiceAccounts(namespace).Get(ctx, ServiceAccount(g.Role), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", until, refused(http.StatusUnprocessableEntity, "The namespace %s has no ServiceAccount %s: create it, and bind it to the ClusterRole of the same name.", namespace, ServiceAccount(g.Role))
	} else if err != nil {
		return "", until, fmt.Errorf("get the ServiceAccount: %w", err)
	}
	if code, err = d.links.create(ctx, g); err != nil {
		return "", until, err
	}
	d.log.Info("Link made", "user", user, "namespace", namespace, "role", g.Role)
	return code, d.clock.Now().Add(linkLife), nil
}

// readGrant reads the grant in the body of a request.
func readGrant(body interface{ Read([]byte) (int, error) }, namespace string) (grant, error) {
	asked := portallink.Request{TTL: portallink.DefaultTTL.String()}
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return grant{}, refused(http.StatusBadRequest, "The body is no JSON object with role and ttl: %v.", err)
	}
	ttl, err := asked.Length()
	if err != nil {
		return grant{}, refused(http.StatusUnprocessableEntity, "%s.", err)
	}
	return grant{Namespace: namespace, Role: asked.Role, TTL: ttl}, nil
}

// denied turns an error of access.Reviewer into a refusal.
func denied(err error) error {
	var unauthenticated *access.UnauthenticatedError
	var forbidden *access.ForbiddenError
	switch {
	case errors.As(err, &unauthenticated):
		return refused(http.StatusUnauthorized, "%s", unauthenticated.Detail)
	case errors.As(err, &forbidden):
		return refused(http.StatusForbidden, "%s.", forbidden.Error())
	}
	return err
}
