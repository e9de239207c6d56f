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

package operator

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// portalCA is the file of the portal's self-signed certificate, in the folder of the operator.
const portalCA = "portal-ca.crt"

// PortalCA returns the path of the certificate of the portal that OpenPortal started.
func (o *Operator) PortalCA() string { return filepath.Join(o.Dir, portalCA) }

// OpenPortal applies config/portal with a self-signed certificate and a session key, and starts a replica of the portal.
func (o *Operator) OpenPortal(ctx context.Context, name string, options ...Option) (*Process, error) {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return nil, err
	}
	if _, stderr, err := o.ControlPlane.Kubectl(ctx, "", "apply", "-k", filepath.Join(root, "config", "portal")); err != nil {
		return nil, fmt.Errorf("apply config/portal: %w: %s", err, stderr)
	}
	if o.programs == o.Dir {
		if err := build(ctx, root, o.Dir, []string{"./cmd/portal"}); err != nil {
			return nil, err
		}
	}
	port, err := controlplane.FreePort()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	if err := o.preparePortal(ctx, "https://"+address); err != nil {
		return nil, err
	}
	return o.StartPortal(ctx, name, append(options, WithAddress(address))...)
}

// preparePortal makes the objects that config/portal expects from its user.
func (o *Operator) preparePortal(ctx context.Context, url string) error {
	certificate, key, err := cert.GenerateSelfSignedCertKey(loopback, []net.IP{net.ParseIP(loopback)}, nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if err := os.WriteFile(o.PortalCA(), certificate, 0o600); err != nil {
		return err
	}
	api, err := o.ControlPlane.Client()
	if err != nil {
		return err
	}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: PortalNamespace, Name: name} }
	for _, object := range []client.Object{
		&corev1.ConfigMap{ObjectMeta: meta(portalDeployment), Data: map[string]string{"url": url}},
		&corev1.Secret{ObjectMeta: meta(portalDeployment + "-tls"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key}},
		&corev1.Secret{ObjectMeta: meta(portalDeployment + "-session"), StringData: map[string]string{"keys": rand.Text() + rand.Text()}},
	} {
		if err := api.Create(ctx, object); err != nil {
			return fmt.Errorf("make %s: %w", object.GetName(), err)
		}
	}
	return nil
}
