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
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// desiredRoute returns the route of a Postback with its keys, headers, credentials and certificates.
func desiredRoute(postback *v1alpha1.Postback, from *resolved) *route.Route {
	spec := &postback.Spec
	triggers := slices.Clone(spec.Triggers)
	slices.Sort(triggers)
	delivered, failed, ttl := spec.GetHistory()
	return &route.Route{
		Namespace:     postback.Namespace,
		Name:          postback.Name,
		UID:           postback.UID,
		Generation:    postback.Generation,
		URL:           spec.URL,
		Triggers:      triggers,
		State:         spec.GetState(),
		Headers:       from.headers,
		Auth:          from.auth,
		TLS:           from.tls,
		Signatures:    spec.GetSignatures(),
		Keys:          from.keys,
		Timeout:       metav1.Duration{Duration: spec.GetTimeout()},
		MaxAttempts:   spec.GetMaxAttempts(),
		GiveUpAfter:   metav1.Duration{Duration: spec.GetGiveUpAfter()},
		MaxPending:    spec.GetMaxPending(),
		MaxPendingSet: spec.Limits != nil && spec.Limits.MaxPending != nil,
		Filter:        spec.Filter,
		Format:        spec.GetFormat(),
		MaxConcurrent: spec.GetMaxConcurrent(),
		PerSecond:     spec.GetPerSecond(),
		History:       route.History{Delivered: delivered, Failed: failed, TTL: metav1.Duration{Duration: ttl}},
	}
}

func (r *PostbackReconciler) routeKey(postback *v1alpha1.Postback) types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: route.SecretName(postback.UID)}
}

// reconcileRoute brings the route Secret to its desired state, with at most one write.
func (r *PostbackReconciler) reconcileRoute(ctx context.Context, s *postbackScope) error {
	want := desiredRoute(s.postback, &s.resolved)
	current, err := getSecret(ctx, r.Live, r.routeKey(s.postback))
	if err != nil {
		return err
	}
	want.EndpointGeneration = endpointGeneration(current, want)
	desired, err := want.ToSecret(r.Namespace)
	switch {
	case err != nil:
		return err
	case current == nil:
		s.published.outdated = true
		err = r.createRoute(ctx, s, desired)
	case current.Type != route.SecretType:
		// The type of a Secret cannot be changed. The next pass creates the Secret again.
		s.published.outdated = true
		s.requeue.in(minRequeue)
		return r.deleteRoute(ctx, current)
	default:
		desired, err = r.updateRoute(ctx, s, want, current, desired)
	}
	if err != nil {
		return err
	}
	s.published.route, s.published.secret, s.published.outdated = want, desired, false
	return nil
}

// endpointGeneration returns the generation in which the Postback got its present URL. It reads the Secret of the
// previous route, which may be nil. The dispatcher ignores answers of the endpoint of an earlier URL.
func endpointGeneration(current *corev1.Secret, want *route.Route) int64 {
	if current != nil {
		have, err := route.FromSecret(current)
		if err == nil && have.URL == want.URL && have.EndpointGeneration > 0 && have.EndpointGeneration <= want.Generation {
			return have.EndpointGeneration
		}
	}
	return want.Generation
}

func (r *PostbackReconciler) createRoute(ctx context.Context, s *postbackScope, desired *corev1.Secret) error {
	// A stale cache may show a deleted Postback. Nobody would ever remove its route.
	present, err := r.livePostback(ctx, s)
	if err != nil {
		return err
	}
	if present.DeletionTimestamp != nil || !controllerutil.ContainsFinalizer(present, v1alpha1.RouteFinalizer) {
		return staleCache(s.postback)
	}
	r.published.forget(s.postback.UID)
	if err := r.Client.Create(ctx, desired); err != nil {
		return fmt.Errorf("create route Secret: %w", err)
	}
	r.published.note(s.postback.UID, desired.ResourceVersion)
	logf.FromContext(ctx).Info("Route published", audit.Key, audit.RoutePublishedAction,
		"secret", klog.KObj(desired), "generation", s.postback.Generation, "keys", len(s.resolved.keys), "state", s.postback.Spec.GetState())
	return nil
}

// updateRoute updates the route Secret if necessary, and returns the result.
func (r *PostbackReconciler) updateRoute(ctx context.Context, s *postbackScope, want *route.Route, current, desired *corev1.Secret) (*corev1.Secret, error) {
	have, err := route.FromSecret(current)
	if err != nil {
		logf.FromContext(ctx).Info("Repairing an invalid route Secret", "secret", klog.KObj(current), "reason", err.Error())
		have = &route.Route{}
	}
	if have.Generation > want.Generation {
		// Either the cache is stale, or somebody edited the route.
		if _, err := r.livePostback(ctx, s); err != nil {
			return nil, err
		}
		logf.FromContext(ctx).Info("Repairing a route Secret of a generation that does not exist", "secret", klog.KObj(current), "generation", have.Generation)
	}
	onlyKeys := sameButKeys(*have, want)
	if onlyKeys {
		// Ready needs only that replicas have loaded this version of the Secret, or a later one of the same
		// generation.
		r.published.note(s.postback.UID, current.ResourceVersion)
	}
	changed := current.DeepCopy()
	changed.Data = desired.Data
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	maps.Copy(changed.Labels, desired.Labels)
	if route.SameData(current, changed) && equality.Semantic.DeepEqual(current.Labels, changed.Labels) {
		return current, nil
	}
	if !onlyKeys {
		s.published.outdated = true
		r.published.forget(s.postback.UID)
	}
	if err := r.Client.Update(ctx, changed); err != nil {
		return nil, fmt.Errorf("update route Secret: %w", err)
	}
	r.published.note(s.postback.UID, changed.ResourceVersion)
	logf.FromContext(ctx).Info("Route published", audit.Key, audit.RoutePublishedAction,
		"secret", klog.KObj(changed), "generation", s.postback.Generation, "keys", len(want.Keys), "state", want.State)
	logState(ctx, have.State, want.State)
	if keysReplaced(s, have.Keys, want.Keys) {
		logf.FromContext(ctx).Info("Signing keys replaced", audit.Key, audit.KeyReplacedAction, "secret", s.resolved.secret.GetSecretName())
		r.Events.Eventf(s.postback, s.resolved.secret, corev1.EventTypeWarning, v1alpha1.KeyReplacedReason, "ReplaceKey",
			"The Postback now signs only with a new key of Secret %q: receivers do not know it yet", s.resolved.secret.GetSecretName())
	}
	return changed, nil
}

