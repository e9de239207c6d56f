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

// Package access authenticates callers and checks their rights, such as posting events for a namespace, through the
// Kubernetes API server.
package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/rbacreview"
)

// Verb and Resource name the right to post events, in the API group postback.dev and the namespace of the events. The
// resource does not exist in the API; it stands for posting events in roles.
const (
	Verb     = "create"
	Resource = "postbackevents"
)

// maxToken is longer than any ServiceAccount token, in bytes. The header limit of ingest is about as large.
const maxToken = 16 << 10

// ErrUnavailable means that the API server did not answer, so that the caller's identity or right is unknown.
var ErrUnavailable = errors.New("the Kubernetes API server does not confirm the caller's identity and rights")

// UnauthenticatedError means that a token is not accepted. It contains no part of the token.
type UnauthenticatedError struct {
	// Detail is the reason, as far as it is known.
	Detail string
}

// Error implements error.
func (e *UnauthenticatedError) Error() string { return e.Detail }

// ForbiddenError means that an authenticated caller lacks a right.
type ForbiddenError struct {
	User string
	rbacreview.Right
}

// Error names the user and the missing right.
func (e *ForbiddenError) Error() string { return e.User + " may not " + e.Right.String() }

// Reviewer asks the API server and caches its answers. It is safe for concurrent use.
type Reviewer struct {
	clients  kubernetes.Interface
	audience string
	clock    clock.PassiveClock
	// questions bounds the reviews of tokens and rights together.
	questions *rbacreview.Questions
	// tokens are cached by their SHA-256 digests, so that no token is kept. rights are cached by the digest and the
	// right.
	tokens *rbacreview.Cache[*caller]
	rights *rbacreview.Cache[bool]
	// count counts a review, by its kind and by whether the API server answered, for the metrics of the program.
	count func(kind string, answered bool)
}

// caller is the result of a token review. Without a user, the token is not accepted, and detail is the reason.
type caller struct {
	user   *authenticationv1.UserInfo
	detail string
}

// Kinds of reviews.
const (
	ReviewOfTokens = "TokenReview"
	ReviewOfRights = "SubjectAccessReview"
)

// New returns a Reviewer. Tokens must have the audience; "" means that of the API server. count is called after each
// review with its kind, and whether the API server answered.
func New(clients kubernetes.Interface, audience string, count func(kind string, answered bool), c clock.PassiveClock) *Reviewer {
	return &Reviewer{
		clients: clients, audience: audience, count: count, clock: c,
		questions: rbacreview.NewQuestions(),
		tokens:    rbacreview.New[*caller](c),
		rights:    rbacreview.New[bool](c),
	}
}

// Check returns the name of a token's user if the user may post events for a namespace. Its errors are those of
// Allow.
func (r *Reviewer) Check(ctx context.Context, namespace, token string) (user string, err error) {
	return r.Allow(ctx, token, rbacreview.Right{Verb: Verb, Group: v1alpha1.GroupVersion.Group, Resource: Resource, Namespace: namespace})
}

// Allow returns the name of a token's user if the user has a right. The error is an *UnauthenticatedError, a
// *ForbiddenError, or wraps ErrUnavailable.
func (r *Reviewer) Allow(ctx context.Context, token string, right rbacreview.Right) (user string, err error) {
	who, key, err := r.user(ctx, token)
	if err != nil {
		return "", err
	}
	return r.permit(ctx, key, who, right)
}

// User returns the name of a token's user. The error is an *UnauthenticatedError, or wraps ErrUnavailable.
func (r *Reviewer) User(ctx context.Context, token string) (name string, err error) {
	who, _, err := r.user(ctx, token)
	if err != nil {
		return "", err
	}
	return who.Username, nil
}

// user returns the user of a token, and the key of the token in the cache.
func (r *Reviewer) user(ctx context.Context, token string) (user *authenticationv1.UserInfo, key string, err error) {
	if len(token) > maxToken {
		return nil, "", &UnauthenticatedError{Detail: fmt.Sprintf("The token has more than %d bytes.", maxToken)}
	}
	digest := sha256.Sum256([]byte(token))
	key = string(digest[:])
	who, err := r.tokens.Get(ctx, key, func(ctx context.Context) (*caller, time.Duration, error) {
		return r.authenticate(ctx, token)
	})
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("%w: TokenReview: %w", ErrUnavailable, err)
	case who.user == nil:
		return nil, "", &UnauthenticatedError{Detail: who.detail}
	}
	return who.user, key, nil
}

// permit returns the user's name if the user has a right. key identifies the user's credential in the cache.
func (r *Reviewer) permit(ctx context.Context, key string, user *authenticationv1.UserInfo, right rbacreview.Right) (name string, err error) {
	allowed, err := r.rights.Get(ctx, key+right.Key(), func(ctx context.Context) (bool, time.Duration, error) {
		return r.authorize(ctx, right, user)
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: SubjectAccessReview: %w", ErrUnavailable, err)
	case !allowed:
		return "", &ForbiddenError{User: user.Username, Right: right}
	}
	return user.Username, nil
}

// authenticate returns the caller of a token, and how long the answer may be cached.
func (r *Reviewer) authenticate(ctx context.Context, token string) (*caller, time.Duration, error) {
	claims := readClaims(token)
	if claims.expired(r.clock.Now()) {
		return &caller{detail: "The token expired at " + claims.expiry().UTC().Format(time.RFC3339) + "."}, 0, nil // There was no review, so the answer is not cached.
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if r.audience != "" {
		review.Spec.Audiences = []string{r.audience}
	}
	err := r.ask(ctx, ReviewOfTokens, func(ctx context.Context) error {
		var err error
		review, err = r.clients.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	status := &review.Status
	// An authenticator without support for audiences leaves them empty: the token is then for the API server only.
	forUs := r.audience == "" || slices.Contains(status.Audiences, r.audience)
	if !status.Authenticated || !forUs || status.User.Username == "" {
		return &caller{detail: r.whyNot(claims)}, rbacreview.DeniedFor, nil
	}
	holds := rbacreview.AllowedFor
	if claims.Expiry != nil {
		holds = min(holds, claims.expiry().Sub(r.clock.Now()))
	}
	return &caller{user: &status.User}, holds, nil
}

// whyNot returns the likely reason why a token is not accepted. The claims are only a hint, because nobody has
// verified them. The message does not quote the API server, which may quote the token.
func (r *Reviewer) whyNot(claims claims) string {
	if r.audience != "" && claims.Audience != nil && !slices.Contains(claims.Audience, r.audience) {
		return fmt.Sprintf("The token is for another audience: request one for %q.", r.audience)
	}
	return "The Kubernetes API server does not accept the token: it may be invalid, revoked, of a deleted ServiceAccount, or for another audience."
}

func (r *Reviewer) authorize(ctx context.Context, right rbacreview.Right, user *authenticationv1.UserInfo) (bool, time.Duration, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: right.Attributes(),
	}}
	err := r.ask(ctx, ReviewOfRights, func(ctx context.Context) error {
		var err error
		review, err = r.clients.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return false, 0, err
	}
	return review.Status.Allowed, rbacreview.Holds(review.Status.Allowed), nil
}

// ask sends a review to the API server, and counts it.
func (r *Reviewer) ask(ctx context.Context, kind string, question func(ctx context.Context) error) error {
	err := r.questions.Ask(ctx, question)
	r.count(kind, err == nil)
	return err
}
