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

package watched_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/postback-dev/postback-operator/internal/watched"
)

// reviewer is a fake API server that answers SelfSubjectAccessReviews.
func reviewer(t *testing.T, allow func(*authorizationv1.ResourceAttributes) bool) *rest.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review authorizationv1.SelfSubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || !strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		review.Status.Allowed = allow(review.Spec.ResourceAttributes)
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

func TestSettle(t *testing.T) {
	resources := []schema.GroupResource{{Group: "postback.dev", Resource: "postbacks"}, {Resource: "secrets"}}
	for name, tt := range map[string]struct {
		named, want, err string
		// denied are rights of the form "namespace verb resource".
		denied []string
	}{
		"all":                 {denied: []string{" list postbacks"}},
		"each":                {named: "acme,globex", want: "acme,globex"},
		"one lacks all":       {named: "acme,globex,initech", want: "acme,initech", denied: []string{"globex list postbacks", "globex watch postbacks", "globex list secrets", "globex watch secrets"}},
		"one lacks a verb":    {named: "acme,globex", want: "acme", denied: []string{"globex watch secrets"}},
		"both lack something": {named: "acme,globex", err: "no namespace of --watch-namespaces=acme,globex may be watched", denied: []string{"acme list secrets", "globex watch postbacks"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := reviewer(t, func(a *authorizationv1.ResourceAttributes) bool {
				return !slices.Contains(tt.denied, strings.Join([]string{a.Namespace, a.Verb, a.Resource}, " "))
			})
			got, _, err := watched.Settle(t.Context(), config, logr.Discard(), watched.Of(tt.named), resources...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	config := reviewer(t, func(*authorizationv1.ResourceAttributes) bool { return true })
	config.Host = "http://127.0.0.1:1"
	if _, _, err := watched.Settle(t.Context(), config, logr.Discard(), watched.Of("acme"), resources...); err == nil || !strings.Contains(err.Error(), "ask what may be watched in namespace acme") {
		t.Errorf("without an API server: %v", err)
	}
}

// A program without missing rights does not end. Another one ends when it gets a missing right, and not before.
func TestMissing(t *testing.T) {
	var granted atomic.Bool
	config := reviewer(t, func(a *authorizationv1.ResourceAttributes) bool { return a.Namespace == "acme" || granted.Load() })
	settle := func(named string) *watched.Missing {
		_, missing, err := watched.Settle(t.Context(), config, logr.Discard(), watched.Of(named), schema.GroupResource{Resource: "secrets"})
		if err != nil {
			t.Fatal(err)
		}
		if missing.NeedLeaderElection() {
			t.Error("only the leader asks")
		}
		return missing
	}
	for name, named := range map[string]string{"every namespace": "", "one namespace": "acme"} {
		t.Run(name, func(t *testing.T) {
			if err := settle(named).Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	lacking := settle("acme,globex")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := lacking.Start(ctx); err != nil {
		t.Errorf("it ends with %v", err)
	}
	granted.Store(true)
	if err := lacking.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "namespace globex may be watched now") {
		t.Errorf("it ends with %v", err)
	}
}
