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

// Package delivery makes PostbackDeliveries and derives their status from attempts: the phase, the schedule and the
// conditions. It also writes that status.
package delivery

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/format"
)

var nameEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Name returns the name of the delivery of an event for a Postback: the Postback's name and a 128-bit hash of its UID
// and the event's id. Storing the same event twice therefore makes one delivery.
func Name(postback v1alpha1.PostbackReference, eventID string) string {
	sum := sha256.Sum256([]byte(string(postback.UID) + "\x00" + eventID))
	return postback.Name + "-" + strings.ToLower(nameEncoding.EncodeToString(sum[:16]))
}

// New returns the delivery of an event for a Postback, which owns it. The body has the format f; "" means JSON. An
// unknown format is an error.
func New(namespace string, postback v1alpha1.PostbackReference, f v1alpha1.PayloadFormat, e *event.Event) (*v1alpha1.PostbackDelivery, error) {
	body, err := format.Body(f, namespace, e)
	if err != nil {
		return nil, err
	}
	return FromSpec(namespace, v1alpha1.PostbackDeliverySpec{
		PostbackRef: postback,
		Event: v1alpha1.EventReference{
			ID:        e.ID,
			Type:      e.Type,
			CreatedAt: metav1.NewMicroTime(e.CreatedAt.UTC()),
		},
		Body:   string(body),
		Format: f,
	}), nil
}

// FromSpec returns the delivery with a spec. Its name, labels and owner follow from the spec.
func FromSpec(namespace string, spec v1alpha1.PostbackDeliverySpec) *v1alpha1.PostbackDelivery {
	postback := spec.PostbackRef
	labels := v1alpha1.OwnLabels()
	labels[v1alpha1.PostbackLabel], labels[v1alpha1.EventTypeLabel] = postback.Name, spec.Event.Type
	return &v1alpha1.PostbackDelivery{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      Name(postback, spec.Event.ID),
			Labels:    labels,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(),
				Kind:       "Postback",
				Name:       postback.Name,
				UID:        postback.UID,
				Controller: ptr.To(true),
			}},
		},
		Spec: spec,
	}
}
