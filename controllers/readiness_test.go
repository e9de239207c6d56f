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
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// TestReadiness covers each readiness of a Postback and a PostbackSecret, with its state and reason.
func TestReadiness(t *testing.T) {
	errKey := errors.New(`data key "secret" is empty`)
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
		t.Run(name, func(t *testing.T) {
			if test.got.state != test.state || test.got.reason != test.reason || !strings.Contains(test.got.message, test.names) {
				t.Errorf("got %s %s: %s", test.got.state, test.got.reason, test.got.message)
			}
			if !strings.HasSuffix(test.got.message, ".") {
				t.Errorf("the message is no sentence: %s", test.got.message)
			}
		})
	}
}
