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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patchStatus writes the status of after. The write fails with a conflict if the object has changed since before was
// read, so that an old pass never overwrites a newer one. It returns false and no error if the object does not exist.
func patchStatus(ctx context.Context, c client.Client, before, after client.Object) (written bool, err error) {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.Status().Patch(ctx, after, patch); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("patch status of %T %s: %w", after, client.ObjectKeyFromObject(after), err)
	}
	return true, nil
}

// recordFailure emits a Kubernetes Event about a readiness that newFailure reports.
func recordFailure(recorder events.EventRecorder, object runtime.Object, before []metav1.Condition, v *readiness) {
	if newFailure(before, v) {
		recorder.Eventf(object, nil, corev1.EventTypeWarning, v.reason, "Check", "%s", v.message)
	}
}
