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
	"fmt"
	"strings"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The functions of this file return every readiness of a Postback except refusals of the API server, which
// readinessOfRefusal quotes. Each message names a remedy, and repeats no part of a URL, because a URL may hold a
// token.

func invalidField(reason, field, mistake string) *readiness {
	return stalled(reason, field+" "+mistake+".")
}

func plainHTTPNotAllowed(field string) *readiness {
	return stalled(v1alpha1.PlainHTTPNotAllowedReason, field+" must begin with https://: "+
		"this installation does not allow plain http (the manager's flag --allow-plain-http).")
}

func invalidHeader(format, name string) *readiness {
	return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf(format, name))
}

func invalidHeaderValue(name, mistake string) *readiness {
	return stalled(v1alpha1.InvalidHeaderReason, fmt.Sprintf("The value of the header %q in spec.headers %s.", name, mistake))
}

func invalidFilter(mistake error) *readiness {
	return stalled(v1alpha1.InvalidFilterReason, fmt.Sprintf("spec.filter is not a valid filter: %s. Correct it.", mistake))
}

func invalidAuth() *readiness {
	return stalled(v1alpha1.InvalidAuthReason, "spec.auth must have exactly one of basic, bearer and oauth2: correct it.")
}

func authorizationTwice(header string) *readiness {
	return stalled(v1alpha1.InvalidAuthReason, fmt.Sprintf("spec.auth sets the header Authorization, and so does %q in spec.headers: remove one of the two.", header))
}

func invalidSecretValue(reason, where, mistake string) *readiness {
	return stalled(reason, strings.ToUpper(where[:1])+where[1:]+" "+mistake+".")
}

func referenceNotFound(reason, secret, what string) *readiness {
	return reconciling(reason, fmt.Sprintf("Secret %q with %s does not exist: make it, or correct the reference.", secret, what))
}

func dataKeyNotFound(reason, secret, key, what string) *readiness {
	return reconciling(reason, fmt.Sprintf("Secret %q has no data key %q with %s: add it, or correct the reference.", secret, key, what))
}

func postbackSecretNotFound(name string) *readiness {
	return reconciling(v1alpha1.SecretNotFoundReason,
		fmt.Sprintf("The PostbackSecret %q that spec.secretRef names does not exist: make it, or correct the name.", name))
}

func postbackSecretTerminating(name string) *readiness {
	return reconciling(v1alpha1.SecretNotReadyReason,
		fmt.Sprintf("The PostbackSecret %q of an earlier Postback is being deleted; a new one follows.", name))
}

func postbackSecretNameTaken(name string) *readiness {
	return stalled(v1alpha1.SecretNameTakenReason, fmt.Sprintf("The PostbackSecret %q exists and does not belong to this Postback. "+
		"To use it, set spec.secretRef.name to %q; otherwise delete or rename one of the two.", name, name))
}

// postbackSecretNotReady is Stalled if the PostbackSecret is, because only a person can then repair it.
func postbackSecretNotReady(name, message string, isStalled bool) *readiness {
	state := reconciling
	if isStalled {
		state = stalled
	}
	return state(v1alpha1.SecretNotReadyReason, fmt.Sprintf("The PostbackSecret %q is not ready: %s", name, message))
}

func signingKeyNotFound(secret string) *readiness {
	return reconciling(v1alpha1.SecretNotFoundReason, fmt.Sprintf("Secret %q with the signing key does not exist.", secret))
}

func signingKeyNotOwned(secret, postbackSecret string) *readiness {
	return reconciling(v1alpha1.SecretNotReadyReason, fmt.Sprintf("Secret %q is not owned by the PostbackSecret %q.", secret, postbackSecret))
}

func signingKeyUnusable(err error) *readiness {
	return reconciling(v1alpha1.SecretNotReadyReason, "There is no signing key: "+err.Error()+".")
}

func routeNotPublished() *readiness {
	return reconciling(v1alpha1.ProgressingReason, "The route is not published, so events may not be routed: the last step failed. "+
		"The operator tries again.")
}

func noDispatcher() *readiness {
	return reconciling(v1alpha1.NoDispatcherReason, "The route is published, but no dispatcher replica is running.")
}

func waitingForDispatcher(loaded, live int) *readiness {
	return reconciling(v1alpha1.WaitingForDispatcherReason,
		fmt.Sprintf("The route is published; %d of %d dispatcher replicas have loaded it.", loaded, live))
}

// routed is the readiness of a loaded route. Its message ends with the warning about the client certificate, if any.
func routed(state v1alpha1.PostbackState, certificateWarning string) *readiness {
	message := "Every dispatcher replica has loaded the route."
	switch state {
	case v1alpha1.PostbackPaused:
		message += " The state is Paused: events are stored and wait."
	case v1alpha1.PostbackDisabled:
		message += " The state is Disabled: new events are skipped, stored ones wait."
	case v1alpha1.PostbackEnabled:
	}
	if certificateWarning != "" {
		message += " " + certificateWarning
	}
	return ready(v1alpha1.RoutedReason, message)
}
