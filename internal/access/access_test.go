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

package access

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// server stands in for the API server and counts the reviews that it gets.
type server struct {
	tokens, rights atomic.Int32
	down, denied   atomic.Bool
	mu             sync.Mutex
	known          map[string]*authenticationv1.TokenReviewStatus
	lastRight      authorizationv1.SubjectAccessReviewSpec
}

func (s *server) clients() *fake.Clientset {
	clients := fake.NewClientset()
	clients.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		s.tokens.Add(1)
		if s.down.Load() {
			return true, nil, errors.New("connection refused")
		}
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		s.mu.Lock()
		defer s.mu.Unlock()
		if status := s.known[review.Spec.Token]; status != nil {
			review.Status = *status
		}
		return true, review, nil
	})
	clients.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		s.rights.Add(1)
		if s.down.Load() {
			return true, nil, errors.New("connection refused")
		}
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lastRight = review.Spec
		review.Status.Allowed = !s.denied.Load()
		return true, review, nil
	})
	return clients
}

func accepted(name string, audiences ...string) *authenticationv1.TokenReviewStatus {
	return &authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: audiences,
		User: authenticationv1.UserInfo{Username: name, UID: "u1", Groups: []string{"g1"}, Extra: map[string]authenticationv1.ExtraValue{"scopes": {"events"}}},
	}
}

func newTest(t *testing.T, audience string) (*server, *Reviewer, *clocktesting.FakePassiveClock) {
	t.Helper()
	s := &server{known: map[string]*authenticationv1.TokenReviewStatus{"good": accepted("shop")}}
	clock := clocktesting.NewFakePassiveClock(start)
	return s, New(s.clients(), audience, func(string, bool) {}, clock), clock
}

func (s *server) asked(t *testing.T, tokens, rights int32) {
	t.Helper()
	if s.tokens.Load() != tokens || s.rights.Load() != rights {
		t.Errorf("asked for %d tokens and %d rights, want %d and %d", s.tokens.Load(), s.rights.Load(), tokens, rights)
	}
}

func TestAllowedIsRememberedForAMinute(t *testing.T) {
	s, r, clock := newTest(t, "")
	for range 3 {
		if user, err := r.Check(t.Context(), "acme", "good"); err != nil || user != "shop" {
			t.Fatalf("got %q, %v", user, err)
		}
	}
	s.asked(t, 1, 1)
	want := authorizationv1.ResourceAttributes{Namespace: "acme", Verb: "create", Group: "postback.dev", Version: "v1alpha1", Resource: "postbackevents"}
	if got := s.lastRight; *got.ResourceAttributes != want || got.User != "shop" || got.UID != "u1" || got.Groups[0] != "g1" || got.Extra["scopes"][0] != "events" {
		t.Errorf("asked %+v", got)
	}
	if _, err := r.Check(t.Context(), "globex", "good"); err != nil {
		t.Fatal(err)
	}
	s.asked(t, 1, 2) // a right is for one namespace
	clock.SetTime(start.Add(rbacreview.AllowedFor + time.Second))
	if _, err := r.Check(t.Context(), "acme", "good"); err != nil {
		t.Fatal(err)
	}
	s.asked(t, 2, 3)
}

func TestDenialIsRememberedBriefly(t *testing.T) {
	s, r, clock := newTest(t, "")
	s.denied.Store(true)
	for range 3 {
		_, err := r.Check(t.Context(), "acme", "good")
		if forbidden, ok := errors.AsType[*ForbiddenError](err); !ok || forbidden.User != "shop" || forbidden.Namespace != "acme" ||
			err.Error() != "shop may not create postbackevents.postback.dev in namespace acme" {
			t.Fatalf("got %v", err)
		}
		if _, err := r.Check(t.Context(), "acme", "made-up"); !isUnauthenticated(err) {
			t.Fatalf("got %v", err)
		}
	}
	s.asked(t, 2, 1)
	s.denied.Store(false)
	clock.SetTime(start.Add(rbacreview.DeniedFor + time.Second))
	if _, err := r.Check(t.Context(), "acme", "good"); err != nil {
		t.Errorf("a new right does not serve: %v", err)
	}
}

