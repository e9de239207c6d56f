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
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/dispatcher/embedded"
	"github.com/postback-dev/postback-operator/test/authority"
)

// TestKilledServerKeepsWhatItAcknowledged kills a process with a server while it publishes.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	options := embedded.Options{Name: "replica-0", StoreDir: t.TempDir()}
	lines, kill := startChild(t, child{Options: options, Publish: true})
	acknowledged := 0
	for acknowledged < 200 && lines.Scan() {
		var err error
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	kill()
	for lines.Scan() { // The process may have printed more before its end.
		acknowledged, _ = strconv.Atoi(lines.Text())
	}
	server := start(t, options)
	eventuallyReady(t, server)
	got := stored(t, mustConnect(t, server))
	// One more message may be stored whose acknowledgement was lost.
	if len(got) < acknowledged || len(got) > acknowledged+1 || acknowledged < 200 {
		t.Fatalf("%d messages were acknowledged, %d are stored", acknowledged, len(got))
	}
	if diff := cmp.Diff(numbers(len(got)), got); diff != "" {
		t.Error(diff)
	}
}

func TestOrderlyRestart(t *testing.T) {
	options := embedded.Options{Name: "replica-0", StoreDir: t.TempDir(), Log: logr.Discard()}
	server, err := embedded.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	js := mustConnect(t, server)
	if err := makeStream(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte("1")); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	server.Shutdown()
	if got := stored(t, mustConnect(t, start(t, options))); !cmp.Equal(got, numbers(1)) {
		t.Errorf("the server has %q after a restart", got)
	}
}

// TestThreeServers kills a server, restarts it, restarts another without its store, and checks that no message is
// lost.
func TestThreeServers(t *testing.T) {
	g := gomega.NewWithT(t)
	options := three(t)
	_, kill := startChild(t, child{Options: options[2]})
	first, second := start(t, options[0]), start(t, options[1])
	js := mustConnect(t, first)
	if err := makeStream(t.Context(), js, 3); err != nil {
		t.Fatal(err)
	}
	eventuallyReady(t, first, second)
	published := 0
	publish := func() error {
		_, err := js.Publish(t.Context(), subject, []byte(strconv.Itoa(published+1)))
		if err == nil {
			published++
		}
		return err
	}
	for range 50 {
		g.Eventually(publish, patience, interval).Should(gomega.Succeed())
	}
	kill()
	for range 50 {
		g.Eventually(publish, patience, interval).Should(gomega.Succeed())
	}
	third := start(t, options[2])
	eventuallyReady(t, third)

	// The second server loses its volume.
	second.Shutdown()
	options[1].StoreDir = t.TempDir()
	second = start(t, options[1])
	eventuallyReady(t, second, first, third)

	// Any two servers have all messages: the first stops, and the server with the new volume answers.
	js.Conn().Close()
	js = mustConnect(t, second)
	first.Shutdown()
	g.Eventually(func() error { _, err := js.Stream(t.Context(), streamName); return err }, patience, interval).Should(gomega.Succeed())
	got := map[string]bool{}
	for _, body := range stored(t, js) {
		got[body] = true
	}
	for _, number := range numbers(published) {
		if !got[number] {
			t.Errorf("message %s is lost", number)
		}
	}
}

// three returns the options of a cluster on loopback. Each server has its own certificate for the same name.
func three(t *testing.T) (all [3]embedded.Options) {
	t.Helper()
	ca := authority.New(t)
	var peers embedded.Peers
	for range all {
		peers = append(peers, freeAddress(t))
	}
	for i := range all {
		c := certificates(t, ca, ca.Bundle(), "ingest.example.com")
		c.Peers, c.Address = peers, peers[i]
		all[i] = embedded.Options{Name: "replica-" + strconv.Itoa(i), StoreDir: t.TempDir(), Cluster: c}
	}
	return all
}

func TestStoreIsRefused(t *testing.T) {
	t.Run("of three servers, for one", func(t *testing.T) {
		options := three(t)[0]
		start(t, options).Shutdown()
		options.Cluster = embedded.Cluster{}
		expectRefusal(t, options, "holds the messages of one server of three", "Set --nats-cluster-peers")
	})
	t.Run("of one server, for three", func(t *testing.T) {
		options := three(t)[0]
		alone := options
		alone.Cluster = embedded.Cluster{}
		start(t, alone).Shutdown()
		expectRefusal(t, options, "holds the messages of one server alone", "Start without --nats-cluster-peers")
	})
	t.Run("in use", func(t *testing.T) {
		options := embedded.Options{Name: "replica-0", StoreDir: t.TempDir()}
		start(t, options)
		expectRefusal(t, options, "another process uses --nats-store-dir="+options.StoreDir)
	})
}

func TestOptionsAreRefused(t *testing.T) {
	whole := three(t)[0]
	for _, tt := range []struct {
		name   string
		change func(*embedded.Options)
		want   string
	}{
		{"without a directory", func(o *embedded.Options) { o.StoreDir = "" }, "--nats-store-dir"},
		{"a negative interval", func(o *embedded.Options) { o.SyncInterval = -1 }, "--nats-sync-interval"},
		{"two peers", func(o *embedded.Options) { o.Cluster.Peers = o.Cluster.Peers[:2] }, "must name 3 different servers"},
		{"a peer twice", func(o *embedded.Options) { o.Cluster.Peers = embedded.Peers{"peer-0", "peer-1", "peer-0"} }, "must name 3 different servers"},
		{"authorities of no peers", func(o *embedded.Options) { o.Cluster.Peers = nil }, "--nats-cluster-ca-file"},
		{"without a certificate", func(o *embedded.Options) { o.Cluster.CertFile = "" }, "--ingest-tls-cert-file"},
		{"without authorities", func(o *embedded.Options) { o.Cluster.CAFile = "" }, "--nats-cluster-ca-file"},
		{"a missing certificate", func(o *embedded.Options) { o.Cluster.CertFile = "/nowhere" }, "--ingest-tls-cert-file"},
		{"authorities that are none", func(o *embedded.Options) { o.Cluster.CAFile = o.Cluster.KeyFile }, "holds no certificate"},
		{"an address without a port", func(o *embedded.Options) { o.Cluster.Address = "127.0.0.1" }, "--nats-cluster-bind-address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := whole
			tt.change(&options)
			expectRefusal(t, options, tt.want)
		})
	}
}

func expectRefusal(t *testing.T, o embedded.Options, texts ...string) {
	t.Helper()
	o.Log = logr.Discard()
	server, err := embedded.Start(o)
	if err == nil {
		server.Shutdown()
		t.Fatal("the server starts")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %q, without %q", err, text)
		}
	}
}

// TestTakenPort checks that an error of the server ends the dispatcher, with that error.
func TestTakenPort(t *testing.T) {
	options := three(t)[0]
	listener, err := net.Listen("tcp", options.Cluster.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := start(t, options).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the server ends with %v", err)
	}
}

func TestPeersAreAFlag(t *testing.T) {
	var peers embedded.Peers
	if err := peers.Set("a, b:1,,c"); err != nil {
		t.Fatal(err)
	}
	if got := peers.String(); got != "a,b:1,c" {
		t.Errorf("the flag is %q", got)
	}
}
