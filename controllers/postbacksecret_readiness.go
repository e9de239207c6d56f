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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// The functions of this file return every readiness of a PostbackSecret except refusals of the API server, which
// readinessOfRefusal quotes. No message repeats a part of a key.

func keyAvailable(secret string) *readiness {
	return ready(v1alpha1.KeyAvailableReason, fmt.Sprintf("Secret %q holds the signing key.", secret))
}

func keySecretNotFound(secret string) *readiness {
	return reconciling(v1alpha1.KeyNotFoundReason, fmt.Sprintf("Secret %q does not exist yet: "+
		"put the signing key into it, under the data key %q.", secret, v1alpha1.SigningKeyName))
}

func keyNotFound(err error) *readiness {
	return reconciling(v1alpha1.KeyNotFoundReason, err.Error()+" yet: put the signing key there.")
}

func invalidKey(err error) *readiness {
	return stalled(v1alpha1.InvalidKeyReason, "The "+err.Error()+".")
}

func secretImmutable(secret string) *readiness {
	return stalled(v1alpha1.SecretImmutableReason, fmt.Sprintf("Secret %q has immutable: true, so its keys can be neither replaced nor removed, "+
		"and keep signing. Copy its key if receivers still need it, and delete that Secret. The operator then makes a new key, and the old ones sign no longer.", secret))
}

func secretTerminating(secret string) *readiness {
	return reconciling(v1alpha1.SecretTerminatingReason, fmt.Sprintf("Secret %q of an earlier PostbackSecret is being deleted; a new one follows.", secret))
}

// secretNotOwned proposes another name. For a Postback's own PostbackSecret, the remedy is a change of the Postback.
func secretNotOwned(object *v1alpha1.PostbackSecret, secret string) *readiness {
	remedy := "If receivers know its key, make a PostbackSecret with source External. Otherwise choose another spec.secretName."
	if owner := metav1.GetControllerOf(object); owner != nil && owner.Kind == "Postback" {
		remedy = fmt.Sprintf("Make a PostbackSecret of another name, and name it in the Postback's spec.secretRef (Postback %q). "+
			"Give it source External if receivers know the key of that Secret, otherwise another spec.secretName.", owner.Name)
	}
	return stalled(v1alpha1.SecretNotOwnedReason, fmt.Sprintf("Secret %q exists and is not owned by this PostbackSecret, "+
		"which therefore does not change it. %s", secret, remedy))
}
