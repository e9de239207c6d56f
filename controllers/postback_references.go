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
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// reconcilePostbackSecret finds the PostbackSecret, or makes the Postback's own one if spec.secretRef is absent. The
// own one stays until the Postback is deleted, even if spec.secretRef is set later. When spec.secretRef is removed
// again, the Postback signs with the key that receivers know.
func (r *PostbackReconciler) reconcilePostbackSecret(ctx context.Context, s *postbackScope) error {
	key := types.NamespacedName{Namespace: s.postback.Namespace, Name: s.postback.GetPostbackSecretName()}
	secret := &v1alpha1.PostbackSecret{}
	err := r.Client.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err) && s.postback.Spec.SecretRef != nil:
		s.readiness = postbackSecretNotFound(key.Name)
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
			s.requeue.in(requeueSoon)
			s.readiness = postbackSecretTerminating(key.Name)
			return nil
		case ownedByOthers:
			s.readiness = postbackSecretNameTaken(key.Name)
			return nil
		case ownedByNobody:
			return r.adoptPostbackSecret(ctx, s, secret)
		case ownedByUs:
		}
	}
	s.resolved.secret = secret
	return nil
}

// createPostbackSecret makes the Postback's own PostbackSecret. It copies a pending rotation request, which the first
// key answers.
func (r *PostbackReconciler) createPostbackSecret(ctx context.Context, s *postbackScope) error {
	secret := &v1alpha1.PostbackSecret{ObjectMeta: metav1.ObjectMeta{Namespace: s.postback.Namespace, Name: s.postback.Name}}
	addLabels(secret, false)
	if token := s.postback.Annotations[v1alpha1.RotateSecretAnnotation]; token != "" {
		secret.Annotations = map[string]string{v1alpha1.PassedRotateSecretAnnotation: passedToken(s.postback.Name, token)}
	}
	if err := controllerutil.SetControllerReference(s.postback, secret, r.Scheme); err != nil {
		return fmt.Errorf("own PostbackSecret %s: %w", secret.Name, err)
	}
	// If somebody else created a PostbackSecret of this name meanwhile, the next pass checks its owner.
	if err := r.Client.Create(ctx, secret); err != nil {
		return fmt.Errorf("create PostbackSecret %s: %w", secret.Name, err)
	}
	logf.FromContext(ctx).Info("PostbackSecret made", "postbackSecret", klog.KObj(secret))
	s.resolved.secret = secret
	return nil
}

// adoptPostbackSecret makes a PostbackSecret without an owner the Postback's own one again.
func (r *PostbackReconciler) adoptPostbackSecret(ctx context.Context, s *postbackScope, secret *v1alpha1.PostbackSecret) error {
	before := secret.DeepCopy()
	if err := controllerutil.SetControllerReference(s.postback, secret, r.Scheme); err != nil {
		return fmt.Errorf("own PostbackSecret %s: %w", secret.Name, err)
	}
	// The patch replaces the whole list of owners, so it must fail if another owner was added since the read.
	if err := r.Client.Patch(ctx, secret, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("adopt PostbackSecret %s: %w", secret.Name, err)
	}
	logf.FromContext(ctx).Info("PostbackSecret adopted", "postbackSecret", klog.KObj(secret))
	s.resolved.secret = secret
	return nil
}

// passedToken is the value of PassedRotateSecretAnnotation for a Postback's rotation request. It contains the
// Postback's name, so that Postbacks that share a key can use the same token.
func passedToken(postback, token string) string {
	return v1alpha1.HandledToken(postback + "/" + v1alpha1.HandledToken(token))
}

// passOnRotation copies a rotation request to the PostbackSecret, once. It uses an annotation of its own there: the
// users' annotation may be kept in Git, and applying it would restore the old value.
func (r *PostbackReconciler) passOnRotation(ctx context.Context, s *postbackScope) error {
	token := s.postback.Annotations[v1alpha1.RotateSecretAnnotation]
	handled := v1alpha1.HandledToken(token)
	if token == "" || handled == s.postback.Status.LastHandledRotateSecret {
		return nil
	}
	passed := passedToken(s.postback.Name, token)
	if s.resolved.secret.Annotations[v1alpha1.PassedRotateSecretAnnotation] != passed && s.resolved.secret.Status.LastHandledRotateSecretFromPostback != passed {
		before := s.resolved.secret.DeepCopy()
		if s.resolved.secret.Annotations == nil {
			s.resolved.secret.Annotations = map[string]string{}
		}
		s.resolved.secret.Annotations[v1alpha1.PassedRotateSecretAnnotation] = passed
		if err := r.Client.Patch(ctx, s.resolved.secret, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("pass rotate-secret on to PostbackSecret %s: %w", s.resolved.secret.Name, err)
		}
		logf.FromContext(ctx).Info("Rotation passed on", audit.Key, audit.RotationRequestedAction,
			"postbackSecret", klog.KObj(s.resolved.secret), "request", handled)
	}
	s.handledRotate = handled
	return nil
}

// reconcileKeys reads the signing keys.
func (r *PostbackReconciler) reconcileKeys(ctx context.Context, s *postbackScope) error {
	external := s.resolved.secret.Spec.GetSource() == v1alpha1.SecretExternal
	condition := meta.FindStatusCondition(s.resolved.secret.Status.Conditions, v1alpha1.ReadyCondition)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		message := "it is new."
		if condition != nil {
			message = condition.Message
		}
		s.readiness = postbackSecretNotReady(s.resolved.secret.Name, message,
			meta.IsStatusConditionTrue(s.resolved.secret.Status.Conditions, v1alpha1.StalledCondition))
		return nil
	}
	core, err := getSecret(ctx, r.Live, types.NamespacedName{Namespace: s.resolved.secret.Namespace, Name: s.resolved.secret.GetSecretName()})
	if err != nil {
		return err
	}
	if core == nil || !hasWatchLabel(core) {
		s.requeue.in(r.PollInterval)
	}
	if core == nil {
		s.readiness = signingKeyNotFound(s.resolved.secret.GetSecretName())
		return nil
	}
	read := keyring.Generated
	if external {
		read = keyring.External
	} else if !metav1.IsControlledBy(core, s.resolved.secret) {
		s.readiness = signingKeyNotOwned(core.Name, s.resolved.secret.Name)
		return nil
	}
	s.resolved.firstKey = !external && keyring.Read(core, keyring.Remembered{}, s.now).Version == 1
	if s.resolved.keys, err = read(core); err != nil {
		s.readiness = signingKeyUnusable(err)
	}
	return nil
}
