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
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TestReadiness covers each readiness of a Postback and a PostbackSecret, with its state and reason.
func TestReadiness(t *testing.T) {
	errKey := errors.New(`data key "secret" is empty`)
	covered := slices.Clone(refusalReasons) // TestReadinessOfRefusal covers them.
	for name, test := range map[string]struct {
		got    *readiness
		state  state
		reason string
		names  string
	}{
		"URL":                        {invalidField(v1alpha1.InvalidURLReason, "spec.url", "has no host"), stateStalled, "InvalidURL", "spec.url"},
		"plain HTTP":                 {plainHTTPNotAllowed("spec.url"), stateStalled, "PlainHTTPNotAllowed", "--allow-plain-http"},
		"header name":                {invalidHeader("%q in spec.headers is not an HTTP header name: correct it.", "a b"), stateStalled, "InvalidHeader", `"a b"`},
		"header value":               {invalidHeaderValue("X-Tenant", "contains a line feed"), stateStalled, "InvalidHeader", "X-Tenant"},
		"filter":                     {invalidFilter(errors.New("undeclared reference")), stateStalled, "InvalidFilter", "spec.filter"},
		"two credentials":            {invalidAuth(), stateStalled, "InvalidAuth", "spec.auth"},
		"Authorization twice":        {authorizationTwice("authorization"), stateStalled, "InvalidAuth", `"authorization"`},
		"credential":                 {invalidSecretValue(v1alpha1.InvalidAuthReason, "the token", "is empty"), stateStalled, "InvalidAuth", "The token is empty"},
		"certificate":                {invalidSecretValue(v1alpha1.InvalidTLSReason, "the key of spec.tls.clientCertificateSecretRef", "has a passphrase"), stateStalled, "InvalidTLS", "The key of spec.tls"},
		"credential Secret":          {referenceNotFound(v1alpha1.AuthSecretNotFoundReason, "crm", "the token"), stateReconciling, "AuthSecretNotFound", `Secret "crm" with the token`},
		"reference":                  {referenceNotFound(v1alpha1.HeaderSecretNotFoundReason, "crm", "the value"), stateReconciling, "HeaderSecretNotFound", `"crm"`},
		"data key":                   {dataKeyNotFound(v1alpha1.TLSSecretNotFoundReason, "crm", "ca.crt", "the CA"), stateReconciling, "TLSSecretNotFound", `"ca.crt"`},
		"no PostbackSecret":          {postbackSecretNotFound("own"), stateReconciling, "SecretNotFound", "spec.secretRef"},
		"PostbackSecret terminating": {postbackSecretTerminating("own"), stateReconciling, "SecretNotReady", "being deleted"},
		"PostbackSecret of another":  {postbackSecretNameTaken("own"), stateStalled, "SecretNameTaken", "spec.secretRef.name"},
		"PostbackSecret is new":      {postbackSecretNotReady("own", "it is new.", false), stateReconciling, "SecretNotReady", "it is new"},
		"PostbackSecret is Stalled":  {postbackSecretNotReady("own", "its key is invalid.", true), stateStalled, "SecretNotReady", "its key"},
		"no Secret of the key":       {signingKeyNotFound("own"), stateReconciling, "SecretNotFound", "signing key"},
		"key of another":             {signingKeyNotOwned("own", "crm"), stateReconciling, "SecretNotReady", `"crm"`},
		"key unusable":               {signingKeyUnusable(errKey), stateReconciling, "SecretNotReady", "is empty"},
		"route not published":        {routeNotPublished(), stateReconciling, "Progressing", "may not be routed"},
		"no dispatcher":              {noDispatcher(), stateReconciling, "NoDispatcher", "no dispatcher"},
		"one of two":                 {waitingForDispatcher(1, 2), stateReconciling, "WaitingForDispatcher", "1 of 2"},
		"routed":                     {routed(v1alpha1.PostbackEnabled, ""), stateReady, "Routed", "Every dispatcher replica has loaded the route."},
		"routed, paused":             {routed(v1alpha1.PostbackPaused, ""), stateReady, "Routed", "stored and wait"},
		"routed, disabled":           {routed(v1alpha1.PostbackDisabled, ""), stateReady, "Routed", "skipped"},
		"routed, certificate":        {routed(v1alpha1.PostbackEnabled, "The certificate is expired."), stateReady, "Routed", "route. The certificate is expired."},
		"error":                      {progressing(), stateReconciling, "Progressing", "tries again"},

		"key available":      {keyAvailable("own"), stateReady, "KeyAvailable", `"own"`},
		"no external Secret": {keySecretNotFound("own"), stateReconciling, "KeyNotFound", `"secret"`},
		"no external key":    {keyNotFound(errors.New("Secret \"own\" has no key")), stateReconciling, "KeyNotFound", "put the signing key there"},
		"external key":       {invalidKey(errKey), stateStalled, "InvalidKey", "The data key"},
		"immutable":          {secretImmutable("own"), stateStalled, "SecretImmutable", "delete that Secret"},
		"Secret terminating": {secretTerminating("own"), stateReconciling, "SecretTerminating", "being deleted"},
		"Secret of another":  {secretNotOwned(&v1alpha1.PostbackSecret{}, "own"), stateStalled, "SecretNotOwned", "spec.secretName"},
	} {
		covered = append(covered, test.got.reason)
		t.Run(name, func(t *testing.T) {
			if test.got.state != test.state || test.got.reason != test.reason || !strings.Contains(test.got.message, test.names) {
				t.Errorf("got %s %s: %s", test.got.state, test.got.reason, test.got.message)
			}
			if !strings.HasSuffix(test.got.message, ".") {
				t.Errorf("the message is no sentence: %s", test.got.message)
			}
		})
	}
	for _, reason := range reasonsOfReady {
		if !slices.Contains(covered, reason) {
			t.Errorf("no case has the reason %s", reason)
		}
	}
}

