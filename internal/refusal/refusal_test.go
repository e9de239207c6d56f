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

package refusal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var deliveries = schema.GroupResource{Group: "postback.dev", Resource: "postbackdeliveries"}

func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func TestOf(t *testing.T) {
	kind := schema.GroupKind{Group: "postback.dev", Kind: "PostbackDelivery"}
	terminating := apierrors.NewForbidden(deliveries, "crm-x", errors.New("the namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	const policy = "ValidatingAdmissionPolicy 'sizes' with binding 'all' denied request: no body beyond 10 bytes"
	const webhook = `admission webhook "validate.kyverno.svc-fail" denied the request: no labels`
	tests := map[string]struct {
		err  error
		kind Kind
		says string
	}{
		"policy, its default":           {status(422, metav1.StatusReasonInvalid, `postbackdeliveries.postback.dev "crm-x" is forbidden: `+policy), Policy, policy},
		"policy, Forbidden":             {status(403, metav1.StatusReasonForbidden, `postbackdeliveries.postback.dev "crm-x" is forbidden: `+policy), Policy, policy},
		"policy, RequestEntityTooLarge": {status(413, metav1.StatusReasonRequestEntityTooLarge, `postbackdeliveries.postback.dev "crm-x" is forbidden: `+policy), Policy, policy},
		"webhook":                       {status(403, metav1.StatusReasonForbidden, webhook), Policy, webhook},
		"webhook, 400":                  {status(400, metav1.StatusReasonBadRequest, webhook), Policy, webhook},
		"webhook that fails":            {status(500, metav1.StatusReasonInternalError, webhook), None, ""},
		"webhook out of reach":          {apierrors.NewInternalError(errors.New(`failed calling webhook "validate.kyverno.svc-fail": connection refused`)), None, ""},
		"another admission plugin":      {apierrors.NewForbidden(deliveries, "crm-x", errors.New("no weekends")), Policy, "no weekends"},
		"plugin that is not ready":      {apierrors.NewForbidden(deliveries, "crm-x", errors.New("not yet ready to handle request")), None, ""},
		"quota":                         {apierrors.NewForbidden(deliveries, "crm-x", errors.New("exceeded quota: all, requested: 1, used: 1, limited: 1")), Quota, "exceeded quota: all, requested: 1, used: 1, limited: 1"},
		"quota that is not counted yet": {apierrors.NewForbidden(deliveries, "crm-x", errors.New("status unknown for quota: all")), None, ""},
		"missing right": {
			apierrors.NewForbidden(deliveries, "", errors.New(`User "system:serviceaccount:a:b" cannot create resource "postbackdeliveries"`)), Forbidden,
			`postbackdeliveries.postback.dev is forbidden: User "system:serviceaccount:a:b" cannot create resource "postbackdeliveries"`,
		},
		"terminating namespace": {terminating, Terminating, ""},
		"missing namespace":     {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "acme"), NotFound, ""},
		"missing kind":          {apierrors.NewNotFound(deliveries, ""), None, ""},
		"invalid, without the value": {
			apierrors.NewInvalid(kind, "crm-x", field.ErrorList{field.Invalid(field.NewPath("spec", "body"), "the body, which is private", "too long")}), Invalid,
			"spec.body: FieldValueInvalid",
		},
		"too large for etcd": {errors.New("etcdserver: request is too large"), TooLarge, ""},
		"too many requests":  {apierrors.NewTooManyRequests("later", 1), None, ""},
		"time out":           {context.DeadlineExceeded, None, ""},
		"wrapped":            {fmt.Errorf("create: %w", status(403, metav1.StatusReasonForbidden, webhook)), Policy, webhook},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if kind, says := Of(test.err); kind != test.kind || says != test.says {
				t.Errorf("got %q, %q; want %q, %q", kind, says, test.kind, test.says)
			}
		})
	}
}

func TestMessageIsBounded(t *testing.T) {
	_, says := Of(status(http.StatusForbidden, metav1.StatusReasonForbidden, `admission webhook "w" denied the request: `+strings.Repeat("ü", 1<<20)))
	if len(says) > maxMessage+len("…") || !strings.HasSuffix(says, "…") {
		t.Errorf("%d bytes: %q", len(says), says[len(says)-10:])
	}
}