// keysReplaced reports whether a route loses every key that receivers know, by one of two causes: the PostbackSecret
// was deleted, so its key has version 1 again, or the reference changed. The PostbackSecret itself reports rotations.
func keysReplaced(s *postbackScope, have, want []string) bool {
	if len(have) == 0 || slices.ContainsFunc(want, func(key string) bool { return slices.Contains(have, key) }) {
		return false
	}
	return s.resolved.firstKey || s.before.Status.SecretName != s.resolved.secret.GetSecretName()
}

// sameButKeys reports whether two routes differ at most in keys and values from Secrets. It also ignores the
// generation of the endpoint, which a route of an earlier version of the operator lacks.
func sameButKeys(have route.Route, want *route.Route) bool {
	have.Keys, have.Headers, have.Auth, have.TLS = want.Keys, want.Headers, want.Auth, want.TLS
	have.EndpointGeneration = want.EndpointGeneration
	return equality.Semantic.DeepEqual(&have, want)
}

// livePostback reads the Postback from the API server. It fails with a conflict if its UID or generation is not the
// one that this pass read.
func (r *PostbackReconciler) livePostback(ctx context.Context, s *postbackScope) (*v1alpha1.Postback, error) {
	present := &v1alpha1.Postback{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.postback), present)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("get Postback before its route is written: %w", err)
	}
	if err != nil || present.UID != s.postback.UID || present.Generation != s.postback.Generation {
		return nil, staleCache(s.postback)
	}
	return present, nil
}

// staleCache returns the conflict that ends a pass over an outdated Postback from the cache.
func staleCache(postback *v1alpha1.Postback) error {
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("postbacks").GroupResource(), postback.Name,
		errors.New("the cache lags behind"))
}

// keepRoute leaves the last good route in force, except for the state: a paused Postback must not send.
func (r *PostbackReconciler) keepRoute(ctx context.Context, s *postbackScope) error {
	current, err := getSecret(ctx, r.Live, r.routeKey(s.postback))
	if err != nil {
		return err
	}
	if current == nil {
		s.published.outdated = true
		return nil
	}
	kept, err := route.FromSecret(current)
	if err != nil {
		// The route cannot be repaired without keys. The dispatcher keeps the route that it has loaded.
		logf.FromContext(ctx).Info("The route Secret is invalid", "secret", klog.KObj(current), "reason", err.Error())
		s.published.outdated = true
		return nil
	}
	if state := s.postback.Spec.GetState(); kept.State != state {
		// A stale cache must not bring back an old state.
		if _, err := r.livePostback(ctx, s); err != nil {
			return err
		}
		was := kept.State
		kept.State = state
		changed, err := kept.ToSecret(r.Namespace)
		if err != nil {
			return err
		}
		current.Data = changed.Data
		if err := r.Client.Update(ctx, current); err != nil {
			return fmt.Errorf("update the state in route Secret: %w", err)
		}
		logState(ctx, was, state)
	}
	s.published.route, s.published.secret = kept, current
	return nil
}

// removeRoute deletes the route, if there is one.
func (r *PostbackReconciler) removeRoute(ctx context.Context, postback *v1alpha1.Postback) error {
	current, err := getSecret(ctx, r.Live, r.routeKey(postback))
	if err != nil {
		return err
	}
	if current != nil {
		if err := r.deleteRoute(ctx, current); err != nil {
			return err
		}
	}
	r.published.forget(postback.UID)
	return nil
}

// deleteRoute deletes the Secret only in the version that was read.
func (r *PostbackReconciler) deleteRoute(ctx context.Context, seen *corev1.Secret) error {
	err := r.Client.Delete(ctx, seen, client.Preconditions{UID: &seen.UID, ResourceVersion: &seen.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete route Secret: %w", err)
	}
	logf.FromContext(ctx).Info("Route removed", audit.Key, audit.RouteRemovedAction, "secret", klog.KObj(seen))
	return nil
}

// logState logs a change of the state in force. was is "" if the previous state is not known.
func logState(ctx context.Context, was, state v1alpha1.PostbackState) {
	if was != state {
		logf.FromContext(ctx).Info("State changed", audit.Key, audit.StateChangedAction, "state", state, "was", was)
	}
}
