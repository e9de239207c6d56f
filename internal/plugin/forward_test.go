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
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/util/cert"
)

func TestIngestOf(t *testing.T) {
	certificate, _, err := cert.GenerateSelfSignedCertKey("postback-ingest.elsewhere.svc", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	authority := func(content string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "elsewhere", Name: "postback-ingest-ca"}, Data: map[string]string{"ca.crt": content},
		}
	}
	tests := map[string]struct {
		ports   []corev1.ContainerPort
		objects []runtime.Object
		port    int
		host    string
		want    string
	}{
		"on loopback": {ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8082}}, port: 8080},
		"with a certificate": {
			ports:   []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8082}, {Name: "ingest", ContainerPort: 8443}},
			objects: []runtime.Object{authority(string(certificate))}, port: 8443, host: "postback-ingest.elsewhere.svc",
		},
		"no authority":       {ports: []corev1.ContainerPort{{Name: "ingest", ContainerPort: 8443}}, want: "get the authority"},
		"an empty authority": {ports: []corev1.ContainerPort{{Name: "ingest", ContainerPort: 8443}}, objects: []runtime.Object{authority("")}, want: "has no certificate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: test.ports}}}}
			o := &sendOptions{installNamespace: "elsewhere"}
			port, security, err := o.ingestOf(t.Context(), fake.NewClientset(test.objects...), pod)
			switch {
			case test.want != "":
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want an error with %q", err, test.want)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			host := ""
			if security != nil {
				host = security.ServerName
			}
			if port != test.port || host != test.host {
				t.Errorf("got port %d of host %q, want %d of %q", port, host, test.port, test.host)
			}
		})
	}
}