// TestStalledMessagesNameFieldAndRemedy covers every readiness that waits for a user.
func TestStalledMessagesNameFieldAndRemedy(t *testing.T) {
	for name, test := range map[string]struct {
		got           *readiness
		field, remedy string
	}{
		"plain HTTP":                {plainHTTPNotAllowed("spec.auth.oauth2.tokenURL"), "spec.auth.oauth2.tokenURL", "must begin with https://"},
		"filter":                    {invalidFilter(errors.New("undeclared reference")), "spec.filter", "Correct it."},
		"header value":              {invalidHeaderValue("X-Tenant", "contains a line feed: remove it"), "spec.headers", "remove it"},
		"two credentials":           {invalidAuth(), "spec.auth", "correct it"},
		"Authorization twice":       {authorizationTwice("authorization"), "spec.headers", "remove one of the two"},
		"token":                     {invalidSecretValue(v1alpha1.InvalidAuthReason, "the token of spec.auth.bearer", tokenMistake("")), "spec.auth.bearer", "put the token into it"},
		"CA":                        {invalidSecretValue(v1alpha1.InvalidTLSReason, "the certificates of spec.tls.caSecretRef", certificatesMistake("", maxCA)), "spec.tls.caSecretRef", "must begin with -----BEGIN CERTIFICATE-----"},
		"PostbackSecret of another": {postbackSecretNameTaken("own"), "spec.secretRef.name", "delete or rename one of the two"},
		"PostbackSecret is Stalled": {postbackSecretNotReady("own", secretImmutable("own").message, true), `Secret "own"`, "delete that Secret"},
		"immutable Secret":          {secretImmutable("own"), `Secret "own"`, "delete that Secret"},
		"Secret of another":         {secretNotOwned(&v1alpha1.PostbackSecret{}, "own"), "spec.secretName", "choose another"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.got.state != stateStalled || !strings.Contains(test.got.message, test.field) || !strings.Contains(test.got.message, test.remedy) {
				t.Errorf("got %s: %s; want Stalled with %q and %q", test.got.state, test.got.message, test.field, test.remedy)
			}
		})
	}
}

