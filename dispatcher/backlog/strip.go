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

package backlog

import (
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

// decidingAnnotations are those by which it is decided what to do with a delivery.
var decidingAnnotations = []string{v1alpha1.RedeliverAnnotation, v1alpha1.PassedRedeliverAnnotation, v1alpha1.DeferredAnnotation}

// strip leaves of a delivery what readers of the cache decide by. What is about to be sent is read from the API server, and
// so is what is about to be written: nothing is ever written back from here.
func strip(d *v1alpha1.PostbackDelivery) {
	*d = v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         shared(d.Namespace),
			Name:              d.Name,
			UID:               d.UID,
			ResourceVersion:   d.ResourceVersion,
			CreationTimestamp: d.CreationTimestamp,
			DeletionTimestamp: d.DeletionTimestamp,
			Annotations:       deciding(d.Annotations),
		},
		Spec: v1alpha1.PostbackDeliverySpec{
			PostbackRef: v1alpha1.PostbackReference{
				Name: shared(d.Spec.PostbackRef.Name),
				UID:  types.UID(shared(string(d.Spec.PostbackRef.UID))),
			},
			Test: d.Spec.Test,
		},
		Status: v1alpha1.PostbackDeliveryStatus{
			Phase:                            v1alpha1.DeliveryPhase(shared(string(d.Status.Phase))),
			AttemptCount:                     d.Status.AttemptCount,
			NextAttemptTime:                  d.Status.NextAttemptTime,
			Attempts:                         telling(d.Status.Attempts),
			LastHandledRedeliver:             d.Status.LastHandledRedeliver,
			LastHandledRedeliverFromPostback: d.Status.LastHandledRedeliverFromPostback,
		},
	}
}

// shared returns a string that equal ones share the memory of.
func shared(s string) string { return unique.Make(s).Value() }

// deciding returns the annotations that are decided by, which most deliveries have none of.
func deciding(annotations map[string]string) map[string]string {
	var kept map[string]string
	for _, name := range decidingAnnotations {
		if value, ok := annotations[name]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[name] = value
		}
	}
	return kept
}

// telling returns of the newest attempt what it says about the endpoint.
func telling(attempts []v1alpha1.Attempt) []v1alpha1.Attempt {
	last := len(attempts) - 1
	if last < 0 {
		return nil
	}
	return []v1alpha1.Attempt{{
		Outcome:            v1alpha1.Outcome(shared(string(attempts[last].Outcome))),
		RetryAfterTime:     attempts[last].RetryAfterTime,
		PostbackGeneration: attempts[last].PostbackGeneration,
	}}
}
