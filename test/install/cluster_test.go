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

package install

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const (
	patience = 90 * time.Second
	tenant   = "partner-acme"
	hooks    = "/hooks"
)

// cluster is a control plane with a tenant, whose endpoint has a certificate of its own authority.
type cluster struct {
	t        *testing.T
	cp       *controlplane.ControlPlane
	api      client.Client
	op       *operator.Operator
	endpoint *receiver.Receiver
	// url is the HTTPS URL of the endpoint.
	url   string
	token string

	managers, dispatchers []*operator.Process
	started               int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var err error
	if c.cp, err = controlplane.Start(t.Context(), controlplane.Options{WithoutCRDs: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	if c.api, err = c.cp.Client(); err != nil {
		t.Fatal(err)
	}
	if c.op, err = operator.Installed(c.cp, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.op.DumpLogs(os.Stderr, 30)
		}
		if err := c.op.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c.startEndpoint()
	c.kubectl("create", "namespace", tenant)
	c.eventually(c.settled)
	return c
}

// settled returns an error until every namespace has the objects that Kubernetes creates in it.
func (c *cluster) settled() error {
	namespaces := &corev1.NamespaceList{}
	if err := c.api.List(c.t.Context(), namespaces); err != nil {
		return err
	}
	for i := range namespaces.Items {
		name := namespaces.Items[i].Name
		err := errors.Join(
			c.api.Get(c.t.Context(), client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{}),
			c.api.Get(c.t.Context(), client.ObjectKey{Namespace: name, Name: "kube-root-ca.crt"}, &corev1.ConfigMap{}))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) startEndpoint() {
	c.t.Helper()
	var err error
	if c.endpoint, err = receiver.Start(c.keys); err != nil {
		c.t.Fatal(err)
	}
	plain, err := url.Parse(c.endpoint.URL(""))
	if err != nil {
		c.t.Fatal(err)
	}
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(plain))
	c.t.Cleanup(func() {
		front.Close()
		if err := c.endpoint.Close(); err != nil {
			c.t.Error(err)
		}
	})
	c.url = front.URL + hooks
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(c.op.Dir, "endpoint.crt"), authority, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// keys returns the signing keys of the tenant.
func (c *cluster) keys() []receiver.Secret {
	list := &corev1.SecretList{}
	if err := c.api.List(context.Background(), list, client.InNamespace(tenant)); err != nil {
		return nil
	}
	var keys []receiver.Secret
	for i := range list.Items {
		if key, ok := list.Items[i].Data[v1alpha1.SigningKeyName]; ok {
			keys = append(keys, receiver.Secret{Name: list.Items[i].Name, Value: string(key)})
		}
	}
	return keys
}

func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.kubectlWith("", args...)
}

func (c *cluster) kubectlWith(stdin string, args ...string) string {
	c.t.Helper()
	stdout, _, err := c.cp.Kubectl(c.t.Context(), stdin, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return stdout
}

func (c *cluster) eventually(check func() error) {
	c.t.Helper()
	gomega.NewWithT(c.t).Eventually(check).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.Succeed())
}

// postback creates the tenant's Postback, with its Secrets and its producer.
func (c *cluster) postback() {
	c.t.Helper()
	c.kubectl("-n", tenant, "create", "secret", "generic", "endpoint-ca", "--from-file=ca.crt="+filepath.Join(c.op.Dir, "endpoint.crt"))
	c.kubectlWith(fmt.Sprintf("apiVersion: postback.dev/v1alpha1\nkind: Postback\nmetadata: {name: crm, namespace: %s}\n"+
		"spec:\n  url: %s\n  triggers: [lead.*]\n  tls: {caSecretRef: {name: endpoint-ca, key: ca.crt}}\n", tenant, c.url), "apply", "-f", "-")
	c.waitReady()
	var err error
	if c.token, err = c.op.SenderToken(c.t.Context(), tenant); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) waitReady() {
	c.t.Helper()
	c.kubectl("-n", tenant, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "postback/crm")
}

// roll starts and ends processes until they match the Deployments, as their controllers would: a new process is ready
// before an old one ends.
func (c *cluster) roll() {
	c.t.Helper()
	c.managers = c.rollPart("manager", c.managers, c.op.StartManager)
	c.dispatchers = c.rollPart("dispatcher", c.dispatchers, c.op.StartDispatcher, operator.WithTLS())
}

func (c *cluster) rollPart(part string, old []*operator.Process, start func(context.Context, string, ...operator.Option) (*operator.Process, error), options ...operator.Option) []*operator.Process {
	c.t.Helper()
	d := &appsv1.Deployment{}
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: "postback-" + part}, d); err != nil {
		c.t.Fatal(err)
	}
	image := d.Spec.Template.Spec.Containers[0].Image
	version, ok := strings.CutPrefix(image, registry+"/postback-"+part+":")
	if !ok || programs[version] == "" {
		c.t.Fatalf("the image is %s", image)
	}
	var started []*operator.Process
	for range max(int(*d.Spec.Replicas), 1) {
		c.started++
		name := fmt.Sprintf("postback-%s-%d", part, c.started)
		p, err := start(c.t.Context(), name, append(options, operator.WithProgram(filepath.Join(programs[version], part)))...)
		if err != nil {
			c.t.Fatal(err)
		}
		started = append(started, p)
		if len(old) > 0 {
			c.end(old[0])
			old = old[1:]
		}
	}
	for _, p := range old {
		c.end(p)
	}
	return started
}

