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
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/header"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// secretValue names a value in a Secret of the Postback's namespace.
type secretValue struct {
	secret, key string
	// what describes the value in messages, as in "the value of the header X".
	what string
	// missing is the reason of the condition Ready if the value is missing.
	missing string
}

// where describes the value, with its Secret and data key.
func (w secretValue) where() string {
	return fmt.Sprintf("%s (Secret %q, data key %q)", w.what, w.secret, w.key)
}

// invalid returns the readiness for a value that must not be sent.
func (w secretValue) invalid(reason, mistake string) *readiness {
	return invalidSecretValue(reason, w.where(), mistake)
}

// readValue reads a value from a Secret. It returns a readiness if the Secret or the data key is missing.
func (r *PostbackReconciler) readValue(ctx context.Context, s *postbackScope, w secretValue) (string, *readiness, error) {
	secret, err := r.readReferenced(ctx, s, w.secret)
	if err != nil {
		return "", nil, err
	}
	if secret == nil {
		return "", referenceNotFound(w.missing, w.secret, w.what), nil
	}
	value, ok := secret.Data[w.key]
	if !ok {
		return "", dataKeyNotFound(w.missing, w.secret, w.key, w.what), nil
	}
	return string(value), nil, nil
}

// readReferenced returns a Secret that the spec names, or nil if it does not exist. It reads each Secret once in a
// pass. For a Secret that is not watched it requeues the Postback.
func (r *PostbackReconciler) readReferenced(ctx context.Context, s *postbackScope, name string) (*corev1.Secret, error) {
	if secret, known := s.resolved.secrets[name]; known {
		return secret, nil
	}
	secret, err := getSecret(ctx, r.Live, types.NamespacedName{Namespace: s.postback.Namespace, Name: name})
	if err != nil {
		return nil, err
	}
	if secret == nil || !hasWatchLabel(secret) {
		s.requeue.in(r.PollInterval)
	}
	if s.resolved.secrets == nil {
		s.resolved.secrets = map[string]*corev1.Secret{}
	}
	s.resolved.secrets[name] = secret
	return secret, nil
}

// reconcileHeaders resolves the values of the headers.
func (r *PostbackReconciler) reconcileHeaders(ctx context.Context, s *postbackScope) error {
	for i := range s.postback.Spec.Headers {
		h := &s.postback.Spec.Headers[i]
		if h.Value != nil {
			s.resolved.headers = append(s.resolved.headers, route.Header{Name: h.Name, Value: *h.Value})
			continue
		}
		ref := h.ValueFrom.SecretKeyRef
		w := secretValue{ref.Name, ref.Key, fmt.Sprintf("the value of the header %q", h.Name), v1alpha1.HeaderSecretNotFoundReason}
		value, v, err := r.readValue(ctx, s, w)
		if err != nil {
			return err
		}
		if mistake := header.ValueMistake(value); v == nil && mistake != "" {
			v = w.invalid(v1alpha1.InvalidHeaderReason, mistake)
		}
		if v != nil {
			s.readiness = v
			return nil
		}
		s.resolved.headers = append(s.resolved.headers, route.Header{Name: h.Name, Value: value, Secret: true})
	}
	return nil
}
