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
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// removeLeftover removes a route Secret whose Postback no longer exists: somebody removed the finalizer, or restored
// the Secret from a backup. It ignores any other key.
func (r *PostbackReconciler) removeLeftover(ctx context.Context, key types.NamespacedName) error {
	if _, ok := route.UIDOf(key.Name); !ok || key.Namespace != r.Namespace {
		return nil
	}
	secret, err := getSecret(ctx, r.Live, key)
	if err != nil || secret == nil || secret.Type != route.SecretType {
		return err
	}
	leftover, err := route.FromSecret(secret)
	if err != nil {
		return nil // The dispatcher does not load an invalid route.
	}
	if !r.Watched.Has(leftover.Namespace) {
		return nil // The manager cannot see that namespace's Postbacks, and the dispatcher does not load the route either.
	}
	postback := &v1alpha1.Postback{}
	err = r.Live.Get(ctx, leftover.Key(), postback)
	if err == nil && postback.UID == leftover.UID {
		return nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get Postback of route Secret %s: %w", key.Name, err)
	}
	r.published.forget(leftover.UID)
	return r.deleteRoute(ctx, secret)
}
