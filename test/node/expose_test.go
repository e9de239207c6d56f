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
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const exposed = "../../config/expose/"

// TestProducerOutsideTheCluster posts from outside the Pod network, as docs/expose.md says: to the node port of a
// Service of type LoadBalancer, with a token of TokenRequest, under the shipped policies.
func TestProducerOutsideTheCluster(t *testing.T) {
	node := nodeAddress(t)
	policy, err := os.ReadFile(exposed + "network-policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	admitted := strings.Replace(string(policy), "198.51.100.0/24", node+"/32", 1)
	const service = exposed + "load-balancer.yaml"
	t.Cleanup(func() {
		for _, files := range [][]string{{"-f", service}, {"-k", "../../config/network-policy"}} {
			if _, err := kubectl(context.Background(), "", append([]string{"delete", "--ignore-not-found"}, files...)...); err != nil {
				t.Error(err)
			}
		}
		if _, err := kubectl(context.Background(), admitted, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	mustKubectl(t, "", "apply", "-k", "../../config/network-policy")
	mustKubectl(t, admitted, "apply", "-f", "-")
	mustKubectl(t, "", "apply", "-f", service)
	var balancer corev1.Service
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "postback-ingest-public"}, &balancer); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(node, strconv.Itoa(int(balancer.Spec.Ports[0].NodePort)))
	outside := producerOutside(t, address)
	// The event is stored. The shipped policies block endpoints in the cluster: see TestNetworkPolicyIsEnforced.
	await(t, patience, func(ctx context.Context) error { return outside.post(ctx, "outside-0") })
}

func nodeAddress(t *testing.T) string {
	t.Helper()
	var nodes corev1.NodeList
	if err := api.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				return address.Address
			}
		}
	}
	t.Fatal("no node has an internal address")
	return ""
}

// outsider is a producer outside the cluster.
type outsider struct {
	http  *http.Client
	token string
}

// producerOutside returns a producer that trusts the published CA and connects to an address.
func producerOutside(t *testing.T, address string) *outsider {
	t.Helper()
	var authority corev1.ConfigMap
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: system, Name: v1alpha1.IngestCAName}, &authority); err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM([]byte(authority.Data["ca.crt"])) {
		t.Fatal("the ConfigMap holds no certificate")
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3600)}}
	answer, err := clients.CoreV1().ServiceAccounts(partner).CreateToken(t.Context(), "orders", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &outsider{http: &http.Client{Transport: transport, Timeout: 10 * time.Second}, token: answer.Status.Token}
}

func (o *outsider) post(ctx context.Context, id string) error {
	event := strings.NewReader(`{"id":"` + id + `","event":"sale.created","data":{"sale":{"amount":4900}}}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+ingestHost+"/v1/namespaces/"+partner+"/events", event)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+o.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := o.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusAccepted || !strings.Contains(string(content), `"delivery":"shop-`)) {
		err = fmt.Errorf("%s: %s", answer.Status, content)
	}
	return err
}
