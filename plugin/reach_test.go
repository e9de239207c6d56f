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

package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/util/cert"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

func TestTrust(t *testing.T) {
	certificate, _, err := cert.GenerateSelfSignedCertKey("postback-ingest.elsewhere.svc", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := func(content string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "postback-ingest-ca"}, Data: map[string]string{"ca.crt": content},
		}
	}
	tests := map[string]struct {
		file    string
		objects []runtime.Object
		want    string
	}{
		"published":                     {objects: []runtime.Object{bundle(string(certificate))}},
		"from a file":                   {file: file},
		"a file, whatever is published": {file: file, objects: []runtime.Object{bundle("")}},
		"nothing":                       {want: "name --ca-file"},
		"nothing in what is published":  {objects: []runtime.Object{bundle("")}, want: "holds no certificate under ca.crt"},
		"no certificate in the file":    {file: "reach_test.go", want: "holds no certificate in PEM"},
		"no file":                       {file: file + "x", want: "no such file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := &reach{env: &env{}, installNamespace: "elsewhere", caFile: test.file}
			trust, err := r.trust(t.Context(), fake.NewClientset(test.objects...))
			switch {
			case test.want != "":
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
			case err != nil:
				t.Error(err)
			case trust.RootCAs == nil || trust.ServerName != "postback-ingest.elsewhere.svc":
				t.Errorf("it trusts %v for %q", trust.RootCAs, trust.ServerName)
			}
		})
	}
}

// A published URL requires no flag, and no right to make a port-forward.
func TestPublishedURL(t *testing.T) {
	r := &reach{env: &env{}, installNamespace: "elsewhere"}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: "elsewhere", Name: v1alpha1.IntakeLeaseName, Annotations: map[string]string{v1alpha1.IngestURLAnnotation: "https://events.example.com"},
	}}
	if got := r.published(t.Context(), fake.NewClientset(lease)); got != "https://events.example.com" {
		t.Errorf("got %q", got)
	}
	if got := r.published(t.Context(), fake.NewClientset()); got != "" {
		t.Errorf("got %q without a Lease", got)
	}
}
