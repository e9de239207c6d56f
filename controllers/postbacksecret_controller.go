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
	"github.com/postback-dev/postback-operator/controllers/keyring"
	"github.com/postback-dev/postback-operator/internal/audit"
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets/status,verbs=patch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// PostbackSecretReconciler makes and rotates the generated keys, and looks whether the external ones are there.
type PostbackSecretReconciler struct {
	Client client.Client
	// Live reads from the API server. What a key depends on is never decided from a cache.
	Live   client.Reader
	Scheme *runtime.Scheme
	Events events.EventRecorder
	Clock  clock.PassiveClock
	// PollInterval is how often a Secret is looked at whose changes are not watched.
	PollInterval time.Duration
}

// postbackSecretScope is one pass over one PostbackSecret.
type postbackSecretScope struct {
	object *v1alpha1.PostbackSecret
	// before is the object as it was read.
	before *v1alpha1.PostbackSecret
	now    time.Time
	alarm  alarm

	verdict *verdict
	// keys is what a generated Secret holds by now; nil if that is not known.
	keys *keyDecision
	// previousSigns says that a Secret which is not written to, external or immutable, has a previous key.
	previousSigns bool
	// refused are the requests to rotate a key that is not ours.
	refused keyring.Requests
	// gone says that the object has meanwhile been deleted.
	gone bool
}

func (s *postbackSecretScope) use(object *v1alpha1.PostbackSecret) {
	s.object, s.before = object, object.DeepCopy()
}

func (s *postbackSecretScope) secretKey() types.NamespacedName {
	return types.NamespacedName{Namespace: s.object.Namespace, Name: s.object.GetSecretName()}
}

// Reconcile brings one PostbackSecret's core Secret to what it ought to hold, with at most one write, and reports.
func (r *PostbackSecretReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.PostbackSecret{}
	if err := r.Client.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // Its Secret is garbage collected.
	}
	now := r.Clock.Now()
	s := &postbackSecretScope{now: now, alarm: alarm{now: now}}
	s.use(object)

	reconcileKeys := r.reconcileGenerated
	if object.Spec.GetSource() == v1alpha1.SecretExternal {
		reconcileKeys = r.reconcileExternal
	}
	err := reconcileKeys(ctx, s)
	if s.gone {
		return ctrl.Result{}, nil
	}
	return finish(ctx, s.alarm, err, r.updateStatus(ctx, s))
}

func (r *PostbackSecretReconciler) reconcileGenerated(ctx context.Context, s *postbackSecretScope) error {
	secret, err := getSecret(ctx, r.Live, s.secretKey())
	if err != nil {
		return err
	}
	if secret != nil {
		free, err := r.mayTouch(ctx, s, secret)
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
		// A write is rare, and must not follow from a cache that lags.
		if err := r.refresh(ctx, s); err != nil || s.gone {
			return err
		}
		decision = decideKeys(s.object, secret, s.now, keyring.New)
		if desired, err = r.desired(s, secret, decision); err != nil {
			return err
		}
		if frozen(secret, desired) {
			r.judgeFrozen(s, secret)
			return nil
		}
		if err := r.write(ctx, s, secret, desired, decision); err != nil {
			return err
		}
	}
	s.keys = &decision
	s.alarm.at(decision.nextExpiry)
	s.alarm.at(decision.nextRotation)
	s.verdict = ready(v1alpha1.KeyAvailableReason, fmt.Sprintf("Secret %q holds the signing key.", s.object.GetSecretName()))
	return nil
}

// judgeFrozen reports on a Secret whose keys ought to change, and cannot.
func (r *PostbackSecretReconciler) judgeFrozen(s *postbackSecretScope, secret *corev1.Secret) {
	s.previousSigns = len(keyring.Read(secret, remembered(s.object), s.now).Previous) > 0
	s.alarm.in(r.PollInterval)
	s.verdict = stalled(v1alpha1.SecretImmutableReason, fmt.Sprintf("Secret %q has immutable: true, so its keys can be neither replaced nor removed, "+
		"and go on signing. Delete that Secret: a new key is made at once, and no old one signs any more.", secret.Name))
}

