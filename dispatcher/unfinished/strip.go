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

package unfinished

import (
	"maps"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/watched"
)

// CacheOptions limit a cache to unfinished deliveries, and to the fields that decisions need. A finished delivery
// leaves the cache, so finished deliveries take no memory.
func CacheOptions(namespaces watched.Namespaces) cache.ByObject {
	return cache.ByObject{
		Namespaces: namespaces.Cache(),
		Field: fields.AndSelectors(
			fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryDelivered)),
			fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.DeliveryFailed)),
		),
		Transform: func(object any) (any, error) {
			if d, ok := object.(*v1alpha1.PostbackDelivery); ok {
				strip(d)
			}
			return object, nil
		},
	}
}

// decidingAnnotations are the annotations that affect decisions about a delivery.
var decidingAnnotations = []string{v1alpha1.RedeliverAnnotation, v1alpha1.PassedRedeliverAnnotation, v1alpha1.DeferredAnnotation}

// strip drops the fields of a delivery that no reader of the cache needs. Senders and writers read the delivery from
// the API server, so no stripped delivery is written back.
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
			OwnerReferences:   owners(d),
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
			Attempts:                         newest(d.Status.Attempts),
			LastHandledRedeliver:             d.Status.LastHandledRedeliver,
			LastHandledRedeliverFromPostback: d.Status.LastHandledRedeliverFromPostback,
		},
	}
}

// owned replaces the owner references of a delivery with a controller. Only deliveries from a backup have no
// controller.
var owned = []metav1.OwnerReference{{Controller: ptr.To(true)}}

func owners(d *v1alpha1.PostbackDelivery) []metav1.OwnerReference {
	if metav1.GetControllerOfNoCopy(d) == nil {
		return nil
	}
	return owned
}

// shared interns a string.
func shared(s string) string { return unique.Make(s).Value() }

// deferred is the annotation map of most deliveries that have annotations. They share it, because a map takes half
// the memory of the rest of a delivery, and there may be a hundred thousand. Like all objects of the cache, it must
// not be changed.
var deferred = map[string]string{v1alpha1.DeferredAnnotation: "true"}

// deciding returns the annotations that are among decidingAnnotations. Most deliveries have none.
func deciding(annotations map[string]string) map[string]string {
	var kept map[string]string
	for _, name := range decidingAnnotations {
		if value, ok := annotations[name]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			if name == v1alpha1.DeferredAnnotation {
				value = "true" // The reason of the deferral does not affect decisions.
			}
			kept[name] = value
		}
	}
	if maps.Equal(kept, deferred) {
		return deferred
	}
	return kept
}

// newest returns the newest attempt, reduced to the fields that describe the endpoint.
func newest(attempts []v1alpha1.Attempt) []v1alpha1.Attempt {
	last := len(attempts) - 1
	if last < 0 {
		return nil
	}
	return []v1alpha1.Attempt{{
		Time:               attempts[last].Time,
		Outcome:            v1alpha1.Outcome(shared(string(attempts[last].Outcome))),
		RetryAfterTime:     attempts[last].RetryAfterTime,
		PostbackGeneration: attempts[last].PostbackGeneration,
	}}
}
