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
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/keyring"
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets/status,verbs=patch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// The admission plugin OwnerReferencesPermissionEnforcement, which OpenShift uses, asks for the right to delete an object before it
// accepts other owner references. The operator adopts objects that a restore has left without an owner, and deletes none of them.
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets,verbs=delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=delete

// PostbackSecretReconciler makes and rotates generated keys, and checks external ones.
type PostbackSecretReconciler struct {
	Client client.Client
	// Live reads from the API server. No decision about a key relies on a cache.
	Live   client.Reader
	Scheme *runtime.Scheme
	Events events.EventRecorder
	Clock  clock.PassiveClock
	// PollInterval is the pause between two reads of a Secret that is not watched.
	PollInterval time.Duration
}

// postbackSecretScope holds the inputs and conclusions of one pass: one reconciliation of one PostbackSecret.
type postbackSecretScope struct {
	object *v1alpha1.PostbackSecret
	// before is the object as it was read.
	before  *v1alpha1.PostbackSecret
	now     time.Time
	requeue requeue

	readiness *readiness
	// failed says that an error ended the pass before it knew the keys.
	failed bool
	// keys are the present keys of a generated Secret; nil if they are not known.
	keys *keyDecision
	// previousSigns says that a previous key signs in a Secret that the operator cannot write: external or immutable.
	previousSigns bool
	// adopted says that the core Secret had no owner, as after a restore, and gets this PostbackSecret as its owner.
	adopted bool
	// refused are the requests to rotate an external key.
	refused keyring.Requests
	// gone says that the object was deleted during the pass.
	gone bool
}

func (s *postbackSecretScope) use(object *v1alpha1.PostbackSecret) {
	s.object, s.before = object, object.DeepCopy()
}

func (s *postbackSecretScope) secretKey() types.NamespacedName {
	return types.NamespacedName{Namespace: s.object.Namespace, Name: s.object.GetSecretName()}
}

// Reconcile brings one PostbackSecret's core Secret to its desired keys, with at most one write, and updates the status.
func (r *PostbackSecretReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.PostbackSecret{}
	if err := r.Client.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // Its Secret is garbage collected.
	}
	now := r.Clock.Now()
	s := &postbackSecretScope{now: now, requeue: requeue{now: now}}
	s.use(object)

	reconcileKeys := r.reconcileGenerated
	if object.Spec.GetSource() == v1alpha1.SecretExternal {
		reconcileKeys = r.reconcileExternal
	}
	err := reconcileKeys(ctx, s)
	if s.gone {
		return ctrl.Result{}, nil
	}
	s.failed = err != nil
	if refused := readinessOfRefusal(err); refused != nil {
		s.readiness = refused
	}
	return finish(ctx, s.requeue, err, r.updateStatus(ctx, s))
}

func (r *PostbackSecretReconciler) reconcileGenerated(ctx context.Context, s *postbackSecretScope) error {
	secret, err := getSecret(ctx, r.Live, s.secretKey())
	if err != nil {
		return err
	}
	if secret != nil {
		free, err := r.ownSecret(ctx, s, secret)
		if err != nil || !free {
			return err
		}
	}
	decision := decideKeys(s.object, secret, s.now, keyring.New)
	desired, err := r.desired(s, secret, decision)
	if err != nil {
		return err
	}
	if secret == nil || !equality.Semantic.DeepEqual(secret, desired) {
		// A write is rare, and must not follow from a stale cache.
		if err := r.refresh(ctx, s); err != nil || s.gone {
			return err
		}
		decision = decideKeys(s.object, secret, s.now, keyring.New)
		if desired, err = r.desired(s, secret, decision); err != nil {
			return err
		}
		if frozen(secret, desired) {
			r.reportImmutable(s, secret)
			return nil
		}
		if err := r.write(ctx, s, secret, desired, decision); err != nil {
			return err
		}
	}
	s.keys = &decision
	s.requeue.at(decision.nextExpiry)
	s.requeue.at(decision.nextRotation)
	s.readiness = keyAvailable(s.object.GetSecretName())
	return nil
}

// reportImmutable sets the readiness for an immutable Secret whose keys have to change.
func (r *PostbackSecretReconciler) reportImmutable(s *postbackSecretScope, secret *corev1.Secret) {
	s.previousSigns = len(keyring.Read(secret, remembered(s.object), s.now).Previous) > 0
	s.requeue.in(r.PollInterval)
	s.readiness = secretImmutable(secret.Name)
}

// ownSecret reports whether the core Secret belongs to the PostbackSecret. Otherwise it sets the readiness.
func (r *PostbackSecretReconciler) ownSecret(ctx context.Context, s *postbackSecretScope, secret *corev1.Secret) (bool, error) {
	whose, err := ownershipOf(ctx, r.Live, secret, s.object.UID, "PostbackSecret", &v1alpha1.PostbackSecret{})
	if err != nil {
		return false, err
	}
	switch whose {
	case ownedByUs:
		return true, nil
	case ownedByNobody:
		if keyring.Restorable(secret) {
			s.adopted = true
			return true, nil
		}
		r.reportNotOwned(s, secret)
	case ownedByNobodyLeft:
		s.requeue.in(requeueSoon)
		s.readiness = secretTerminating(secret.Name)
	case ownedByOthers:
		r.reportNotOwned(s, secret)
	}
	return false, nil
}

