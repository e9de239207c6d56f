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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/natsserver"
	"github.com/postback-dev/postback-operator/test/operator"
	"github.com/postback-dev/postback-operator/test/receiver"
)

// TestJetStream installs the chart with the JetStream intake, beside a real nats-server with the accounts of
// config/jetstream/nats. Then it changes back as docs/jetstream.md says.
func TestJetStream(t *testing.T) {
	c := newCluster(t)
	ca := newAuthority(t)
	ca.issue("nats", net.IPv4(127, 0, 0, 1))
	ca.issue("postback-dispatcher", nil)
	ca.issue("orders", nil)
	servers := natsserver.New(t, natsserver.Options{SyncAlways: true, Extra: accounts(t), ClientTLS: fmt.Sprintf(
		"  cert_file: %q\n  key_file: %q\n  ca_file: %q\n  verify_and_map: true", ca.file("nats.crt"), ca.file("nats.key"), ca.file("ca.crt"))})
	url := strings.Replace(servers.URL(), "nats://", "tls://", 1)

	c.kubectl("create", "namespace", operator.Namespace)
	c.externalCertificate()
	c.kubectl("-n", operator.Namespace, "create", "secret", "generic", "postback-nats", "--from-file=ca.crt="+ca.file("ca.crt"),
		"--from-file=tls.crt="+ca.file("postback-dispatcher.crt"), "--from-file=tls.key="+ca.file("postback-dispatcher.key"))
	chartWith := func(verb, intake string) {
		t.Helper()
		_, err := helm(t, c.cp.Kubeconfig, verb, "postback", chart(), "--namespace", operator.Namespace, "--set",
			"image.tag="+oldVersion+",image.registry="+registry+",ingest.certificate.source=External,intake="+intake+
				",nats.url="+url+",nats.caSecret=postback-nats,nats.tlsSecret=postback-nats")
		if err != nil {
			t.Fatal(err)
		}
	}
	chartWith("install", "jetstream")
	c.roll()
	c.postback()
	c.checkStreams(ca, url)
	checkProducer(t, ca, url)
	c.checkPublished(ca, url)

	// As docs/jetstream.md says, first no producer posts, and nothing waits.
	const service = `{"spec":{"selector":{"app.kubernetes.io/component":%q}}}`
	c.kubectl("-n", operator.Namespace, "patch", "service", "postback-ingest", "--type=merge", "-p", fmt.Sprintf(service, "nobody"))
	for _, stream := range []string{"POSTBACK_EVENTS", "POSTBACK_DELIVERIES"} {
		c.eventually(func() error { return ca.holds(t, url, "postback-dispatcher", stream, 0) })
	}
	c.kubectl("-n", operator.Namespace, "patch", "service", "postback-ingest", "--type=merge", "-p", fmt.Sprintf(service, "dispatcher"))
	chartWith("upgrade", "kubernetes")
	c.roll()
	c.waitReady()
	c.announced("")
	c.send("evt_back")
	c.waitDelivered("evt_back", oldVersion)
	// The endpoint refused the event once, during the JetStream intake.
	c.waitDelivered("evt_fails", oldVersion)
}

// checkStreams posts an event that succeeds, which is only in the delivery log then, and one that fails, which is a
// PostbackDelivery.
func (c *cluster) checkStreams(ca *authority, url string) {
	c.t.Helper()
	c.send("evt_stream")
	c.eventually(func() error { return ca.holds(c.t, url, "postback-dispatcher", "POSTBACK_LOG", 1) })
	if requests := c.endpoint.Requests(hooks); len(requests) != 1 || requests[0].ID() != "evt_stream" || !requests[0].Verified() {
		c.t.Errorf("the endpoint got %d requests, not evt_stream once and verified", len(requests))
	}
	list := &v1alpha1.PostbackDeliveryList{}
	if err := c.api.List(c.t.Context(), list, client.InNamespace(tenant)); err != nil || len(list.Items) > 0 {
		c.t.Errorf("there are %d PostbackDeliveries, %v", len(list.Items), err)
	}
	c.endpoint.Answer(hooks, receiver.Times(1, 503))
	c.send("evt_fails")
	c.eventually(func() error {
		if d, err := c.delivery("evt_fails"); err != nil || d.Status.AttemptCount > 0 {
			return err
		}
		return errors.New("event evt_fails has not been attempted")
	})
	c.announced(v1alpha1.IntakeJetStream)
}

