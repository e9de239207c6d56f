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
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/filter"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// +kubebuilder:rbac:groups=postback.dev,resources=postbacks,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacks/status,verbs=patch
// +kubebuilder:rbac:groups=postback.dev,resources=postbacks/finalizers,verbs=update
// +kubebuilder:rbac:groups=postback.dev,resources=postbacksecrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=postback.dev,resources=postbackdeliveries,verbs=create
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups="",resources=secrets,verbs=delete,namespace=postback-system
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// PostbackReconciler publishes the route of each Postback and reports whether it is in force.
type PostbackReconciler struct {
	Client client.Client
	// Live reads from the API server. Secrets are never read from a cache.
	Live     client.Reader
	Scheme   *runtime.Scheme
	Events   events.EventRecorder
	Clock    clock.PassiveClock
	Replicas *Replicas
	// Namespace is the namespace of the installation, which holds the routes.
	Namespace string
	// Watched are the namespaces whose Postbacks are in the Client's cache.
	Watched watched.Namespaces
	Policy  Policy
	// PollInterval is the pause between two reads of a Secret that is not watched.
	PollInterval time.Duration

	published    publications
	filters      filter.Cache
	redeliveries redeliveries
}

// postbackScope holds the inputs and conclusions of one pass: one reconciliation of one Postback.
type postbackScope struct {
	postback *v1alpha1.Postback
	// before is the object as it was read.
	before  *v1alpha1.Postback
	now     time.Time
	requeue requeue

	// readiness, once it is set, ends the phases.
	readiness *readiness
	// certificateWarning is appended to the message of Ready.
	certificateWarning string
	// handledRotate is the token of a rotation request that was passed on to the PostbackSecret.
	handledRotate   string
	testEvent       *testEventResult
	redeliveryEvent *redeliveryEvent

	resolved  resolved
	published published
}

// resolved holds the objects that the spec refers to.
type resolved struct {
	// secret is the PostbackSecret, or nil if it does not exist or belongs to another owner.
	secret *v1alpha1.PostbackSecret
	keys   []string
	// firstKey is true if the operator generated the key, and the PostbackSecret records no earlier one.
	firstKey bool
	// secrets caches the Secrets that the spec names; nil stands for a missing one.
	secrets map[string]*corev1.Secret
	headers []route.Header
	auth    *route.Auth
	tls     *route.TLS
}

// published is the route as the dispatcher can read it.
type published struct {
	// route is the route in force, and secret is its Secret. Both are nil if there is no route, or it was not read.
	route  *route.Route
	secret *corev1.Secret
	// removed is true if the pass removed the route, because the dispatcher must not use it.
	removed bool
	// outdated is true if the route is missing or wrong, and the pass did not repair it.
	outdated bool
}

// phase is a step of a pass. It ends the pass by an error, or by setting the readiness.
type phase func(context.Context, *postbackScope) error

// Reconcile publishes one Postback's route and updates its status.
func (r *PostbackReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if !r.Watched.Has(req.Namespace) {
		return finish(ctx, requeue{}, r.removeLeftover(ctx, req.NamespacedName))
	}
	postback := &v1alpha1.Postback{}
	err := r.Client.Get(ctx, req.NamespacedName, postback)
	if apierrors.IsNotFound(err) {
		r.Replicas.forget(req.NamespacedName)
		return finish(ctx, requeue{}, r.removeLeftover(ctx, req.NamespacedName))
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("get Postback: %w", err)
	}
	now := r.Clock.Now()
	s := &postbackScope{postback: postback, now: now, requeue: requeue{now: now}}
	if !postback.DeletionTimestamp.IsZero() {
		return finish(ctx, s.requeue, r.reconcileDelete(ctx, s))
	}
	if err := r.ensureFinalizer(ctx, postback); err != nil {
		failures := []error{err, r.keepRoute(ctx, s)}
		if s.readiness = readinessOfRefusal(err); s.readiness != nil {
			s.before = postback.DeepCopy()
			failures = append(failures, r.updateStatus(ctx, s))
		}
		return finish(ctx, s.requeue, failures...)
	}
	s.before = postback.DeepCopy()

	failures := r.runPhases(ctx, s)
	if refused := readinessOfRefusal(failures...); refused != nil {
		s.readiness = refused
	}
	failures = append(failures, r.reconcileTestEvent(ctx, s))
	failures = append(failures, r.reconcileRedelivery(ctx, s))
	failures = append(failures, r.updateStatus(ctx, s))
	return finish(ctx, s.requeue, failures...)
}

// runPhases runs the phases up to the first that ends the pass; the last good route then stays in force. It returns
// each failure separately, because finish distinguishes them.
func (r *PostbackReconciler) runPhases(ctx context.Context, s *postbackScope) []error {
	for _, step := range []phase{
		r.checkSpec, r.reconcilePostbackSecret, r.passOnRotation, r.checkFilter, r.reconcileKeys, r.reconcileHeaders,
		r.reconcileAuth, r.reconcileTLS,
	} {
		err := step(ctx, s)
		switch {
		case s.published.removed:
			return nil
		case err != nil || s.readiness != nil:
			return []error{err, r.keepRoute(ctx, s)}
		}
	}
	if err := r.reconcileRoute(ctx, s); err != nil {
		return []error{err}
	}
	if err := r.observeRoute(ctx, s); err != nil {
		return []error{err}
	}
	return nil
}

// ensureFinalizer adds the finalizer that keeps the Postback until its route is deleted.
func (r *PostbackReconciler) ensureFinalizer(ctx context.Context, postback *v1alpha1.Postback) error {
	before := postback.DeepCopy()
	if !controllerutil.AddFinalizer(postback, v1alpha1.RouteFinalizer) {
		return nil
	}
	return r.patchFinalizers(ctx, before, postback)
}

func (r *PostbackReconciler) patchFinalizers(ctx context.Context, before, postback *v1alpha1.Postback) error {
	// The patch replaces the whole list, so it has to fail if another finalizer was added since.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, postback, patch); err != nil {
		return fmt.Errorf("patch finalizers of Postback: %w", err)
	}
	return nil
}

// reconcileDelete removes the route, then the finalizer. Garbage collection deletes everything else.
func (r *PostbackReconciler) reconcileDelete(ctx context.Context, s *postbackScope) error {
	if !controllerutil.ContainsFinalizer(s.postback, v1alpha1.RouteFinalizer) {
		return nil
	}
	r.redeliveries.forget(s.postback.UID)
	if err := r.removeRoute(ctx, s.postback); err != nil {
		return err
	}
	before := s.postback.DeepCopy()
	controllerutil.RemoveFinalizer(s.postback, v1alpha1.RouteFinalizer)
	if err := r.patchFinalizers(ctx, before, s.postback); err != nil {
		return client.IgnoreNotFound(err)
	}
	logf.FromContext(ctx).Info("Postback released")
	return nil
}
