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
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// postbackChanged passes changes of a Postback that concern the manager. Only the dispatcher writes the condition
// EndpointHealthy, status.waiting and status.backlog, which may change often.
func postbackChanged() predicate.Predicate {
	return toLookAt(func(p *v1alpha1.Postback) any {
		status := p.Status
		status.Waiting, status.Backlog = nil, nil
		status.Conditions = slices.DeleteFunc(slices.Clone(status.Conditions), func(c metav1.Condition) bool {
			return c.Type == v1alpha1.EndpointHealthyCondition
		})
		return status
	},
		v1alpha1.RotateSecretAnnotation, v1alpha1.SendTestAnnotation, v1alpha1.RedeliverSinceAnnotation)
}

// postbackSecretChanged passes changes of a PostbackSecret that concern its own controller.
func postbackSecretChanged() predicate.Predicate {
	return toLookAt(func(s *v1alpha1.PostbackSecret) any { return s.Status }, v1alpha1.RotateSecretAnnotation, v1alpha1.PassedRotateSecretAnnotation)
}

// toLookAt passes deletions, and changes of the spec, of the named annotations, or of the status.
//
// The controller itself writes the status. A pass over a stale cache compares with the old status, and may omit a
// necessary write. The event of the newer status triggers another pass, which makes it. A pass that finds no
// difference writes nothing and is the last.
func toLookAt[T client.Object](status func(T) any, annotations ...string) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(T)
		if !ok {
			return false
		}
		after, ok := e.ObjectNew.(T)
		if !ok {
			return false
		}
		if before.GetUID() != after.GetUID() || before.GetGeneration() != after.GetGeneration() ||
			!before.GetDeletionTimestamp().Equal(after.GetDeletionTimestamp()) {
			return true
		}
		for _, name := range annotations {
			if before.GetAnnotations()[name] != after.GetAnnotations()[name] {
				return true
			}
		}
		return !equality.Semantic.DeepEqual(status(before), status(after))
	}}
}

// keysChanged passes changes of a PostbackSecret that may change the keys or the status of Postbacks that use it.
func keysChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.PostbackSecret)
		if !ok {
			return false
		}
		after, ok := e.ObjectNew.(*v1alpha1.PostbackSecret)
		if !ok {
			return false
		}
		return before.UID != after.UID || before.Generation != after.Generation ||
			!before.DeletionTimestamp.Equal(after.DeletionTimestamp) ||
			before.Status.Version != after.Status.Version || before.Status.PreviousVersion != after.Status.PreviousVersion ||
			readyCondition(before) != readyCondition(after)
	}}
}

// readyCondition returns status, reason and message of the condition Ready, without its times and generation.
func readyCondition(secret *v1alpha1.PostbackSecret) [3]string {
	condition := meta.FindStatusCondition(secret.Status.Conditions, v1alpha1.ReadyCondition)
	if condition == nil {
		condition = &metav1.Condition{}
	}
	return [3]string{string(condition.Status), condition.Reason, condition.Message}
}
