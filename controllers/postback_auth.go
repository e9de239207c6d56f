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
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/header"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// maxCredential bounds a token, user name, password or client secret, in bytes. Tokens with claims can be long.
const maxCredential = 8192

// reconcileAuth resolves the credentials of the header Authorization.
func (r *PostbackReconciler) reconcileAuth(ctx context.Context, s *postbackScope) error {
	auth := s.postback.Spec.Auth
	var err error
	switch {
	case auth == nil:
	case auth.Basic != nil:
		err = r.resolveBasic(ctx, s, auth.Basic)
	case auth.Bearer != nil:
		ref := auth.Bearer.SecretKeyRef
		var token string
		token, err = r.credential(ctx, s, secretValue{ref.Name, ref.Key, "the token of spec.auth.bearer", v1alpha1.AuthSecretNotFoundReason}, tokenMistake)
		s.resolved.auth = &route.Auth{Bearer: token}
	case auth.OAuth2 != nil:
		err = r.resolveOAuth2(ctx, s, auth.OAuth2)
	}
	return err
}

func (r *PostbackReconciler) resolveBasic(ctx context.Context, s *postbackScope, basic *v1alpha1.BasicAuthentication) error {
	name := basic.SecretRef.Name
	username, err := r.credential(ctx, s, secretValue{
		name, corev1.BasicAuthUsernameKey, "the user name of spec.auth.basic", v1alpha1.AuthSecretNotFoundReason,
	}, usernameMistake)
	if err != nil || s.readiness != nil {
		return err
	}
	password, err := r.credential(ctx, s, secretValue{
		name, corev1.BasicAuthPasswordKey, "the password of spec.auth.basic", v1alpha1.AuthSecretNotFoundReason,
	}, credentialMistake)
	s.resolved.auth = &route.Auth{Basic: &route.BasicAuth{Username: username, Password: password}}
	return err
}

func (r *PostbackReconciler) resolveOAuth2(ctx context.Context, s *postbackScope, oauth2 *v1alpha1.OAuth2ClientCredentials) error {
	ref := oauth2.ClientSecretRef
	secret, err := r.credential(ctx, s, secretValue{
		ref.Name, ref.Key, "the client secret of spec.auth.oauth2", v1alpha1.AuthSecretNotFoundReason,
	}, clientSecretMistake)
	scopes := make([]string, 0, len(oauth2.Scopes))
	for _, scope := range oauth2.Scopes {
		scopes = append(scopes, string(scope))
	}
	s.resolved.auth = &route.Auth{OAuth2: &route.OAuth2{
		TokenURL: oauth2.TokenURL, ClientID: oauth2.ClientID, ClientSecret: secret, Scopes: scopes, Audience: oauth2.Audience,
	}}
	return err
}

// credential reads a value, and sets the readiness if the value is missing or invalid.
func (r *PostbackReconciler) credential(ctx context.Context, s *postbackScope, w secretValue, mistakeIn func(string) string) (string, error) {
	value, v, err := r.readValue(ctx, s, w)
	if err != nil {
		return "", err
	}
	if v == nil {
		if mistake := mistakeIn(value); mistake != "" {
			v = w.invalid(v1alpha1.InvalidAuthReason, mistake)
		}
	}
	s.readiness = v
	return value, nil
}

func credentialMistake(value string) string { return header.TextMistake(value, maxCredential) }

// usernameMistake also refuses a colon, because a colon ends the user name (RFC 7617, section 2).
func usernameMistake(value string) string {
	if strings.Contains(value, ":") {
		return "contains a colon, which a user name must not"
	}
	return credentialMistake(value)
}

func clientSecretMistake(value string) string {
	if value == "" {
		return "is empty: put the client secret into it"
	}
	return credentialMistake(value)
}

// tokenMistake also refuses an empty token and spaces (RFC 6750, section 2.1).
func tokenMistake(value string) string {
	if mistake := credentialMistake(value); mistake != "" {
		return mistake
	}
	switch {
	case value == "":
		return "is empty: put the token into it"
	case strings.ContainsAny(value, " \t"):
		return "contains a space: put only the token there, without the word Bearer"
	}
	return ""
}

// checkAuth returns nil if the dispatcher may send the credentials of the spec.
func (p Policy) checkAuth(spec *v1alpha1.PostbackSpec) *readiness {
	auth := spec.Auth
	if auth == nil {
		return nil
	}
	given := 0
	for _, set := range []bool{auth.Basic != nil, auth.Bearer != nil, auth.OAuth2 != nil} {
		if set {
			given++
		}
	}
	if given != 1 {
		return invalidAuth()
	}
	for i := range spec.Headers {
		if strings.EqualFold(spec.Headers[i].Name, "Authorization") {
			return authorizationTwice(spec.Headers[i].Name)
		}
	}
	if auth.OAuth2 != nil {
		return p.checkURL("spec.auth.oauth2.tokenURL", v1alpha1.InvalidAuthReason, auth.OAuth2.TokenURL)
	}
	return nil
}
