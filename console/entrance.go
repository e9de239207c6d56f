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

package console

import "net/http"

// Headers between the portal and the scripts of its pages.
const (
	// NamespaceHeader has the namespace that a page shows.
	NamespaceHeader = "X-Namespace"
	// sessionHeader says that a request needs another session: a renewed one, or a new one.
	sessionHeader = "X-Session"
	sessionRenew  = "renew"
	sessionEnded  = "ended"
)

// Entrance has the ways to sign in to a portal that a page offers.
type Entrance struct {
	// Issuer is the host of the OpenID Connect issuer, or "" if visitors come by links only.
	Issuer string
	// Path starts a sign-in that leads back to the page. TabPath starts one in another tab.
	Path, TabPath string
}

// Namespaces is the content of the page on which a visitor chooses a namespace.
type Namespaces struct {
	// Offered are the namespaces that the visitor's account names. Current is the present one, or "".
	Offered []string
	Current string
	// Typed is the name that the visitor typed, and Error the reason why it is refused.
	Typed, Error string
}

// Fragment returns the part of a page that a script requests, or "" for the whole page.
func Fragment(r *http.Request) string { return fragment(r) }

// SignIn writes the page that exchanges a link's code for a session, or starts a sign-in at the issuer.
func SignIn(w http.ResponseWriter, e Entrance) { write(w, http.StatusOK, "signin", e) }

// SignedIn writes the page at the end of a sign-in. It leads to another page, unless to is "". A redirect would still
// be a request of the issuer's site, to which browsers do not add the session.
func SignedIn(w http.ResponseWriter, to string) { write(w, http.StatusOK, "signedin", to) }

// Ended refuses a request that needs another session, with the ways to sign in. A script gets a note for its page.
func Ended(w http.ResponseWriter, r *http.Request, status int, why string, e Entrance) {
	w.Header().Set(sessionHeader, sessionEnded)
	name := "ended"
	if fragment(r) != "" {
		name = "ended-note"
	}
	write(w, status, name, map[string]any{"Why": why, "Entrance": e})
}

// Renew refuses a request whose session has to be renewed first. The page's script renews it.
func Renew(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(sessionHeader, sessionRenew)
	name := "renew"
	if fragment(r) != "" {
		name = "renew-note"
	}
	write(w, http.StatusUnauthorized, name, nil)
}

// SignedOut writes the page at the end of a session. address ends the visitor's session at the issuer, whose host is
// issuer, or is "".
func SignedOut(w http.ResponseWriter, address, issuer string) {
	write(w, http.StatusOK, "signedout", map[string]string{"Address": address, "Issuer": issuer})
}

// ChooseNamespace writes the page on which a visitor chooses a namespace.
func ChooseNamespace(w http.ResponseWriter, status int, n Namespaces) {
	write(w, status, "namespaces", n)
}
