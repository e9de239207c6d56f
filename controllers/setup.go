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

// Package controllers turns Postbacks and PostbackSecrets into signing keys and routes for the dispatcher.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/watched"
)

const (
	// DefaultPollInterval is the interval of reads of a Secret whose changes are not watched.
	DefaultPollInterval = time.Minute
	// recorderName is the reportingController of Kubernetes Events.
	recorderName = "postback-manager"
	// concurrency is the number of objects of one kind that are reconciled at a time.
	concurrency = 4
	// passTimeout bounds one pass: one reconciliation of one object.
	passTimeout = time.Minute
	// firstRetry and lastRetry bound the wait after a failed pass, which doubles each time. Every object is therefore
	// reconciled at most lastRetry after an outage of the API server.
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Options configure the controllers.
type Options struct {
	// Namespace of the installation, which holds the routes and the dispatcher's Leases.
	Namespace string
	// Watched are the namespaces whose objects are reconciled.
	Watched watched.Namespaces
	Policy  Policy
	// PollInterval is the interval of reads of a Secret whose changes are not watched.
	PollInterval time.Duration
	// Version reads the present resourceVersion of the Secrets of Namespace from the API server, consistently.
	Version func(context.Context) (string, error)
	Clock   clock.Clock
	// Metrics, if set, gets the gauges of Postbacks and PostbackSecrets.
	Metrics prometheus.Registerer
}

// CacheOptions keep unneeded objects out of the manager's cache. The cache has only Secrets with
// v1alpha1.WatchLabel, and only Leases of dispatcher replicas.
func CacheOptions(namespace string, namespaces watched.Namespaces) cache.Options {
	return cache.Options{
		DefaultTransform:  cache.TransformStripManagedFields(),
		DefaultNamespaces: namespaces.Cache(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				// Routes, and the certificate of ingest, are Secrets of the installation.
				Namespaces: namespaces.Cache(namespace),
				Label:      labels.SelectorFromSet(labels.Set{v1alpha1.WatchLabel: "true"}),
			},
			&coordinationv1.Lease{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Label:      labels.SelectorFromSet(labels.Set{v1alpha1.ReplicaLabel: "true"}),
			},
		},
		// A read that would start a new informer by accident fails instead.
		ReaderFailOnMissingInformer: true,
	}
}

// Watches are the objects to list and watch in each namespace.
func Watches() []schema.GroupResource {
	return []schema.GroupResource{
		{Group: v1alpha1.GroupVersion.Group, Resource: "postbacks"},
		{Group: v1alpha1.GroupVersion.Group, Resource: "postbacksecrets"},
		{Resource: "secrets"},
	}
}

// ClientOptions keep the manager's client from reading Secrets from the cache.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}}
}

// For the manager's own election:
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=postback-system
// +kubebuilder:rbac:groups="",resources=events,verbs=create,namespace=postback-system

// Setup adds the controllers to a manager that was made with CacheOptions and ClientOptions.
func Setup(ctx context.Context, mgr manager.Manager, o Options) error {
	switch {
	case o.Namespace == "":
		return errors.New("the namespace of the installation is not given")
	case o.PollInterval < time.Second:
		return fmt.Errorf("a poll interval of %s is too short: at least 1s", o.PollInterval)
	case o.Policy.SignatureHeader == "":
		return errors.New("the signature header is not given")
	case o.Version == nil:
		return errors.New("a read of the version of the Secrets is not given")
	}
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	writer := client.WithFieldOwner(mgr.GetClient(), v1alpha1.ManagerFieldOwner)
	recorder := mgr.GetEventRecorder(recorderName)
	l := lookup{cache: mgr.GetCache(), namespace: o.Namespace, watched: o.Watched}
	secrets := &PostbackSecretReconciler{
		Client: writer, Live: mgr.GetAPIReader(), Scheme: mgr.GetScheme(), Events: recorder, Clock: o.Clock, PollInterval: o.PollInterval,
	}
	if err := setupPostbackSecrets(mgr, secrets, l); err != nil {
		return fmt.Errorf("set up the PostbackSecret controller: %w", err)
	}
	postbacks := &PostbackReconciler{
		Client: writer, Live: mgr.GetAPIReader(), Scheme: mgr.GetScheme(), Events: recorder, Clock: o.Clock,
		Replicas:  newReplicas(mgr.GetCache(), o.Version, o.Clock),
		Namespace: o.Namespace, Watched: o.Watched, Policy: o.Policy, PollInterval: o.PollInterval,
	}
	if err := setupPostbacks(mgr, postbacks, l); err != nil {
		return fmt.Errorf("set up the Postback controller: %w", err)
	}
	if o.Metrics == nil {
		return nil
	}
	if err := o.Metrics.Register(&collector{mgr.GetCache(), mgr.Elected(), o.Clock}); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

func controllerOptions() controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: concurrency,
		ReconciliationTimeout:   passTimeout,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	}
}

func setupPostbackSecrets(mgr manager.Manager, r *PostbackSecretReconciler, l lookup) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.PostbackSecret{}, builder.WithPredicates(postbackSecretChanged())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(l.postbackSecretsForSecret)).
		WithOptions(controllerOptions()).
		Complete(r)
}

func setupPostbacks(mgr manager.Manager, r *PostbackReconciler, l lookup) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.Postback{}, builder.WithPredicates(postbackChanged())).
		Watches(&v1alpha1.Postback{}, handler.Funcs{DeleteFunc: l.enqueueRouteOfDeleted}).
		Watches(&v1alpha1.PostbackSecret{}, handler.EnqueueRequestsFromMapFunc(l.postbacksForPostbackSecret), builder.WithPredicates(keysChanged())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(l.postbacksForSecret)).
		WatchesRawSource(r.Replicas).
		WithOptions(controllerOptions()).
		Complete(r)
}
