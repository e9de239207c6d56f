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

// Package servingcert issues the dispatcher's HTTPS certificate in clusters without another issuer. It keeps a CA, a
// certificate for the Service's DNS names, and a ConfigMap with the CAs that producers have to trust.
package servingcert

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/audit"
)

// lookInterval is the time between two checks. It bounds how long a change of an unwatched object goes unnoticed.
const lookInterval = 10 * time.Minute

// Reconciler writes the two Secrets and the ConfigMap.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server: the manager's cache holds no data of Secrets.
	Live  client.Reader
	Clock clock.PassiveClock
	// Namespace of the installation.
	Namespace string

	// notAfter is the end of the server certificate's validity, in seconds since 1970.
	notAfter atomic.Int64
}

// The rights of the manager for Secrets of all namespaces cover these Secrets.
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;create;update,namespace=postback-system

// Reconcile replaces certificates that are due. The CA comes first, because it signs the server certificate.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	authority, server, bundle, err := r.read(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	s, reason, err := next(stateOf(authority, server), namesIn(r.Namespace), now)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.writePair(ctx, authority, s.authority, s.bundle()); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.writeBundle(ctx, bundle, s.bundle()); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.writePair(ctx, server, s.server, s.bundle()); err != nil {
		return ctrl.Result{}, err
	}
	r.notAfter.Store(s.server.certificate.NotAfter.Unix())
	if reason != "" {
		logf.FromContext(ctx).Info("Certificate of ingest issued", audit.Key, audit.CertificateIssuedAction, "reason", reason, "notAfter", s.server.certificate.NotAfter)
	}
	return ctrl.Result{RequeueAfter: min(lookInterval, max(s.due().Sub(now), time.Second))}, nil
}

// namesIn returns the DNS names by which Pods reach the Service.
func namesIn(namespace string) []string {
	name := v1alpha1.IngestServiceName + "." + namespace
	return []string{name + ".svc", name + ".svc.cluster.local", name, v1alpha1.IngestServiceName}
}

// read reads the three objects. An object without a resourceVersion does not exist.
func (r *Reconciler) read(ctx context.Context) (authority, server *corev1.Secret, bundle *corev1.ConfigMap, err error) {
	authority, server, bundle = &corev1.Secret{}, &corev1.Secret{}, &corev1.ConfigMap{}
	for _, o := range []struct {
		kind, name string
		object     client.Object
	}{{"Secret", v1alpha1.IngestCAName, authority}, {"Secret", v1alpha1.IngestCertificateName, server}, {"ConfigMap", v1alpha1.IngestCAName, bundle}} {
		err := r.Live.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: o.name}, o.object)
		switch {
		case apierrors.IsNotFound(err):
			o.object.SetNamespace(r.Namespace)
			o.object.SetName(o.name)
			o.object.SetLabels(v1alpha1.OwnLabels())
		case err != nil:
			return nil, nil, nil, fmt.Errorf("get %s %s: %w", o.kind, o.name, err)
		case o.object.GetLabels()[v1alpha1.ManagedByLabel] != v1alpha1.ManagedBy:
			return nil, nil, nil, fmt.Errorf("%s %s does not belong to the operator: it has no label %s=%s. Delete it, or run the manager with --ingest-certificate=External",
				o.kind, o.name, v1alpha1.ManagedByLabel, v1alpha1.ManagedBy)
		}
	}
	return authority, server, bundle, nil
}

// stateOf reads the two Secrets. An unreadable pair counts as missing.
func stateOf(authority, server *corev1.Secret) (s state) {
	if p, err := decode(authority.Data[corev1.TLSCertKey], authority.Data[corev1.TLSPrivateKeyKey]); err == nil {
		s.authority = p
	}
	if p, err := decode(server.Data[corev1.TLSCertKey], server.Data[corev1.TLSPrivateKeyKey]); err == nil {
		s.server = p
	}
	s.trusted = append(decodeBundle(authority.Data[v1alpha1.CABundleKey]), decodeBundle(server.Data[v1alpha1.CABundleKey])...)
	return s
}

// writePair writes a certificate, its key and the CAs to trust into a Secret.
func (r *Reconciler) writePair(ctx context.Context, secret *corev1.Secret, p pair, bundle []byte) error {
	certificate, key, err := p.encode()
	if err != nil {
		return err
	}
	before := secret.DeepCopy()
	secret.Type = corev1.SecretTypeTLS
	secret.Data = map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, v1alpha1.CABundleKey: bundle}
	// The label lets the manager see a change or deletion at once.
	secret.Labels[v1alpha1.WatchLabel] = "true"
	return r.write(ctx, before, secret)
}

// writeBundle writes the CAs to trust into the ConfigMap.
func (r *Reconciler) writeBundle(ctx context.Context, configMap *corev1.ConfigMap, bundle []byte) error {
	before := configMap.DeepCopy()
	configMap.Data, configMap.BinaryData = map[string]string{v1alpha1.CABundleKey: string(bundle)}, nil
	return r.write(ctx, before, configMap)
}

// write creates the object, or updates it if it changed. An update fails if somebody else wrote since the read.
func (r *Reconciler) write(ctx context.Context, before, object client.Object) error {
	switch {
	case before.GetResourceVersion() == "":
		if err := r.Client.Create(ctx, object); err != nil {
			return fmt.Errorf("create %s: %w", object.GetName(), err)
		}
	case !equality.Semantic.DeepEqual(before, object):
		if err := r.Client.Update(ctx, object); err != nil {
			return fmt.Errorf("update %s: %w", object.GetName(), err)
		}
	}
	return nil
}
