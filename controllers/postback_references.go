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
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/controllers/keyring"
	"github.com/postback-dev/postback-operator/internal/audit"
)

// reconcilePostbackSecret finds the PostbackSecret, and makes the Postback's own one if none is named. An own one that
// is no longer used, because spec.secretRef was set later, stays until the Postback goes: whoever sets spec.secretRef
// back gets the key that receivers know.
func (r *PostbackReconciler) reconcilePostbackSecret(ctx context.Context, s *postbackScope) error {
	key := types.NamespacedName{Namespace: s.postback.Namespace, Name: s.postback.GetPostbackSecretName()}
	secret := &v1alpha1.PostbackSecret{}
	err := r.Client.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err) && s.postback.Spec.SecretRef != nil:
		s.verdict = waiting(v1alpha1.SecretNotFoundReason,
			fmt.Sprintf("The PostbackSecret %q that spec.secretRef names does not exist: make it, or correct the name.", key.Name))
		return nil
	case apierrors.IsNotFound(err):
		return r.createPostbackSecret(ctx, s)
	case err != nil:
		return fmt.Errorf("get PostbackSecret %s: %w", key.Name, err)
	}
	if s.postback.Spec.SecretRef == nil {
		whose, err := ownershipOf(ctx, r.Live, secret, s.postback.UID, "Postback", &v1alpha1.Postback{})
		if err != nil {
			return err
		}
		switch whose {
		case ownedByNobodyLeft:
			s.alarm.in(lookAgain)
			s.verdict = waiting(v1alpha1.SecretNotReadyReason,
				fmt.Sprintf("The PostbackSecret %q of an earlier Postback is being deleted; a new one follows.", key.Name))
			return nil
		case ownedByOthers:
			s.verdict = stalled(v1alpha1.SecretNameTakenReason, fmt.Sprintf("The PostbackSecret %q exists and does not belong to this Postback. "+
				"To use it, set spec.secretRef.name to %q; otherwise delete or rename one of the two.", key.Name, key.Name))
			return nil
		case ownedByUs:
		}
	}
	s.secret = secret
	return nil
}

// createPostbackSecret makes the Postback's own PostbackSecret. A request for rotation comes with it, so that the first
// key answers it.
func (r *PostbackReconciler) createPostbackSecret(ctx context.Context, s *postbackScope) error {
	secret := &v1alpha1.PostbackSecret{ObjectMeta: metav1.ObjectMeta{Namespace: s.postback.Namespace, Name: s.postback.Name}}
	addLabels(secret, false)
	if token := s.postback.Annotations[v1alpha1.RotateSecretAnnotation]; token != "" {
		secret.Annotations = map[string]string{v1alpha1.PassedRotateSecretAnnotation: passedToken(s.postback.Name, token)}
	}
	if err := controllerutil.SetControllerReference(s.postback, secret, r.Scheme); err != nil {
		return fmt.Errorf("own PostbackSecret %s: %w", secret.Name, err)
	}
	// If one of this name has come meanwhile, the next pass looks whose it is.
	if err := r.Client.Create(ctx, secret); err != nil {
		return fmt.Errorf("create PostbackSecret %s: %w", secret.Name, err)
	}
	logf.FromContext(ctx).Info("PostbackSecret made", "postbackSecret", klog.KObj(secret))
	s.secret = secret
	return nil
}

// passedToken is what is passed on of a request for rotation on a Postback. Postbacks that share a key ask once each,
// also with the same token.
func passedToken(postback, token string) string {
	return v1alpha1.HandledToken(postback + "/" + v1alpha1.HandledToken(token))
}

// passOnRotation hands a request for rotation to the PostbackSecret, once. It has an annotation of its own there, for the
// one that people set may be kept in Git, which would put its own value back.
func (r *PostbackReconciler) passOnRotation(ctx context.Context, s *postbackScope) error {
	token := s.postback.Annotations[v1alpha1.RotateSecretAnnotation]
	handled := v1alpha1.HandledToken(token)
	if token == "" || handled == s.postback.Status.LastHandledRotateSecret {
		return nil
	}
	passed := passedToken(s.postback.Name, token)
	if s.secret.Annotations[v1alpha1.PassedRotateSecretAnnotation] != passed && s.secret.Status.LastHandledRotateSecretFromPostback != passed {
		before := s.secret.DeepCopy()
		if s.secret.Annotations == nil {
			s.secret.Annotations = map[string]string{}
		}
		s.secret.Annotations[v1alpha1.PassedRotateSecretAnnotation] = passed
		if err := r.Client.Patch(ctx, s.secret, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("pass rotate-secret on to PostbackSecret %s: %w", s.secret.Name, err)
		}
		logf.FromContext(ctx).Info("Rotation passed on", audit.Key, audit.RotationRequestedAction,
			"postbackSecret", klog.KObj(s.secret), "request", handled)
	}
	s.handledRotate = handled
	return nil
}

// reconcileKeys reads the signing keys.
func (r *PostbackReconciler) reconcileKeys(ctx context.Context, s *postbackScope) error {
	external := s.secret.Spec.GetSource() == v1alpha1.SecretExternal
	condition := meta.FindStatusCondition(s.secret.Status.Conditions, v1alpha1.ReadyCondition)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		message := "it is new"
		if condition != nil {
			message = condition.Message
		}
		s.verdict = waiting(v1alpha1.SecretNotReadyReason, fmt.Sprintf("The PostbackSecret %q is not ready: %s", s.secret.Name, message))
		return nil
	}
	core, err := getSecret(ctx, r.Live, types.NamespacedName{Namespace: s.secret.Namespace, Name: s.secret.GetSecretName()})
	if err != nil {
		return err
	}
	if core == nil || !hasWatchLabel(core) {
		s.alarm.in(r.PollInterval)
	}
	if core == nil {
		s.verdict = waiting(v1alpha1.SecretNotFoundReason, fmt.Sprintf("Secret %q with the signing key does not exist.", s.secret.GetSecretName()))
		return nil
	}
	read := keyring.Generated
	if external {
		read = keyring.External
	} else if !metav1.IsControlledBy(core, s.secret) {
		s.verdict = waiting(v1alpha1.SecretNotReadyReason, fmt.Sprintf("Secret %q is not owned by the PostbackSecret %q.", core.Name, s.secret.Name))
		return nil
	}
	if s.keys, err = read(core); err != nil {
		s.verdict = waiting(v1alpha1.SecretNotReadyReason, "There is no key to sign with: "+err.Error()+".")
	}
	return nil
}
