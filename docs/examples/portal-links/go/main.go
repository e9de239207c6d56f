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

// Command go is the backend of a platform that sends a partner's browser to the portal, with the standard library only. Copy
// requestLink.
//
//	PORTAL_URL=https://postbacks.example.com TOKEN_FILE=/var/run/secrets/kubernetes.io/serviceaccount/token PORT=3000 go run ./docs/examples/portal-links/go
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// client follows no redirect, which would carry the token elsewhere.
var client = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// requestLink returns an address that signs a partner in, once, within five minutes. Do not log it.
func requestLink(ctx context.Context, namespace, role string) (string, error) {
	// The kubelet replaces the token before it expires: read it for each request.
	token, err := os.ReadFile(os.Getenv("TOKEN_FILE"))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	body, err := json.Marshal(map[string]string{"role": role, "ttl": "8h"})
	if err != nil {
		return "", err
	}
	address := os.Getenv("PORTAL_URL") + "/v1/namespaces/" + url.PathEscape(namespace) + "/portal-links"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("request a link: %w", err)
	}
	defer response.Body.Close()
	var answer struct{ URL, Detail string }
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, 1<<16)).Decode(&answer); err != nil {
		return "", fmt.Errorf("the portal answers %s", response.Status)
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("the portal answers %s: %s", response.Status, answer.Detail)
	}
	return answer.URL, nil
}

// partnerOf returns the namespace and the role of the user of a request. Yours come from the session of your product.
func partnerOf(*http.Request) (namespace, role string, err error) {
	namespace, role = os.Getenv("PARTNER"), cmp.Or(os.Getenv("ROLE"), "editor")
	if namespace == "" {
		return "", "", errors.New("nobody is signed in")
	}
	return namespace, role, nil
}

// openPortal sends the browser on. A POST of your own page keeps other sites from requesting links.
func openPortal(w http.ResponseWriter, r *http.Request) {
	namespace, role, err := partnerOf(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	link, err := requestLink(r.Context(), namespace, role)
	if err != nil {
		log.Print(err)
		http.Error(w, "The Postbacks page is not available. Try again later.", http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, link, http.StatusSeeOther)
}

func main() {
	http.HandleFunc("POST /postbacks", openPortal)
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "3000")), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
