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
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

const (
	// maxCA bounds the certificates of the authorities, in bytes; all public ones are about 200 KiB. maxPair bounds
	// the client certificate with its chain, and also its key. A route with them has to fit into a Secret.
	maxCA   = 256 << 10
	maxPair = 64 << 10
)

// reconcileTLS resolves the certificates of spec.tls.
func (r *PostbackReconciler) reconcileTLS(ctx context.Context, s *postbackScope) error {
	spec := s.postback.Spec.TLS
	if spec == nil {
		return nil
	}
	s.resolved.tls = &route.TLS{}
	if ref := spec.CASecretRef; ref != nil {
		w := secretValue{ref.Name, ref.Key, "the certificates of spec.tls.caSecretRef", v1alpha1.TLSSecretNotFoundReason}
		text, v, err := r.readValue(ctx, s, w)
		if err != nil {
			return err
		}
		if mistake := certificatesMistake(text, maxCA); v == nil && mistake != "" {
			v = w.invalid(v1alpha1.InvalidTLSReason, mistake)
		}
		if v != nil {
			s.readiness = v
			return nil
		}
		s.resolved.tls.CA = text
	}
	if ref := spec.ClientCertificateSecretRef; ref != nil {
		return r.resolveClientCertificate(ctx, s, ref.Name)
	}
	return nil
}

func (r *PostbackReconciler) resolveClientCertificate(ctx context.Context, s *postbackScope, secret string) error {
	const field = "spec.tls.clientCertificateSecretRef"
	certificate := secretValue{secret, corev1.TLSCertKey, "the certificate of " + field, v1alpha1.TLSSecretNotFoundReason}
	key := secretValue{secret, corev1.TLSPrivateKeyKey, "the key of " + field, v1alpha1.TLSSecretNotFoundReason}
	for _, part := range []struct {
		secretValue
		into *string
	}{{certificate, &s.resolved.tls.Certificate}, {key, &s.resolved.tls.Key}} {
		text, v, err := r.readValue(ctx, s, part.secretValue)
		if err != nil {
			return err
		}
		if v != nil {
			s.readiness = v
			return nil
		}
		*part.into = text
	}
	if mistake := certificatesMistake(s.resolved.tls.Certificate, maxPair); mistake != "" {
		s.readiness = certificate.invalid(v1alpha1.InvalidTLSReason, mistake)
		return nil
	}
	pair, mistake := keyPair(s.resolved.tls.Certificate, s.resolved.tls.Key)
	if mistake != "" {
		s.readiness = key.invalid(v1alpha1.InvalidTLSReason, mistake)
		return nil
	}
	warnOfValidity(s, secret, pair)
	return nil
}

// warnOfValidity sets the warning for a client certificate outside its validity, and requeues for the next change.
// The dispatcher still presents the certificate, because the endpoint's clock and policy decide.
func warnOfValidity(s *postbackScope, secret string, leaf *x509.Certificate) {
	switch {
	case s.now.Before(leaf.NotBefore):
		s.requeue.at(leaf.NotBefore)
		s.certificateWarning = fmt.Sprintf("The client certificate in Secret %q is not valid before %s.", secret, leaf.NotBefore.UTC().Format(time.RFC3339))
	case s.now.After(leaf.NotAfter):
		s.certificateWarning = fmt.Sprintf("The client certificate in Secret %q was valid until %s: renew it.", secret, leaf.NotAfter.UTC().Format(time.RFC3339))
	default:
		s.requeue.at(leaf.NotAfter.Add(time.Second))
	}
}

// certificatesMistake returns the fault of PEM certificates, or "".
func certificatesMistake(text string, longest int) string {
	if len(text) > longest {
		return fmt.Sprintf("is longer than %d bytes: remove unneeded certificates", longest)
	}
	number := 0
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		number++
		if block.Type != "CERTIFICATE" {
			return fmt.Sprintf("has a PEM block, number %d, that is not a certificate: remove it", number)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Sprintf("has a certificate, PEM block number %d, that cannot be read: replace it", number)
		}
	}
	switch {
	case number == 0:
		return "has no PEM certificate: it must begin with -----BEGIN CERTIFICATE-----"
	// pem.Decode skips a truncated block, or one with invalid base64, without an error.
	case strings.Count(text, "-----BEGIN ") != number:
		return "has an incomplete PEM block: replace it"
	}
	return ""
}

// keyPair returns the certificate of a private key, or the key's fault without any part of the key.
func keyPair(certificate, key string) (leaf *x509.Certificate, mistake string) {
	if len(key) > maxPair {
		return nil, fmt.Sprintf("is longer than %d bytes: it must be one private key", maxPair)
	}
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return nil, "does not belong to the certificate: the first certificate in tls.crt must be that of the key"
	case err != nil:
		return nil, "is not a PEM private key without a passphrase: replace it"
	}
	return pair.Leaf, ""
}
