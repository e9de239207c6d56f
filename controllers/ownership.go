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
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// ownership says who owns an existing object whose name the reconciled object needs.
type ownership int

const (
	// ownedByUs: the reconciled object is its controller.
	ownedByUs ownership = iota
	// ownedByNobodyLeft: it is being deleted, or garbage collection will delete it, because its controller of the
	// same kind is deleted.
	ownedByNobodyLeft
	// ownedByOthers: it has another controller, or the operator did not make it. It must not be changed.
	ownedByOthers
	// ownedByNobody: the operator made it, but it has no controller, because a restore from a backup strips owner references.
	ownedByNobody
)

// ownershipOf finds the owner of an object for the reconciled object with the UID us and that kind. If another object
// of that kind controls it, ownershipOf reads that controller from the API server, into owner. The answer tells
// whether the controller still exists.
func ownershipOf(ctx context.Context, reader client.Reader, object metav1.Object, us types.UID, kind string, owner client.Object) (ownership, error) {
	reference := metav1.GetControllerOf(object)
	switch {
	case reference == nil && object.GetDeletionTimestamp() == nil && hasOwnLabels(object):
		return ownedByNobody, nil
	case reference == nil:
		return ownedByOthers, nil
	}
	if reference.UID == us {
		if object.GetDeletionTimestamp() != nil {
			return ownedByNobodyLeft, nil
		}
		return ownedByUs, nil
	}
	group, err := schema.ParseGroupVersion(reference.APIVersion)
	if err != nil || group.Group != v1alpha1.GroupVersion.Group || reference.Kind != kind {
		return ownedByOthers, nil
	}
	err = reader.Get(ctx, types.NamespacedName{Namespace: object.GetNamespace(), Name: reference.Name}, owner)
	switch {
	case apierrors.IsNotFound(err):
		return ownedByNobodyLeft, nil
	case err != nil:
		return ownedByOthers, fmt.Errorf("get the owner %s %s of %s: %w", kind, reference.Name, object.GetName(), err)
	case owner.GetUID() != reference.UID || owner.GetDeletionTimestamp() != nil:
		return ownedByNobodyLeft, nil
	}
	return ownedByOthers, nil
}

// addLabels adds the labels of the operator's own objects to an object, and with watched also v1alpha1.WatchLabel.
func addLabels(object metav1.Object, watched bool) {
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, v1alpha1.OwnLabels())
	if watched {
		labels[v1alpha1.WatchLabel] = "true"
	}
	object.SetLabels(labels)
}

// hasOwnLabels reports whether an object has the labels of the operator's own objects.
func hasOwnLabels(object metav1.Object) bool {
	labels := object.GetLabels()
	for name, value := range v1alpha1.OwnLabels() {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// hasWatchLabel reports whether the manager watches a Secret, and so sees its changes at once.
func hasWatchLabel(secret metav1.Object) bool {
	return secret.GetLabels()[v1alpha1.WatchLabel] == "true"
}