// reportNotOwned sets the readiness for a Secret of another owner.
func (r *PostbackSecretReconciler) reportNotOwned(s *postbackSecretScope, secret *corev1.Secret) {
	s.requeue.in(r.PollInterval)
	s.readiness = secretNotOwned(s.object, secret.Name)
}

// refresh replaces the cached object by the live one.
func (r *PostbackSecretReconciler) refresh(ctx context.Context, s *postbackSecretScope) error {
	object := &v1alpha1.PostbackSecret{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.object), object)
	if apierrors.IsNotFound(err) || err == nil && (object.UID != s.object.UID || object.DeletionTimestamp != nil) {
		s.gone = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("get PostbackSecret: %w", err)
	}
	s.use(object)
	return nil
}

// desired returns the desired core Secret. It keeps the fields of an existing Secret that the operator does not own.
func (r *PostbackSecretReconciler) desired(s *postbackSecretScope, secret *corev1.Secret, decision keyDecision) (*corev1.Secret, error) {
	desired := secret.DeepCopy()
	if desired == nil {
		key := s.secretKey()
		desired = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
			Type:       corev1.SecretTypeOpaque,
		}
	}
	if secret == nil || s.adopted {
		if err := controllerutil.SetControllerReference(s.object, desired, r.Scheme); err != nil {
			return nil, fmt.Errorf("own Secret %s: %w", s.secretKey(), err)
		}
	}
	addLabels(desired, true)
	decision.keyring.Write(desired)
	return desired, nil
}

// write makes the one write of a pass. The desired Secret has the resourceVersion of the Secret that the decision
// read.
func (r *PostbackSecretReconciler) write(ctx context.Context, s *postbackSecretScope, secret, desired *corev1.Secret, decision keyDecision) error {
	var err error
	if secret == nil {
		err = r.Client.Create(ctx, desired)
	} else {
		err = r.Client.Update(ctx, desired)
	}
	if err != nil {
		return fmt.Errorf("write Secret %s: %w", klog.KObj(desired), err)
	}
	logChange(ctx, s, secret, desired, decision)
	if s.adopted {
		logf.FromContext(ctx).Info("Signing key adopted", audit.Key, audit.KeyAdoptedAction, "secret", klog.KObj(desired), "version", decision.keyring.Version)
		r.Events.Eventf(s.object, nil, corev1.EventTypeNormal, v1alpha1.KeyAdoptedReason, "AdoptKey",
			"Secret %q had no owner, as after a restore: its signing key %d stays in use", desired.Name, decision.keyring.Version)
	}
	r.recordChange(s, desired.Name, decision)
	return nil
}

// logChange logs and counts the change of a Secret's keys. secret is the Secret before the change, or nil.
func logChange(ctx context.Context, s *postbackSecretScope, secret, desired *corev1.Secret, decision keyDecision) {
	keys := decision.keyring
	log := logf.FromContext(ctx).WithValues("secret", klog.KObj(desired), "version", keys.Version, "previousKeys", len(keys.Previous))
	if cause := decision.change.cause(); cause != "" {
		keysMade.WithLabelValues(cause).Inc()
		log.Info("Signing key made", audit.Key, audit.KeyMadeAction, "cause", cause)
	} else {
		log.Info("Secret written")
	}
	if secret == nil {
		return
	}
	signs := map[string]bool{}
	for _, key := range keys.Keys() {
		signs[key] = true
	}
	ended := 0
	for _, key := range keyring.Read(secret, remembered(s.object), s.now).Keys() {
		if key != "" && !signs[key] {
			ended++
		}
	}
	if ended > 0 {
		log.Info("Signing keys ended", audit.Key, audit.KeyEndedAction, "count", ended)
	}
}

func (r *PostbackSecretReconciler) recordChange(s *postbackSecretScope, secretName string, decision keyDecision) {
	version := decision.keyring.Version
	switch decision.change {
	case keyFirst:
		r.Events.Eventf(s.object, nil, corev1.EventTypeNormal, v1alpha1.KeyGeneratedReason, "GenerateKey",
			"Made signing key %d in Secret %q", version, secretName)
	case keyRequested, keyScheduled:
		r.Events.Eventf(s.object, nil, corev1.EventTypeNormal, v1alpha1.KeyRotatedReason, "RotateKey",
			"Made signing key %d (%s); previous keys that keep signing: %d", version, decision.change, len(decision.keyring.Previous))
	case keyLost:
		r.Events.Eventf(s.object, nil, corev1.EventTypeWarning, v1alpha1.KeyReplacedReason, "GenerateKey",
			"Secret %q, or the key in it, was removed or spoiled: made signing key %d, which receivers do not know yet", secretName, version)
	case keyKept:
	}
}

func (r *PostbackSecretReconciler) reconcileExternal(ctx context.Context, s *postbackSecretScope) error {
	if asked := requested(s.object); asked.Beyond(handledBefore(s.object)) {
		s.refused = asked
	}
	secret, err := getSecret(ctx, r.Live, s.secretKey())
	if err != nil {
		return err
	}
	if secret == nil || !hasWatchLabel(secret) {
		s.requeue.in(r.PollInterval)
	}
	if secret == nil {
		s.readiness = keySecretNotFound(s.object.GetSecretName())
		return nil
	}
	keys, err := keyring.External(secret)
	notFound, missing := errors.AsType[*keyring.NotFoundError](err)
	switch {
	case missing:
		s.readiness = keyNotFound(notFound)
	case err != nil:
		s.readiness = invalidKey(err)
	default:
		s.previousSigns = len(keys) > 1
		s.readiness = keyAvailable(secret.Name)
	}
	return nil
}
