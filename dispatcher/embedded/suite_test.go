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

package embedded_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/test/authority"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

// childVariable names the environment variable with the JSON of a child.
const childVariable = "POSTBACK_TEST_EMBEDDED"

const (
	streamName = "EVENTS"
	subject    = "events"
	patience   = time.Minute
	interval   = 20 * time.Millisecond
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child configures a server in a child process.
type child struct {
	Options embedded.Options
	// Publish makes the child publish until it is killed and print the number of each acknowledged message.
	Publish bool
}

func runChild(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return fmt.Errorf("read the options: %w", err)
	}
	c.Options.Log = logr.Discard()
	server, err := embedded.Start(c.Options)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if !c.Publish {
		return server.Start(ctx)
	}
	js, err := connect(server)
	if err != nil {
		return err
	}
	if err := makeStream(ctx, js, 1); err != nil {
		return err
	}
	for i := 1; ; i++ {
		if _, err := js.Publish(ctx, subject, []byte(strconv.Itoa(i))); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if _, err := fmt.Println(i); err != nil { //nolint:forbidigo // The parent reads it.
			return fmt.Errorf("tell the parent: %w", err)
		}
	}
}

// startChild starts a server in a child process. kill ends that process.
func startChild(t *testing.T, c child) (lines *bufio.Scanner, kill func()) {
	t.Helper()
	c.Options.Log = logr.Logger{}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childVariable+"="+string(text))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
	t.Cleanup(kill)
	return bufio.NewScanner(out), kill
}

// start starts a server in this process until the test ends.
func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	o.Log = logr.Discard()
	server, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	return server
}

func eventuallyReady(t *testing.T, servers ...*embedded.Server) {
	t.Helper()
	for _, server := range servers {
		gomega.NewWithT(t).Eventually(func() error { return server.Ready(nil) }, patience, interval).Should(gomega.Succeed())
	}
}

func connect(server *embedded.Server) (jetstream.JetStream, error) {
	options := append(server.ConnectOptions(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(interval))
	connection, err := nats.Connect("", options...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return jetstream.New(connection)
}

func mustConnect(t *testing.T, server *embedded.Server) jetstream.JetStream {
	t.Helper()
	js, err := connect(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(js.Conn().Close)
	return js
}

// makeStream creates the stream as soon as JetStream is available.
func makeStream(ctx context.Context, js jetstream.JetStream, replicas int) error {
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := js.CreateStream(try, jetstream.StreamConfig{Name: streamName, Subjects: []string{subject}, Replicas: replicas})
		if err == nil {
			cancel()
			return nil
		}
		<-try.Done()
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("make the stream: %w", err)
		}
	}
}

// stored returns the bodies of all messages, in order.
func stored(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	stream, err := js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	info := stream.CachedInfo().State
	var bodies []string
	for sequence := info.FirstSeq; sequence <= info.LastSeq && info.Msgs > 0; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(message.Data))
	}
	return bodies
}

// numbers returns the decimal texts of 1 to n.
func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i + 1)
	}
	return all
}

// certificates writes a certificate for a name and the trusted authorities. It returns a Cluster with the paths of
// the files.
func certificates(t *testing.T, signer *authority.Authority, trusted, name string) embedded.Cluster {
	t.Helper()
	certificate, key := signer.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	dir := t.TempDir()
	c := embedded.Cluster{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"), CAFile: filepath.Join(dir, "ca.crt")}
	write(t, c.CertFile, authority.PEM(certificate))
	write(t, c.KeyFile, keyPEM(t, key))
	write(t, c.CAFile, trusted)
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}