// mayTouch reports whether the core Secret is ours, and if not, says so.
func (r *PostbackSecretReconciler) mayTouch(ctx context.Context, s *postbackSecretScope, secret *corev1.Secret) (bool, error) {
	whose, err := ownershipOf(ctx, r.Live, secret, s.object.UID, "PostbackSecret", &v1alpha1.PostbackSecret{})
	if err != nil {
		return false, err
	}
	switch whose {
	case ownedByUs:
		return true, nil
	case ownedByNobodyLeft:
		s.alarm.in(lookAgain)
		s.verdict = waiting(v1alpha1.SecretTerminatingReason,
			fmt.Sprintf("Secret %q of an earlier PostbackSecret is being deleted; a new one follows.", secret.Name))
	case ownedByOthers:
		s.alarm.in(r.PollInterval)
		s.verdict = stalled(v1alpha1.SecretNotOwnedReason, fmt.Sprintf("Secret %q exists and is not owned by this PostbackSecret, "+
			"which therefore leaves it alone. %s", secret.Name, wayAround(s.object)))
	}
	return false, nil
}

// wayAround says what to do about a Secret that is not ours.
func wayAround(object *v1alpha1.PostbackSecret) string {
	owner := metav1.GetControllerOf(object)
	if owner == nil || owner.Kind != "Postback" {
		return "Delete that Secret, make a PostbackSecret with another spec.secretName, or use source External."
	}
	return fmt.Sprintf("Delete that Secret, or make a PostbackSecret of another name, with another spec.secretName or source External, "+
		"and name it in the Postback's spec.secretRef (Postback %q).", owner.Name)
}

// refresh replaces the cached object by the present one.
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

// desired returns the core Secret as it ought to be. Where there is one, everything that is not ours stays.
func (r *PostbackSecretReconciler) desired(s *postbackSecretScope, secret *corev1.Secret, decision keyDecision) (*corev1.Secret, error) {
	desired := secret.DeepCopy()
	if desired == nil {
		key := s.secretKey()
		desired = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
			Type:       corev1.SecretTypeOpaque,
		}
		if err := controllerutil.SetControllerReference(s.object, desired, r.Scheme); err != nil {
			return nil, fmt.Errorf("own Secret %s: %w", key, err)
		}
	}
	addLabels(desired, true)
	decision.keyring.Write(desired)
	return desired, nil
}

// write makes the one write of a pass. It carries the resourceVersion of what was decided upon.
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
	r.tellChange(s, desired.Name, decision)
	return nil
}

// logChange writes down, and counts, what became of the keys of a Secret, which is nil if it was not there before.
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

func (r *PostbackSecretReconciler) tellChange(s *postbackSecretScope, secretName string, decision keyDecision) {
	version := decision.keyring.Version
	switch decision.change {
	case keyFirst:
		r.Events.Eventf(s.object, nil, corev1.EventTypeNormal, v1alpha1.KeyGeneratedReason, "GenerateKey",
			"Made signing key %d in Secret %q", version, secretName)
	case keyRequested, keyScheduled:
		r.Events.Eventf(s.object, nil, corev1.EventTypeNormal, v1alpha1.KeyRotatedReason, "RotateKey",
			"Made signing key %d (%s); previous keys that go on signing: %d", version, decision.change, len(decision.keyring.Previous))
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
		s.alarm.in(r.PollInterval)
	}
	if secret == nil {
		s.verdict = waiting(v1alpha1.KeyNotFoundReason, fmt.Sprintf("Secret %q does not exist yet: "+
			"put the signing key into it, under the data key %q.", s.object.GetSecretName(), v1alpha1.SigningKeyName))
		return nil
	}
	keys, err := keyring.External(secret)
	notFound, missing := errors.AsType[*keyring.NotFoundError](err)
	switch {
	case missing:
		s.verdict = waiting(v1alpha1.KeyNotFoundReason, notFound.Error()+" yet: put the signing key there.")
	case err != nil:
		s.verdict = stalled(v1alpha1.InvalidKeyReason, "The "+err.Error()+".")
	default:
		s.previousSigns = len(keys) > 1
		s.verdict = ready(v1alpha1.KeyAvailableReason, fmt.Sprintf("Secret %q holds the signing key.", secret.Name))
	}
	return nil
}
