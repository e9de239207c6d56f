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

package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const patience = 90 * time.Second

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// cluster is a control plane with the operator, a tenant, and the common endpoint of all Postbacks.
type cluster struct {
	t          *testing.T
	cp         *controlplane.ControlPlane
	api        client.Client
	op         *operator.Operator
	endpoint   *receiver.Receiver
	dispatcher *operator.Process
	token      string

	mu   sync.Mutex
	keys []receiver.Secret
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var err error
	if c.cp, err = controlplane.Start(t.Context(), controlplane.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.check(c.cp.Stop()) })
	c.api, err = c.cp.Client()
	c.must(err)
	c.op, err = operator.Install(t.Context(), c.cp, operator.Options{})
	c.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			c.op.DumpLogs(os.Stderr, 30)
		}
		c.check(c.op.Stop(context.Background()))
	})
	c.endpoint, err = receiver.Start(func() []receiver.Secret {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.keys
	})
	c.must(err)
	t.Cleanup(func() { c.check(c.endpoint.Close()) })
	c.kubectl("", "create", "namespace", tenant)
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Error(err)
	}
}

// start starts a manager and a dispatcher whose names have a suffix, and creates a token for a producer.
func (c *cluster) start(suffix string) {
	c.t.Helper()
	ctx := c.t.Context()
	_, err := c.op.StartManager(ctx, "postback-manager-"+suffix, operator.WithArgs("--allow-plain-http"))
	c.must(err)
	c.dispatcher, err = c.op.StartDispatcher(ctx, "postback-dispatcher-"+suffix)
	c.must(err)
	c.token, err = c.op.SenderToken(ctx, tenant)
	c.must(err)
}

func (c *cluster) kubectl(stdin string, args ...string) string {
	c.t.Helper()
	stdout, _, err := c.cp.Kubectl(c.t.Context(), stdin, args...)
	c.must(err)
	return stdout
}

func (c *cluster) eventually(check func() error) {
	c.t.Helper()
	gomega.NewWithT(c.t).Eventually(check).WithTimeout(patience).WithPolling(50 * time.Millisecond).Should(gomega.Succeed())
}

func (c *cluster) deliveries() []v1alpha1.PostbackDelivery {
	c.t.Helper()
	list := &v1alpha1.PostbackDeliveryList{}
	c.must(c.api.List(c.t.Context(), list, client.InNamespace(tenant)))
	return list.Items
}

// send posts an event, and returns the response.
func (c *cluster) send(id, eventType string) string {
	c.t.Helper()
	// The number has more digits than JSON libraries keep, to show that the bytes are kept.
	body, err := json.Marshal(map[string]any{"id": id, "event": eventType, "data": json.RawMessage(`{"amount": 12345678901234567890.10, "name": "Łódź <&>"}`)})
	c.must(err)
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.dispatcher.IngestURL()+"/v1/namespaces/"+tenant+"/events", bytes.NewReader(body))
	c.must(err)
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	c.must(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	c.must(err)
	if response.StatusCode != http.StatusAccepted && response.StatusCode != http.StatusOK {
		c.t.Fatalf("ingest answers %s %s", response.Status, answer)
	}
	return string(answer)
}
