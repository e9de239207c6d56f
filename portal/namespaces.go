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
	"errors"
	"net/http"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/postback-dev/postback-operator/console"
	"github.com/postback-dev/postback-operator/internal/access"
)

// namespacesPath is the page on which a visitor of an issuer chooses the namespace.
const namespacesPath = "/namespaces"

func isNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) == 0 }

// firstNamespace returns the namespace to show after a sign-in, or "" if the visitor has to choose one. Only a right
// in the cluster counts: the claim of the token and the address are wishes.
func (d *door) firstNamespace(ctx context.Context, a attempt, token string) string {
	wanted := a.Namespace
	if offered := d.openid.Namespaces(token); wanted == "" && len(offered) == 1 {
		wanted = offered[0]
	}
	if wanted == "" {
		return ""
	}
	var forbidden *access.ForbiddenError
	if err := d.visits.review(ctx, session{Namespace: wanted, Token: token}); errors.As(err, &forbidden) {
		return ""
	}
	return wanted
}

// choose leads a visitor without a namespace to the page that offers them.
func (d *door) choose(w http.ResponseWriter, r *http.Request) {
	if console.Fragment(r) != "" {
		w.Header().Set("X-Go", namespacesPath)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, namespacesPath, http.StatusSeeOther)
}

// namespaces shows the namespaces that the visitor's token offers, and lets the visitor enter one.
func (d *door) namespaces(w http.ResponseWriter, r *http.Request, s session) {
	if r.Method != http.MethodPost {
		console.ChooseNamespace(w, http.StatusOK, console.Namespaces{Offered: d.offered(r.Context(), s), Current: s.Namespace})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxCode)
	if err := r.ParseForm(); err != nil {
		console.Refuse(w, http.StatusBadRequest, "The form could not be read.")
		return
	}
	chosen := r.PostForm.Get("namespace")
	status, why := d.enterable(r.Context(), s, chosen)
	if why != "" {
		console.ChooseNamespace(w, status, console.Namespaces{Offered: d.offered(r.Context(), s), Current: s.Namespace, Typed: chosen, Error: why})
		return
	}
	s.Namespace = chosen
	if err := d.keep(w, r, s); err != nil {
		console.Refuse(w, http.StatusInternalServerError, sentence(err))
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// enterable returns the reason why a visitor cannot enter a namespace, or "". The reason is the same whether the
// namespace exists or not.
func (d *door) enterable(ctx context.Context, s session, namespace string) (status int, why string) {
	if !isNamespace(namespace) {
		return http.StatusUnprocessableEntity, "A namespace has at most 63 lower-case letters, digits and hyphens. Copy it from your platform."
	}
	var forbidden *access.ForbiddenError
	err := d.visits.review(ctx, session{Namespace: namespace, Token: s.Token})
	switch {
	case err == nil:
		return http.StatusOK, ""
	case errors.As(err, &forbidden):
		return http.StatusForbidden, forbidden.User + " may not see the Postbacks of " + namespace + ". Check the name, or ask your platform for the right to list them."
	case errors.Is(err, access.ErrUnavailable):
		return http.StatusServiceUnavailable, "The API server does not answer. Try again in a moment."
	}
	return http.StatusUnauthorized, "The cluster does not accept this sign-in any more. Sign out, and sign in again."
}

// offered returns the namespaces of the token's claim in which the visitor may list Postbacks.
func (d *door) offered(ctx context.Context, s session) []string {
	var may []string
	for _, namespace := range d.openid.Namespaces(s.Token) {
		if d.visits.review(ctx, session{Namespace: namespace, Token: s.Token}) == nil {
			may = append(may, namespace)
		}
	}
	return may
}
