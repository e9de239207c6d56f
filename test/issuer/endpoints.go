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

package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

func (i *Issuer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("/authorize", i.authorize)
	mux.HandleFunc("POST /token", i.exchange)
	mux.HandleFunc("POST /revoke", i.revoke)
	mux.HandleFunc("GET /logout", i.logout)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.set.Down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"revocation_endpoint": i.URL + "/revoke", "end_session_endpoint": i.URL + "/logout",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic", "none"},
		"authorization_response_iss_parameter_supported": true,
	})
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.public}})
}

var login = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><title>Issuer</title><h1>Issuer</h1>
<form method="post">{{range .}}<button id="{{.}}" name="user" value="{{.}}">Sign in as {{.}}</button>{{end}}</form></html>`))

// authorize shows the page that signs in, and leads back with a code.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	i.mu.Lock()
	defer i.mu.Unlock()
	client, known := i.clients[q.Get("client_id")]
	redirect := q.Get("redirect_uri")
	// The issuer leads to no address that the client has not registered.
	if !known || !slices.Contains(client.Redirects, redirect) {
		http.Error(w, "unknown client or redirect_uri", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}, "iss": {i.URL}}
	challenge, err := base64.RawURLEncoding.DecodeString(q.Get("code_challenge"))
	switch {
	case q.Get("response_type") != "code", !slices.Contains(strings.Fields(q.Get("scope")), "openid"), q.Get("state") == "", q.Get("nonce") == "",
		q.Get("code_challenge_method") != "S256", err != nil, len(challenge) != sha256.Size:
		back.Set("error", "invalid_request")
	case r.Method == http.MethodGet:
		names := make([]string, 0, len(i.users))
		for name := range i.users {
			names = append(names, name)
		}
		slices.Sort(names)
		_ = login.Execute(w, names)
		return
	default:
		user, known := i.users[r.PostFormValue("user")]
		if !known {
			back.Set("error", "access_denied")
			back.Set("error_description", "<b>nobody</b>")
			break
		}
		code := rand.Text()
		i.codes[code] = &grant{
			client: client, user: user, nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), scopes: q.Get("scope"), redirect: redirect,
			until: i.set.Now().Add(codeLife), family: rand.Text(),
		}
		back.Set("code", code)
	}
	if i.set.Answer != nil {
		i.set.Answer(back)
	}
	http.Redirect(w, r, redirect+"?"+back.Encode(), http.StatusFound) //nolint:gosec // The client has registered it.
}

// authenticated returns the client of a request to the token endpoint, which has to authenticate in its own way only.
func (i *Issuer) authenticated(r *http.Request) (Client, bool) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id = r.PostFormValue("client_id")
	}
	client, known := i.clients[id]
	if !known || basic != (client.Secret != "") || secret != client.Secret || r.PostForm.Has("client_secret") {
		return Client{}, false
	}
	return client, true
}

func (i *Issuer) refuse(w http.ResponseWriter, status int, code string) {
	i.counts.Refused++
	writeJSON(w, status, map[string]string{"error": code, "error_description": "the request was " + code})
}

// exchange returns tokens for a code or a refresh token.
func (i *Issuer) exchange(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	client, ok := i.authenticated(r)
	if !ok {
		i.refuse(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	var g *grant
	var nonce string
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		i.counts.Codes++
		g = i.byCode(client, r.PostForm)
		if g != nil {
			nonce = g.nonce
		}
	case "refresh_token":
		i.counts.Renewals++
		g = i.byRefresh(client, r.PostForm)
	default:
		i.refuse(w, http.StatusBadRequest, "unsupported_grant_type")
		return
	}
	if g == nil {
		i.refuse(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	i.issue(w, g, nonce)
}

// byCode returns the grant of a code, once. A second use revokes what the first one got.
func (i *Issuer) byCode(client Client, form url.Values) *grant {
	g := i.codes[form.Get("code")]
	if g == nil {
		return nil
	}
	if g.used {
		delete(i.families, g.family)
		return nil
	}
	g.used = true
	digest := sha256.Sum256([]byte(form.Get("code_verifier")))
	if g.client.ID != client.ID || g.redirect != form.Get("redirect_uri") || i.set.Now().After(g.until) ||
		base64.RawURLEncoding.EncodeToString(digest[:]) != g.challenge {
		return nil
	}
	return g
}

// byRefresh returns the grant of a refresh token. An old refresh token ends its family, because somebody else has it.
func (i *Issuer) byRefresh(client Client, form url.Values) *grant {
	family, _, _ := strings.Cut(form.Get("refresh_token"), ".")
	g := i.families[family]
	if g == nil || g.client.ID != client.ID {
		return nil
	}
	if g.refresh != form.Get("refresh_token") {
		delete(i.families, family)
		return nil
	}
	return g
}

// issue writes the tokens of a grant.
func (i *Issuer) issue(w http.ResponseWriter, g *grant, nonce string) {
	answer := map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": int(i.set.Lifetime.Seconds())}
	if !i.set.WithoutIDToken || nonce != "" {
		token, err := i.token(g, nonce)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer["id_token"] = token
	}
	if g.offline() && !i.set.WithoutRefresh {
		g.refresh = g.family + "." + rand.Text()
		i.families[g.family] = g
		answer["refresh_token"] = g.refresh
	}
	writeJSON(w, http.StatusOK, answer)
}

func (i *Issuer) revoke(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.authenticated(r); !ok {
		i.refuse(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	i.counts.Revocations++
	family, _, _ := strings.Cut(r.PostFormValue("token"), ".")
	delete(i.families, family)
	w.WriteHeader(http.StatusOK)
}

// logout leads back to the client's home.
func (i *Issuer) logout(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	client, known := i.clients[r.URL.Query().Get("client_id")]
	if !known || client.Home == "" || client.Home != r.URL.Query().Get("post_logout_redirect_uri") {
		http.Error(w, "unknown client or post_logout_redirect_uri", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, client.Home, http.StatusFound)
}
