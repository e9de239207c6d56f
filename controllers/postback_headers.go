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
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/header"
	"github.com/postback-dev/postback-operator/dispatcher/route"
)

// wanted is a value that a Secret of the Postback's namespace is to hold.
type wanted struct {
	secret, key string
	// what it is, as in "with the value of the header X".
	what string
	// missing is the reason if it is not there.
	missing string
}

// where names the place of a value.
func (w wanted) where() string {
	return fmt.Sprintf("%s (Secret %q, data key %q)", w.what, w.secret, w.key)
}

// mistaken is the verdict on a value that may not be used.
func (w wanted) mistaken(reason, mistake string) *verdict {
	where := w.where()
	return stalled(reason, strings.ToUpper(where[:1])+where[1:]+" "+mistake+".")
}

// fetch reads a value from a Secret. There is a verdict if it is not there.
func (r *PostbackReconciler) fetch(ctx context.Context, s *postbackScope, w wanted) (string, *verdict, error) {
	secret, err := r.referenced(ctx, s, w.secret)
	if err != nil {
		return "", nil, err
	}
	if secret == nil {
		return "", waiting(w.missing, fmt.Sprintf("Secret %q with %s does not exist: make it, or correct the reference.", w.secret, w.what)), nil
	}
	value, ok := secret.Data[w.key]
	if !ok {
		return "", waiting(w.missing,
			fmt.Sprintf("Secret %q has no data key %q with %s: add it, or correct the reference.", w.secret, w.key, w.what)), nil
	}
	return string(value), nil, nil
}

// referenced returns a Secret that the spec names, or nil, and reads each but once a pass. One whose changes are not
// watched is looked at again.
func (r *PostbackReconciler) referenced(ctx context.Context, s *postbackScope, name string) (*corev1.Secret, error) {
	if secret, known := s.secrets[name]; known {
		return secret, nil
	}
	secret, err := getSecret(ctx, r.Live, types.NamespacedName{Namespace: s.postback.Namespace, Name: name})
	if err != nil {
		return nil, err
	}
	if secret == nil || !hasWatchLabel(secret) {
		s.alarm.in(r.PollInterval)
	}
	if s.secrets == nil {
		s.secrets = map[string]*corev1.Secret{}
	}
	s.secrets[name] = secret
	return secret, nil
}

// reconcileHeaders resolves the values of the headers.
func (r *PostbackReconciler) reconcileHeaders(ctx context.Context, s *postbackScope) error {
	for i := range s.postback.Spec.Headers {
		h := &s.postback.Spec.Headers[i]
		if h.Value != nil {
			s.headers = append(s.headers, route.Header{Name: h.Name, Value: *h.Value})
			continue
		}
		ref := h.ValueFrom.SecretKeyRef
		w := wanted{ref.Name, ref.Key, fmt.Sprintf("the value of the header %q", h.Name), v1alpha1.HeaderSecretNotFoundReason}
		value, v, err := r.fetch(ctx, s, w)
		if err != nil {
			return err
		}
		if mistake := header.ValueMistake(value); v == nil && mistake != "" {
			v = w.mistaken(v1alpha1.InvalidHeaderReason, mistake)
		}
		if v != nil {
			s.verdict = v
			return nil
		}
		s.headers = append(s.headers, route.Header{Name: h.Name, Value: value, Secret: true})
	}
	return nil
}