// announced waits until every authenticated user can read the announced intake; "" means the default.
func (c *cluster) announced(want string) {
	c.t.Helper()
	c.eventually(func() error {
		intake, _, err := c.cp.Kubectl(c.t.Context(), "", "-n", operator.Namespace, "get", "lease", v1alpha1.IntakeLeaseName, "--ignore-not-found",
			"-o", `jsonpath={.metadata.annotations.postback\.dev/intake}`, "--as=some", "--as-group=system:authenticated")
		if err == nil && intake != want {
			err = fmt.Errorf("the intake is announced as %q, not %q", intake, want)
		}
		return err
	})
}

// checkProducer checks that a producer of the namespace may publish its events, but neither those of other namespaces
// nor read the streams.
func checkProducer(t *testing.T, ca *authority, url string) {
	t.Helper()
	violations := make(chan error, 10)
	connection := ca.connect(t, url, "orders", nats.CustomInboxPrefix("_INBOX_orders"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err }))
	for subject, allowed := range map[string]bool{
		"postback.events." + tenant: true, "postback.events.other": false, "postback.deliveries." + tenant + ".uid.hash": false,
		"postback.log." + tenant + ".uid.name": false, "$JS.API.STREAM.INFO.POSTBACK_LOG": false, "$JS.API.STREAM.DELETE.POSTBACK_LOG": false,
	} {
		t.Run("publish to "+subject, func(t *testing.T) {
			if err := errors.Join(connection.Publish(subject, nil), connection.Flush()); err != nil {
				t.Fatal(err)
			}
			checkViolation(t, "publish to "+subject, allowed, violations)
		})
	}
	for subject, allowed := range map[string]bool{"_INBOX_orders.>": true, "_INBOX.>": false, "postback.>": false} {
		t.Run("subscribe to "+subject, func(t *testing.T) {
			if _, err := connection.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := connection.Flush(); err != nil {
				t.Fatal(err)
			}
			checkViolation(t, "subscribe to "+subject, allowed, violations)
		})
	}
}

// checkPublished checks that an event is stored once NATS acknowledges it, and is delivered like a posted one.
func (c *cluster) checkPublished(ca *authority, url string) {
	c.t.Helper()
	js, err := jetstream.New(ca.connect(c.t, url, "orders", nats.CustomInboxPrefix("_INBOX_orders")))
	if err != nil {
		c.t.Fatal(err)
	}
	ack, err := js.Publish(c.t.Context(), "postback.events."+tenant, []byte(`{"id": "evt_published", "event": "lead.created", "data": {}}`))
	if err != nil || ack.Stream != "POSTBACK_EVENTS" {
		c.t.Fatalf("the event is in %v, %v", ack, err)
	}
	c.eventually(func() error {
		for _, request := range c.endpoint.Requests(hooks) {
			if request.ID() == "evt_published" && request.Verified() {
				return nil
			}
		}
		return errors.New("the event has not arrived, verified")
	})
}

// checkViolation waits for the server's error. It precedes the answer to the flush, but the client reports it a
// moment later.
func checkViolation(t *testing.T, what string, allowed bool, violations <-chan error) {
	t.Helper()
	wait := 10 * time.Second
	if allowed {
		wait = 500 * time.Millisecond
	}
	select {
	case err := <-violations:
		if allowed || !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(wait):
		if !allowed {
			t.Errorf("%s is allowed", what)
		}
	}
}

// accounts returns the accounts of config/jetstream/nats.
func accounts(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "config", "jetstream", "nats", "accounts.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// authority issues certificates for the server and its users.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.dir, "ca.crt", "CERTIFICATE", der)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes the certificate and key of a name, and for a server of an address.
func (a *authority) issue(name string, address net.IP) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if address != nil {
		template.IPAddresses = []net.IP{address}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, a.dir, name+".crt", "CERTIFICATE", certificate)
	writePEM(a.t, a.dir, name+".key", "PRIVATE KEY", der)
}

// connect returns a connection of a user, which is closed with the test.
func (a *authority) connect(t *testing.T, url, user string, options ...nats.Option) *nats.Conn {
	t.Helper()
	connection, err := nats.Connect(url, append(options, nats.RootCAs(a.file("ca.crt")), nats.ClientCert(a.file(user+".crt"), a.file(user+".key")))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	return connection
}

// holds returns an error unless a stream has this number of messages.
func (a *authority) holds(t *testing.T, url, user, stream string, want uint64) error {
	t.Helper()
	connection := a.connect(t, url, user)
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	found, err := js.Stream(t.Context(), stream)
	if err != nil {
		return err
	}
	if have := found.CachedInfo().State.Msgs; have != want {
		return fmt.Errorf("stream %s has %d messages, not %d", stream, have, want)
	}
	return nil
}
