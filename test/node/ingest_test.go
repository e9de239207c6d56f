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

package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
)

const (
	ingestHost = "postback-ingest.postback-system.svc"
	ingestCA   = "postback-ingest-ca"
)

// makeIngestCertificate makes the certificate of ingest, and publishes its authority for senders.
func makeIngestCertificate(ctx context.Context) error {
	if _, err := kubectl(ctx, "", "apply", "-f", "../../config/default/namespace.yaml"); err != nil {
		return err
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey(ingestHost, nil, nil)
	if err != nil {
		return fmt.Errorf("make the certificate of ingest: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "postback-ingest-tls"},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key},
	}
	if err := api.Create(ctx, secret); err != nil {
		return fmt.Errorf("store the certificate of ingest: %w", err)
	}
	authority := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: ingestCA},
		Data:       map[string]string{"ca.crt": string(certificate)},
	}
	if err := api.Create(ctx, authority); err != nil {
		return fmt.Errorf("publish the authority of ingest: %w", err)
	}
	return nil
}
