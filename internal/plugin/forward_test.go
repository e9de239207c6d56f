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
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func authority(namespace, certificates string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: ingestAuthority}, Data: map[string]string{authorityKey: certificates}}
}

// A token goes to a server alone that has a certificate of the published authority, for the name of the Service.
func TestForwardedTrustsThePublishedAuthorityOnly(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	// The certificate of httptest is for example.com.
	trusted := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	config, err := ingestTLS(t.Context(), fake.NewClientset(authority("operators", trusted)), "operators")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if _, err := client.Get(server.URL); err == nil || !strings.Contains(err.Error(), "postback-ingest.operators.svc") {
		t.Errorf("a certificate for another name: %v", err)
	}
	config.ServerName = "example.com"
	answer, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	config = config.Clone()
	config.RootCAs = nil
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	if _, err := client.Get(server.URL); err == nil {
		t.Error("a certificate of another authority is trusted")
	}
}

func TestAuthorityThatIsNotThere(t *testing.T) {
	for want, clients := range map[string]*fake.Clientset{
		`"postback-ingest-ca" not found`:                               fake.NewClientset(),
		"operators/postback-ingest-ca has no certificate under ca.crt": fake.NewClientset(authority("operators", "none")),
	} {
		if _, err := ingestTLS(t.Context(), clients, "operators"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPortOfIngest(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Ports: []corev1.ContainerPort{{Name: "other", ContainerPort: 1}}},
		{Ports: []corev1.ContainerPort{{Name: "health", ContainerPort: 2}, {Name: "ingest", ContainerPort: 8443}}},
	}}}
	if got := containerPort(pod); got != 8443 {
		t.Errorf("got %d", got)
	}
	if got := containerPort(&corev1.Pod{}); got != 0 {
		t.Errorf("got %d without a port", got)
	}
}
