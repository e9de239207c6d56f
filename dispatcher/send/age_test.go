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

package send_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/egress"
	"github.com/postback-dev/postback-operator/dispatcher/send"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/internal/postback/sign"
	"github.com/postback-dev/postback-operator/test/authority"
)

// movingName is a resolver that resolves every name to one IPv4 address, which may change.
type movingName struct{ address atomic.Value }

func newMovingName(t *testing.T, address string) (*movingName, *net.Resolver) {
	t.Helper()
	n := &movingName{}
	n.address.Store(address)
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			length, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := n.answer(buffer[:length]); answer != nil {
				_, _ = packets.WriteTo(answer, from)
			}
		}
	}()
	return n, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, packets.LocalAddr().String())
	}}
}

func (n *movingName) answer(packet []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(packet)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	if question.Type == dnsmessage.TypeA {
		address, _ := n.address.Load().(string)
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
		}}
	}
	packed, _ := answer.Pack()
	return packed
}

// agingSender returns a sender with a fake clock. Its rules forbid one loopback address.
func agingSender(t *testing.T, o egress.Options) (*send.Sender, *clocktesting.FakePassiveClock) {
	t.Helper()
	signer, err := sign.New(sign.DefaultDubHeader)
	if err != nil {
		t.Fatal(err)
	}
	o.AllowCIDRs = egress.List{"127.0.0.1/32", "127.0.0.2/32"}
	out, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	c := clocktesting.NewFakePassiveClock(time.Now())
	return send.New(send.Options{Signer: signer, UserAgent: "Postback/test", Clock: c, Egress: out}), c
}

// everywhere serves on all loopback addresses, and returns the port.
func everywhere(t *testing.T, server *httptest.Server, useTLS bool) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = listener
	if useTLS {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

const (
	// oldest is the greatest age of a connection at the begin of a request.
	oldest = 2 * time.Minute
	// moved is when the name resolves to another address.
	moved = 10 * time.Second
)

// One event a second keeps a connection in use, but the sender still notices the name's new address
// (TykTechnologies/tyk#1485).
func TestChangedNameIsSeenWhileTrafficFlows(t *testing.T) {
	for name, useTLS := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections.Add(1)
				}
			}
			port := everywhere(t, server, useTLS)
			r := routeTo("http://example.com:" + port)
			if useTLS {
				r.URL = "https://example.com:" + port
				r.TLS = &route.TLS{CA: authority.PEM(server.Certificate())}
			}
			dns, resolver := newMovingName(t, "127.0.0.1")
			sender, c := agingSender(t, egress.Options{Resolver: resolver})
			start := c.Now()
			at := func(age time.Duration) v1alpha1.Attempt {
				c.SetTime(start.Add(age))
				return sender.Send(t.Context(), r, event("{}"))
			}
			age := time.Duration(0)
			for ; age <= moved+oldest; age += time.Second {
				if age == moved {
					dns.address.Store("127.0.0.2")
				}
				if attempt := at(age); attempt.Outcome != v1alpha1.OutcomeSucceeded || age < moved && attempt.RemoteIP != "127.0.0.1" {
					t.Fatalf("attempt after %s is %+v", age, attempt)
				}
			}
			if attempt := at(age); attempt.RemoteIP != "127.0.0.2" {
				t.Errorf("%s after the change, a request goes to %s", age-moved, attempt.RemoteIP)
			}
			if n := connections.Load(); n < 2 || n > 4 {
				t.Errorf("%d connections", n)
			}
			dns.address.Store("127.0.0.3")
			if attempt := at(age + oldest); attempt.Outcome != v1alpha1.OutcomeAddressBlocked {
				t.Errorf("a closed address is used: %+v", attempt)
			}
		})
	}
}

// The sender also notices a new address of the endpoint behind a proxy, and of the proxy itself.
func TestChangedNameOfTheProxyIsSeenWhileTrafficFlows(t *testing.T) {
	var last atomic.Value
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if address, isAddr := r.Context().Value(http.LocalAddrContextKey).(net.Addr); isAddr {
			last.Store(address.String())
		}
		conn, reader, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for request := bufio.NewReader(reader); ; {
			got, err := http.ReadRequest(request)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, got.Body)
			_, _ = io.WriteString(conn, ok)
		}
	}))
	port := everywhere(t, proxy, false)
	dns, resolver := newMovingName(t, "127.0.0.1")
	sender, c := agingSender(t, egress.Options{Resolver: resolver, Proxy: "http://proxy.test:" + port})
	for _, want := range []string{"127.0.0.1", "127.0.0.2"} {
		dns.address.Store(want)
		attempt := sender.Send(t.Context(), routeTo("http://example.com"), event("{}"))
		if got, _ := last.Load().(string); attempt.Outcome != v1alpha1.OutcomeSucceeded || got != want+":"+port {
			t.Errorf("the proxy at %s was used, want %s: %+v", got, want, attempt)
		}
		c.SetTime(c.Now().Add(oldest))
	}
}
