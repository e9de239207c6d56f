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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

var version = flag.String("record", "", "Version whose leavings are to be recorded, into testdata, from the present programs.")

// TestRecord lets the programs work for a while, kills them during their work, and records the data of etcd.
func TestRecord(t *testing.T) {
	if *version == "" {
		t.Skip("docs/releasing.md says when a version is recorded: go test ./test/upgrade -run TestRecord -record v0.1.0")
	}
	c := newCluster(t)
	c.start("0")
	c.prepare()
	c.work()
	c.interrupt()
	c.ask()
	r, err := record(t.Context(), c.api, *version, c.endpoint.Address(), tenant, operator.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.write(filepath.Join("testdata", *version)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d objects", len(r.Objects))
}

// prepare creates Secrets and Postbacks that together have every field.
func (c *cluster) prepare() {
	c.t.Helper()
	certificate, key := selfSigned(c.t)
	dir := c.t.TempDir()
	for name, content := range map[string][]byte{"tls.crt": certificate, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"tls", "endpoint-client", "--cert=" + dir + "/tls.crt", "--key=" + dir + "/tls.key"},
		{"generic", "endpoint-ca", "--from-file=ca.crt=" + dir + "/tls.crt"},
		{"generic", "endpoint-login", "--type=kubernetes.io/basic-auth", "--from-literal=username=acme", "--from-literal=password=opensesame"},
		{"generic", "endpoint-token", "--from-literal=token=tok_2718", "--from-literal=header=blue"},
		{"generic", "external-key", "--from-literal=secret=whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="},
	} {
		c.kubectl("", append([]string{"-n", tenant, "create", "secret"}, args...)...)
	}
	manifest, err := os.ReadFile(filepath.Join("testdata", "postbacks.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.kubectl(strings.ReplaceAll(string(manifest), "ENDPOINT", c.endpoint.Address()), "apply", "-n", tenant, "-f", "-")
	c.kubectl("", "-n", tenant, "wait", "--for=condition=Ready", "--timeout=3m", "postback", "--all")
}

// work brings deliveries into each state, and a key into its overlap.
func (c *cluster) work() {
	c.t.Helper()
	c.endpoint.Answer("/retrying", receiver.Answer{Status: http.StatusServiceUnavailable, Body: "try again"})
	c.endpoint.Answer("/failed", receiver.Answer{Status: http.StatusBadRequest, Body: "no"})
	c.endpoint.Answer("/gone", receiver.Answer{Status: http.StatusGone})
	c.endpoint.Answer("/later", receiver.Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"20"}}})
	c.endpoint.Answer("/interrupted", receiver.Answer{Hang: true})
	c.kubectl("", "-n", tenant, "annotate", "postback", "delivered", v1alpha1.RotateSecretAnnotation+"=1")
	c.eventually(func() error {
		secret := &v1alpha1.PostbackSecret{}
		err := c.api.Get(c.t.Context(), client.ObjectKey{Namespace: tenant, Name: "delivered"}, secret)
		if err == nil && secret.Status.PreviousVersion == 0 {
			err = errors.New("the key is not replaced")
		}
		return err
	})
	c.kubectl("", "-n", tenant, "wait", "--for=condition=Ready", "--timeout=3m", "postback", "--all")
	c.send("evt_first", "lead.created")
	c.send("evt_second", "lead.created")
	c.kubectl("", "-n", tenant, "annotate", "postback", "delivered", v1alpha1.SendTestAnnotation+"=lead.created/1")
	phases := map[string]v1alpha1.DeliveryPhase{
		"delivered": v1alpha1.DeliveryDelivered, "cloudevents": v1alpha1.DeliveryDelivered, "external": v1alpha1.DeliveryDelivered, "retrying": v1alpha1.DeliveryRetrying,
		"failed": v1alpha1.DeliveryFailed, "gone": v1alpha1.DeliveryRetrying, "later": v1alpha1.DeliveryRetrying, "paused": v1alpha1.DeliveryPending, "interrupted": v1alpha1.DeliveryPending,
	}
	c.eventually(func() error {
		counted := map[string]int{}
		for _, d := range c.deliveries() {
			name := d.Spec.PostbackRef.Name
			held := d.Spec.Event.ID == "evt_second" && (name == "later" || name == "gone")
			if want, known := phases[name]; known && d.Status.Phase != want && !held {
				return fmt.Errorf("%s is %s", d.Name, d.Status.Phase)
			}
			counted[name]++
		}
		for name := range phases {
			if counted[name] < 2 {
				return fmt.Errorf("Postback %s has %d deliveries", name, counted[name])
			}
		}
		if counted["delivered"] < 3 || len(c.endpoint.Requests("/interrupted")) < 2 {
			return errors.New("the test event is not delivered, or no attempt hangs")
		}
		return nil
	})
}

// interrupt kills all programs while attempts are in flight.
func (c *cluster) interrupt() {
	c.t.Helper()
	for _, p := range c.op.Processes() {
		if err := p.Kill(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// ask makes requests by annotations after the programs have ended, so that none is handled.
func (c *cluster) ask() {
	c.t.Helper()
	for _, d := range c.deliveries() {
		if d.Spec.Event.ID == "evt_first" && d.Spec.PostbackRef.Name == "delivered" {
			c.kubectl("", "-n", tenant, "annotate", "postbackdelivery", d.Name, v1alpha1.RedeliverAnnotation+"=1")
		}
	}
	c.kubectl("", "-n", tenant, "annotate", "postback", "cloudevents", v1alpha1.SendTestAnnotation+"=lead.created/1")
	c.kubectl("", "-n", tenant, "annotate", "postback", "failed", v1alpha1.RedeliverSinceAnnotation+"=1h")
	c.kubectl("", "-n", tenant, "annotate", "postbacksecret", "shared", v1alpha1.RotateSecretAnnotation+"=1")
}

// selfSigned returns a self-signed certificate and its key in PEM.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "endpoint.test"}, DNSNames: []string{"endpoint.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(100, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