// TestReadinessOfRefusal covers each refusal of the API server that lasts, and the temporary ones beside them.
func TestReadinessOfRefusal(t *testing.T) {
	secrets := corev1.Resource("secrets")
	missingRight := apierrors.NewForbidden(secrets, "crm", errors.New(`User "manager" cannot create resource "secrets"`))
	fullQuota := apierrors.NewForbidden(secrets, "crm", errors.New("exceeded quota: few"))
	for name, test := range map[string]struct {
		failures []error
		state    state // "" means no readiness
		reason   string
		message  string
	}{
		"no failure":                      {},
		"nil failures":                    {failures: []error{nil, nil}},
		"a conflict":                      {failures: []error{apierrors.NewConflict(secrets, "crm", errors.New("changed"))}},
		"an unavailable API server":       {failures: []error{apierrors.NewServiceUnavailable("away")}},
		"an error of the operator itself": {failures: []error{errors.New("no route")}},
		"a policy":                        {[]error{apierrors.NewForbidden(secrets, "crm", errors.New("policy 'team' denied request: a Secret needs the label team"))}, stateStalled, "PolicyDenied", "a Secret needs the label team. The operator tries again."},
		"a full quota":                    {[]error{fullQuota}, stateStalled, "QuotaExceeded", `The API server refuses secrets "crm": exceeded quota: few. The operator tries again.`},
		"a missing right":                 {[]error{missingRight}, stateReconciling, "Forbidden", `cannot create resource "secrets". The operator tries again.`},
		"an invalid object":               {[]error{apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, "crm", field.ErrorList{field.Invalid(field.NewPath("data"), "s3cret", "no")})}, stateStalled, "Invalid", "data: FieldValueInvalid. The operator tries again."},
		"a large object":                  {[]error{apierrors.NewRequestEntityTooLargeError("limit is 3145728")}, stateStalled, "TooLarge", "the object is not acceptable. The operator tries again."},
		"the first of two refusals":       {[]error{missingRight, fullQuota}, stateReconciling, "Forbidden", "cannot create"},
		"a refusal after a conflict":      {[]error{apierrors.NewConflict(secrets, "crm", errors.New("changed")), fullQuota}, stateStalled, "QuotaExceeded", "few"},
		"a wrapped refusal":               {[]error{fmt.Errorf("write Secret: %w", fullQuota)}, stateStalled, "QuotaExceeded", "few"},
	} {
		t.Run(name, func(t *testing.T) {
			got := readinessOfRefusal(test.failures...)
			if test.state == "" {
				if got != nil {
					t.Errorf("got %+v, want no readiness", got)
				}
				return
			}
			checkReadiness(t, got, test.state, test.reason, test.message)
			if strings.Contains(got.message, "s3cret") {
				t.Errorf("the message quotes a value: %s", got.message)
			}
		})
	}
}

// TestNewFailure covers the conclusions that cause a Warning event, and those that an earlier pass reported.
func TestNewFailure(t *testing.T) {
	badURL, forbidden := invalidField(v1alpha1.InvalidURLReason, "spec.url", "has no host"), reconciling(v1alpha1.ForbiddenReason, "It is refused.")
	everythingLoaded, lost := routed(v1alpha1.PostbackEnabled, ""), signingKeyNotFound("crm")
	for name, test := range map[string]struct {
		earlier, concluded *readiness
		want               bool
	}{
		"no conclusion":                          {earlier: everythingLoaded},
		"ready":                                  {earlier: badURL, concluded: everythingLoaded},
		"Stalled in the first pass":              {concluded: badURL, want: true},
		"Stalled after Ready":                    {earlier: everythingLoaded, concluded: badURL, want: true},
		"Stalled for the same reason":            {earlier: badURL, concluded: badURL},
		"Stalled for another reason":             {earlier: invalidAuth(), concluded: badURL, want: true},
		"a missing right in the first pass":      {concluded: forbidden, want: true},
		"a missing right that lasts":             {earlier: forbidden, concluded: forbidden},
		"a lost key after Ready":                 {earlier: everythingLoaded, concluded: lost, want: true},
		"a key that is not there yet":            {concluded: lost},
		"a lost key after another failure":       {earlier: noDispatcher(), concluded: lost},
		"a dispatcher that restarts after Ready": {earlier: everythingLoaded, concluded: noDispatcher()},
	} {
		t.Run(name, func(t *testing.T) {
			var conditions []metav1.Condition
			if test.earlier != nil {
				conditionSetter{&conditions, 1, firstPass}.apply(test.earlier)
			}
			if got := newFailure(conditions, test.concluded); got != test.want {
				t.Errorf("new failure %t, want %t", got, test.want)
			}
		})
	}
}