func isUnauthenticated(err error) bool {
	_, ok := errors.AsType[*UnauthenticatedError](err)
	return ok
}

// During an outage, a caller with a cached answer is accepted, and any other gets ErrUnavailable.
func TestOutage(t *testing.T) {
	s, r, clock := newTest(t, "")
	if _, err := r.Check(t.Context(), "acme", "good"); err != nil {
		t.Fatal(err)
	}
	s.down.Store(true)
	clock.SetTime(start.Add(rbacreview.AllowedFor - time.Second))
	if _, err := r.Check(t.Context(), "acme", "good"); err != nil {
		t.Errorf("a caller whose review is remembered: %v", err)
	}
	for name, token := range map[string]string{"another namespace": "good", "another token": "other"} {
		t.Run(name, func(t *testing.T) {
			if user, err := r.Check(t.Context(), "globex", token); !errors.Is(err, ErrUnavailable) || user != "" {
				t.Errorf("got %q, %v", user, err)
			}
		})
	}
	clock.SetTime(start.Add(rbacreview.AllowedFor + time.Second))
	if _, err := r.Check(t.Context(), "acme", "good"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after its time: %v", err)
	}
	s.down.Store(false)
	if _, err := r.Check(t.Context(), "acme", "good"); err != nil {
		t.Errorf("an outage is remembered: %v", err)
	}
}

func TestAudience(t *testing.T) {
	s, r, _ := newTest(t, "postback")
	// The unsigned texts have the form of a JSON Web Token.
	other := jwt(`{"aud":["api"],"exp":1893456000}`)
	s.known["for-us"] = accepted("shop", "postback")
	s.known["for-others"] = accepted("shop", "elsewhere")
	if _, err := r.Check(t.Context(), "acme", "for-us"); err != nil {
		t.Error(err)
	}
	for name, token := range map[string]string{"another audience": "for-others", "no audiences known": "good"} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.Check(t.Context(), "acme", token); !isUnauthenticated(err) {
				t.Error(err)
			}
		})
	}
	if _, err := r.Check(t.Context(), "acme", other); !isUnauthenticated(err) || !strings.Contains(err.Error(), `request one for "postback"`) {
		t.Errorf("got %v", err)
	}
}

func TestExpiry(t *testing.T) {
	s, r, clock := newTest(t, "")
	expired := jwt(`{"exp":` + unix(start.Add(-2*leeway)) + `}`)
	if _, err := r.Check(t.Context(), "acme", expired); !isUnauthenticated(err) || !strings.Contains(err.Error(), "The token expired at 2026-01-31T11:58:00Z.") {
		t.Errorf("got %v", err)
	}
	s.asked(t, 0, 0)
	// An answer is not cached beyond the token's expiry.
	soon := jwt(`{"exp":` + unix(start.Add(10*time.Second)) + `}`)
	s.known[soon] = accepted("shop")
	if _, err := r.Check(t.Context(), "acme", soon); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	delete(s.known, soon)
	s.mu.Unlock()
	clock.SetTime(start.Add(11 * time.Second))
	if _, err := r.Check(t.Context(), "acme", soon); !isUnauthenticated(err) {
		t.Errorf("after its time: %v", err)
	}
}

func TestOneAsksForAll(t *testing.T) {
	s, _, clock := newTest(t, "")
	clients, asked, hold := s.clients(), make(chan struct{}), make(chan struct{})
	clients.PrependReactor("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		close(asked)
		<-hold
		return false, nil, nil
	})
	r := New(clients, "", func(string, bool) {}, clock)
	impatient, leave := context.WithCancel(t.Context())
	var results sync.WaitGroup
	var allowed atomic.Int32
	left := make(chan error, 1)
	go func() {
		_, err := r.Check(impatient, "acme", "good")
		left <- err
	}()
	for range 20 {
		results.Go(func() {
			if _, err := r.Check(t.Context(), "acme", "good"); err == nil {
				allowed.Add(1)
			}
		})
	}
	<-asked
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("who leaves gets %v", err)
	}
	close(hold)
	results.Wait()
	if allowed.Load() != 20 {
		t.Errorf("%d of 20 are allowed", allowed.Load())
	}
	s.asked(t, 1, 1)
}
