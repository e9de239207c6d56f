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

package servingcert

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

var cp *controlplane.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(controlplane.RunTests(m, func(c *controlplane.ControlPlane) { cp = c }))
}

type bench struct {
	*Reconciler

	t     *testing.T
	clock *testingclock.FakeClock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	c, err := client.New(cp.Config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "install-"}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	clock := testingclock.NewFakeClock(begin)
	return &bench{t: t, clock: clock, Reconciler: &Reconciler{
		Client: client.WithFieldOwner(c, v1alpha1.ManagerFieldOwner), Live: c, Clock: clock, Namespace: namespace.Name,
	}}
}

func (b *bench) pass() ctrl.Result {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), ctrl.Request{})
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

func (b *bench) get(name string, into client.Object) {
	b.t.Helper()
	if err := b.Client.Get(b.t.Context(), types.NamespacedName{Namespace: b.Namespace, Name: name}, into); err != nil {
		b.t.Fatal(err)
	}
}

// objects returns the three objects in the namespace.
func (b *bench) objects() (authority, server corev1.Secret, bundle corev1.ConfigMap) {
	b.t.Helper()
	b.get(v1alpha1.IngestCAName, &authority)
	b.get(v1alpha1.IngestCertificateName, &server)
	b.get(v1alpha1.IngestCAName, &bundle)
	return authority, server, bundle
}

func TestReconcile(t *testing.T) {
	b := newBench(t)
	if result := b.pass(); result.RequeueAfter != lookInterval {
		t.Errorf("looks again after %s, want %s", result.RequeueAfter, lookInterval)
	}
	authority, server, bundle := b.objects()
	if server.Type != corev1.SecretTypeTLS || authority.Type != corev1.SecretTypeTLS {
		t.Errorf("the types are %s and %s", authority.Type, server.Type)
	}
	if server.Labels[v1alpha1.WatchLabel] != "true" || server.Labels[v1alpha1.ManagedByLabel] != v1alpha1.ManagedBy {
		t.Errorf("the labels are %v", server.Labels)
	}
	if bundle.Data[v1alpha1.CABundleKey] != string(authority.Data[corev1.TLSCertKey]) || !bytes.Equal(server.Data[v1alpha1.CABundleKey], authority.Data[corev1.TLSCertKey]) {
		t.Error("the bundles are not the CA")
	}
	for _, value := range bundle.Data {
		if strings.Contains(value, "PRIVATE") {
			t.Error("the ConfigMap holds a private key")
		}
	}
	verify(t, stateOf(&authority, &server), namesIn(b.Namespace)[0], b.clock.Now())

	b.clock.Step(30 * day)
	b.pass()
	sameAuthority, same, sameBundle := b.objects()
	if same.ResourceVersion != server.ResourceVersion || sameAuthority.ResourceVersion != authority.ResourceVersion || sameBundle.ResourceVersion != bundle.ResourceVersion {
		t.Error("a pass with nothing due wrote")
	}

	b.clock.SetTime(begin.Add(60*day - time.Minute))
	if result := b.pass(); result.RequeueAfter != time.Minute {
		t.Errorf("a minute before the certificate is due it looks again after %s", result.RequeueAfter)
	}
	b.clock.Step(time.Minute)
	b.pass()
	sameAuthority, renewed, _ := b.objects()
	if bytes.Equal(renewed.Data[corev1.TLSCertKey], server.Data[corev1.TLSCertKey]) || bytes.Equal(renewed.Data[corev1.TLSPrivateKeyKey], server.Data[corev1.TLSPrivateKeyKey]) {
		t.Error("the certificate that was due, or its key, stayed")
	}
	if sameAuthority.ResourceVersion != authority.ResourceVersion {
		t.Error("the CA changed with it")
	}
}

func TestReconcileMends(t *testing.T) {
	tests := []struct {
		name string
		harm func(b *bench, authority, server *corev1.Secret, bundle *corev1.ConfigMap) error
	}{
		{"the certificate's Secret is deleted", func(b *bench, _, server *corev1.Secret, _ *corev1.ConfigMap) error {
			return b.Client.Delete(b.t.Context(), server)
		}},
		{"the CA's Secret is deleted", func(b *bench, authority, _ *corev1.Secret, _ *corev1.ConfigMap) error {
			return b.Client.Delete(b.t.Context(), authority)
		}},
		{"the ConfigMap is deleted", func(b *bench, _, _ *corev1.Secret, bundle *corev1.ConfigMap) error {
			return b.Client.Delete(b.t.Context(), bundle)
		}},
		{"the ConfigMap is emptied", func(b *bench, _, _ *corev1.Secret, bundle *corev1.ConfigMap) error {
			bundle.Data = map[string]string{"other": "x"}
			return b.Client.Update(b.t.Context(), bundle)
		}},
		{"the certificate is garbage", func(b *bench, _, server *corev1.Secret, _ *corev1.ConfigMap) error {
			server.Data[corev1.TLSCertKey] = []byte("garbage")
			return b.Client.Update(b.t.Context(), server)
		}},
		{"the key is of another certificate", func(b *bench, authority, server *corev1.Secret, _ *corev1.ConfigMap) error {
			server.Data[corev1.TLSPrivateKeyKey] = authority.Data[corev1.TLSPrivateKeyKey]
			return b.Client.Update(b.t.Context(), server)
		}},
		{"the watch label is gone", func(b *bench, _, server *corev1.Secret, _ *corev1.ConfigMap) error {
			delete(server.Labels, v1alpha1.WatchLabel)
			return b.Client.Update(b.t.Context(), server)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.pass()
			authority, server, bundle := b.objects()
			before := bundle.Data[v1alpha1.CABundleKey]
			if err := tt.harm(b, &authority, &server, &bundle); err != nil {
				t.Fatal(err)
			}
			b.pass()
			authority, server, bundle = b.objects()
			verify(t, stateOf(&authority, &server), namesIn(b.Namespace)[0], b.clock.Now())
			if !strings.Contains(bundle.Data[v1alpha1.CABundleKey], before) {
				t.Error("the CA that senders trusted before is no longer trusted")
			}
			if server.Labels[v1alpha1.WatchLabel] != "true" {
				t.Error("the Secret is not watched")
			}
		})
	}
}

func TestSecretsOfOthersAreLeftAlone(t *testing.T) {
	b := newBench(t)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: v1alpha1.IngestCertificateName}, Data: map[string][]byte{"tls.key": []byte("theirs")}}
	if err := b.Client.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	_, err := b.Reconcile(t.Context(), ctrl.Request{})
	if err == nil || !strings.Contains(err.Error(), "--ingest-certificate=External") || strings.Contains(err.Error(), "theirs") {
		t.Errorf("the error is %v", err)
	}
	after := &corev1.Secret{}
	b.get(v1alpha1.IngestCertificateName, after)
	if after.ResourceVersion != theirs.ResourceVersion {
		t.Error("it was written to")
	}
}