func (c *cluster) end(p *operator.Process) {
	c.t.Helper()
	if code, err := p.Terminate(context.Background()); err != nil || code != 0 {
		c.t.Errorf("%s ended with exit code %d: %v", p.Name, code, err)
	}
}

// stop ends all processes, as the deletion of the Deployments does.
func (c *cluster) stop() {
	c.t.Helper()
	for _, p := range append(c.dispatchers, c.managers...) {
		c.end(p)
	}
	c.managers, c.dispatchers = nil, nil
}

// sender returns a client that trusts the published authority and reaches ingest by the name of the Service.
func (c *cluster) sender(authority []byte) *http.Client {
	c.t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		c.t.Fatalf("this is no certificate: %q", authority)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "postback-ingest." + operator.Namespace + ".svc", MinVersion: tls.VersionTLS12}}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// send posts an event to every replica. One stores it, the others answer Duplicate.
func (c *cluster) send(id string) {
	c.t.Helper()
	sender := c.sender(c.authority())
	body, err := json.Marshal(map[string]any{"id": id, "event": "lead.created", "data": map[string]any{}})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range c.dispatchers {
		request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, p.IngestURL()+"/v1/namespaces/"+tenant+"/events", bytes.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+c.token)
		request.Header.Set("Content-Type", "application/json")
		answer, err := sender.Do(request)
		if err != nil {
			c.t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusAccepted || !strings.Contains(string(text), `"postback":"crm"`) {
			c.t.Fatalf("%s answers %s %s, %v", p.Name, answer.Status, text, err)
		}
	}
}

// authority returns the certificate authority that producers trust.
func (c *cluster) authority() []byte {
	c.t.Helper()
	secret := &corev1.Secret{}
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: "postback-ingest-tls"}, secret); err != nil {
		c.t.Fatal(err)
	}
	return secret.Data["ca.crt"]
}

// waitDelivered waits until an event is delivered, and checks the version of the dispatcher that sent it, and the
// signature.
func (c *cluster) waitDelivered(id, version string) {
	c.t.Helper()
	c.waitPhase(id, v1alpha1.DeliveryDelivered)
	requests := c.endpoint.Requests(hooks)
	for i := len(requests) - 1; i >= 0; i-- {
		if r := requests[i]; r.ID() == id {
			if !r.Verified() || r.Header.Get("User-Agent") != "Postback/"+version {
				c.t.Errorf("event %s came from %s, verified: %t", id, r.Header.Get("User-Agent"), r.Verified())
			}
			return
		}
	}
	c.t.Errorf("event %s never came", id)
}

func (c *cluster) waitPhase(id string, phase v1alpha1.DeliveryPhase) {
	c.t.Helper()
	c.eventually(func() error {
		d, err := c.delivery(id)
		if err == nil && d.Status.Phase != phase {
			err = fmt.Errorf("event %s is %s, not %s", id, d.Status.Phase, phase)
		}
		return err
	})
}

// delivery returns the PostbackDelivery of an event.
func (c *cluster) delivery(id string) (*v1alpha1.PostbackDelivery, error) {
	list := &v1alpha1.PostbackDeliveryList{}
	if err := c.api.List(c.t.Context(), list, client.InNamespace(tenant)); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if d := &list.Items[i]; d.Spec.Event.ID == id {
			return d, nil
		}
	}
	return nil, fmt.Errorf("there is no delivery of event %s", id)
}
