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

package egress

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers DNS queries on loopback, over UDP and TCP.
type dnsServer struct {
	mu sync.Mutex
	// addresses has the successive answers for each name, each a list of addresses. The last list repeats.
	addresses map[string][][]string
	aliases   map[string]string
	asked     []string
	address   string
}

// newDNS returns a server, and a resolver that queries only this server.
func newDNS(t *testing.T) (*dnsServer, *net.Resolver) {
	t.Helper()
	s := &dnsServer{addresses: map[string][][]string{}, aliases: map[string]string{}}
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	s.address = packets.LocalAddr().String()
	streams, err := net.Listen("tcp4", s.address)
	if err != nil {
		t.Skipf("the port of UDP is taken for TCP: %v", err)
	}
	t.Cleanup(func() { streams.Close() })
	go s.servePackets(packets)
	go s.serveStreams(streams)
	return s, &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, s.address)
	}}
}

func (s *dnsServer) servePackets(packets net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		if answer := s.answer(buffer[:n]); answer != nil {
			_, _ = packets.WriteTo(answer, from)
		}
	}
}

func (s *dnsServer) serveStreams(streams net.Listener) {
	for {
		conn, err := streams.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, question); err != nil {
				return
			}
			answer := s.answer(question)
			_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		}()
	}
}

// set gives a name its addresses: one list for each successive lookup.
func (s *dnsServer) set(name string, lists ...[]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[name] = lists
}

// alias makes a name an alias (CNAME) of another.
func (s *dnsServer) alias(name, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name] = to
}

// questions returns the queried names.
func (s *dnsServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *dnsServer) answer(packet []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(packet)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	owner := question.Name
	for alias := s.aliases[name]; alias != ""; alias = s.aliases[name] {
		target := dnsmessage.MustNewName(alias + ".")
		answer.Answers = append(answer.Answers, resource(owner, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: target}))
		owner, name = target, alias
	}
	lists, ok := s.addresses[name]
	if !ok {
		answer.RCode = dnsmessage.RCodeNameError
	} else if len(lists) > 0 {
		for _, text := range lists[0] {
			address := netip.MustParseAddr(text)
			if address.Is4() && question.Type == dnsmessage.TypeA {
				answer.Answers = append(answer.Answers, resource(owner, question.Type, &dnsmessage.AResource{A: address.As4()}))
			}
			if address.Is6() && question.Type == dnsmessage.TypeAAAA {
				answer.Answers = append(answer.Answers, resource(owner, question.Type, &dnsmessage.AAAAResource{AAAA: address.As16()}))
			}
		}
		// A lookup queries A and AAAA concurrently, and both get the same list.
		if len(lists) > 1 && count(s.asked, name)%2 == 0 {
			s.addresses[name] = lists[1:]
		}
	}
	packed, err := answer.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func count(all []string, one string) int {
	n := 0
	for _, each := range all {
		if each == one {
			n++
		}
	}
	return n
}

func resource(name dnsmessage.Name, kind dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Type: kind, Class: dnsmessage.ClassINET, TTL: 0}, Body: body}
}
