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
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// errCut aborts an allowed connection before a packet leaves.
var errCut = errors.New("let through, and cut by the test")

// cutting returns a dialer that aborts even allowed connections, and the addresses that the rules allowed.
func cutting(t *testing.T, o Options, namespace string) (*Dialer, *[]string) {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d := *e.Dialer(namespace)
	var mu sync.Mutex
	var through []string
	d.direct.ControlContext = func(ctx context.Context, network, address string, conn syscall.RawConn) error {
		if err := d.control(ctx, network, address, conn); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		through = append(through, address)
		return errCut
	}
	return &d, &through
}

// check dials a host. want is part of the refusal, or "" if the rules should allow the address.
func check(t *testing.T, d *Dialer, host, port, want string) {
	t.Helper()
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
	if conn != nil {
		conn.Close()
		t.Fatalf("%s was connected to", host)
	}
	var blocked *BlockedError
	switch {
	case want == "" && !errors.Is(err, errCut):
		t.Errorf("%s is not let through: %v", host, err)
	case want != "" && !errors.As(err, &blocked):
		t.Errorf("%s is not refused: %v", host, err)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("the refusal of %s does not say %q: %v", host, want, err)
	case want != "" && !strings.Contains(err.Error(), blocked.Remedy):
		t.Errorf("the refusal of %s has no remedy: %v", host, err)
	}
}

// literals maps addresses as URLs have them to a part of the refusal, or to "" if the rules allow them. They are the
// first and last address of each special range, and the neighbours outside.
var literals = map[string]string{
	"0.0.0.0": "unspecified", "0.0.0.1": "this network", "0.255.255.255": "this network", "1.0.0.0": "",
	"9.255.255.255": "", "10.0.0.0": "RFC 1918", "10.255.255.255": "RFC 1918", "11.0.0.0": "",
	"100.63.255.255": "", "100.64.0.0": "RFC 6598", "100.127.255.255": "RFC 6598", "100.128.0.0": "", "100.100.100.200": "metadata",
	"126.255.255.255": "", "127.0.0.0": "loopback", "127.0.0.1": "loopback", "127.255.255.255": "loopback", "128.0.0.0": "",
	"168.63.129.15": "", "168.63.129.16": "metadata", "168.63.129.17": "",
	"169.253.255.255": "", "169.254.0.0": "link-local", "169.254.169.254": "metadata", "169.254.170.2": "metadata",
	"169.254.255.255": "link-local", "169.255.0.0": "",
	"172.15.255.255": "", "172.16.0.0": "RFC 1918", "172.31.255.255": "RFC 1918", "172.32.0.0": "",
	"191.255.255.255": "", "192.0.0.0": "protocols", "192.0.0.8": "protocols", "192.0.0.192": "metadata", "192.0.0.255": "protocols",
	"192.0.1.255": "", "192.0.2.0": "documentation", "192.0.2.255": "documentation", "192.0.3.0": "",
	"192.31.196.1": "protocols", "192.52.193.1": "protocols", "192.88.98.255": "", "192.88.99.0": "6to4", "192.88.99.255": "6to4",
	"192.88.100.0": "", "192.167.255.255": "", "192.168.0.0": "RFC 1918", "192.168.255.255": "RFC 1918", "192.169.0.0": "",
	"192.175.48.6": "protocols", "198.17.255.255": "", "198.18.0.0": "benchmarks", "198.19.255.255": "benchmarks", "198.20.0.0": "",
	"198.51.99.255": "", "198.51.100.0": "documentation", "198.51.100.255": "documentation", "198.51.101.0": "",
	"203.0.112.255": "", "203.0.113.0": "documentation", "203.0.113.255": "documentation", "203.0.114.0": "",
	"223.255.255.255": "", "224.0.0.0": "multicast", "239.255.255.255": "multicast", "240.0.0.0": "reserved",
	"255.255.255.254": "reserved", "255.255.255.255": "broadcast", "8.8.8.8": "", "1.1.1.1": "",

	"::": "unspecified", "::1": "loopback", "::2": "IPv4-compatible", "::127.0.0.1": "IPv4-compatible", "::8.8.8.8": "IPv4-compatible",
	"::ffff:127.0.0.1": "loopback", "::ffff:7f00:1": "loopback", "0:0:0:0:0:ffff:10.1.2.3": "RFC 1918", "::ffff:169.254.169.254": "metadata",
	"::ffff:0.0.0.0": "unspecified", "::ffff:255.255.255.255": "broadcast", "::ffff:8.8.8.8": "", "::ffff:808:808": "",
	"::ffff:0:127.0.0.1": "IPv4-translated", "::ffff:0:8.8.8.8": "IPv4-translated", "::1:0:0:0": "public internet",
	"64:ff9b::127.0.0.1": "NAT64", "64:ff9b::a9fe:a9fe": "NAT64", "64:ff9b::8.8.8.8": "NAT64", "64:ff9b:1::10.0.0.1": "NAT64",
	"64:ff9b:1:ffff:ffff:ffff:ffff:ffff": "NAT64", "64:ff9b:2::1": "public internet",
	"100::": "discarded", "100::ffff:ffff:ffff:ffff": "discarded", "100:0:0:1::": "discarded", "100:0:0:2::": "public internet",
	"200::1": "public internet", "1fff:ffff::1": "public internet", "2000::1": "",
	"2001::1": "Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo", "2001:1::1": "protocols", "2001:2::1": "benchmarks",
	"2001:20::1": "protocols", "2001:30::1": "protocols", "2001:1ff:ffff::": "protocols", "2001:200::1": "",
	"2001:db7:ffff::1": "", "2001:db8::1": "documentation", "2001:db8:ffff:ffff::1": "documentation", "2001:db9::1": "",
	"2001:4860:4860::8888": "", "2002::1": "6to4", "2002:7f00:1::1": "6to4", "2002:a00:1::": "6to4", "2002:808:808::1": "6to4", "2003::1": "",
	"2606:4700:4700::1111": "", "2620:4f:8000::1": "protocols", "2620:4f:8001::1": "",
	"3ffe:ffff::1": "", "3fff::1": "documentation", "3fff:fff:ffff::1": "documentation", "3fff:1000::1": "", "3fff:ffff::1": "",
	"4000::1": "public internet", "5f00::1": "segment routing", "5f01::1": "public internet", "8000::1": "public internet",
	"fbff::1": "public internet", "fc00::1": "RFC 4193", "fd00::1": "RFC 4193", "fd00:ec2::254": "metadata", "fd00:ec2::253": "RFC 4193",
	"fd20:ce::254": "metadata", "fdff:ffff::1": "RFC 4193", "fe00::1": "public internet", "fe80::1": "link-local", "febf::1": "link-local",
	"fec0::1": "site-local", "feff::1": "site-local", "ff02::1": "multicast", "ff0e::1": "multicast",
	"fe80::1%1": "zone", "fe80::1%lo": "zone", "2606:4700:4700::1111%lo": "zone", "::1%lo": "zone",
}

func TestLiteralAddresses(t *testing.T) {
	if len(literals) < 120 {
		t.Errorf("only %d addresses", len(literals))
	}
	_, resolver := newDNS(t)
	d, _ := cutting(t, Options{Resolver: resolver}, "partner-acme")
	for host, want := range literals {
		check(t, d, host, "443", want)
	}
}

// The check of the socket alone refuses the same addresses: behind net/http it is the only check.
func TestSocketsAreChecked(t *testing.T) {
	d, _ := cutting(t, Options{}, "")
	for host, want := range literals {
		err := d.control(t.Context(), "tcp", net.JoinHostPort(host, "443"), nil)
		if blocked := (*BlockedError)(nil); errors.As(err, &blocked) != (want != "") {
			t.Errorf("the socket to %s gives %v", host, err)
		}
	}
	if err := d.control(t.Context(), "tcp", "8.8.8.8:22", nil); err == nil {
		t.Error("a socket to port 22 is let through")
	}
	if err := d.control(t.Context(), "tcp", "nonsense", nil); err == nil {
		t.Error("a socket to nonsense is let through")
	}
}

// Other programs read these hosts as addresses, so the dialer must not resolve them as names.
func TestSpellingsOfAddresses(t *testing.T) {
	dns, resolver := newDNS(t)
	d, _ := cutting(t, Options{Resolver: resolver, AllowCIDRs: List{"127.0.0.0/8"}}, "")
	for _, host := range []string{
		"2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1",
		"127.0.0.0x1", "127.0.0.01", "127.0.0.1.", "010.0.0.1", "0", "0.", "0x", "1.2.3.4.5", "256.256.256.256", "127.0.0.1.1",
		"134744072", "8.8.8.010", "8.8.8.8.", "example.0x7f", "00000000000000000000000000000000000000000000000000177.1", "169.254.43518",
	} {
		t.Run(host, func(t *testing.T) {
			check(t, d, host, "443", "unusual spelling")
		})
	}
	if len(dns.questions()) > 0 {
		t.Errorf("the DNS was asked for %q", dns.questions())
	}
	for _, host := range []string{"::ffff:127.0.0.1:1", "fe80::1::2", "[::1]", "12345::1"} {
		t.Run(host, func(t *testing.T) {
			if _, err := parseTarget("[" + host + "]:443"); err == nil {
				t.Errorf("%q is taken for a host", host)
			}
		})
	}
}

func TestNames(t *testing.T) {
	dns, resolver := newDNS(t)
	for name, addresses := range map[string][]string{
		"public.test":           {"8.8.8.8"},
		"v6.test":               {"2606:4700:4700::1111"},
		"both.test":             {"8.8.8.8", "2606:4700:4700::1111"},
		"loopback.test":         {"127.0.0.1"},
		"loopback6.test":        {"::1"},
		"private.test":          {"10.1.2.3"},
		"metadata.test":         {"169.254.169.254"},
		"mapped.test":           {"::ffff:10.0.0.1"},
		"nat64.test":            {"64:ff9b::a00:1"},
		"v6private.test":        {"fd00::1"},
		"private-and-more.test": {"10.1.2.3", "192.168.0.1", "::1"},
		"zero.test":             {"0.0.0.0"},
		"empty.test":            {},
		"xn--bcher-kva.test":    {"8.8.8.8"},
		"xn--caf-dma.test":      {"127.0.0.1"},
		"dead-beef.test":        {"8.8.4.4"},
		"0x7f.test":             {"8.8.4.4"},
		"1.test":                {"8.8.4.4"},
		"_x.test":               {"10.0.0.1"},
	} {
		dns.set(name, addresses)
	}
	dns.alias("alias.test", "alias2.test")
	dns.alias("alias2.test", "public.test")
	dns.alias("inward.test", "private.test")
	d, _ := cutting(t, Options{Resolver: resolver}, "")
	for host, want := range map[string]string{
		"public.test": "", "PUBLIC.Test": "", "public.test.": "", "v6.test": "", "v6.test.": "", "both.test": "", "alias.test": "",
		"alias.test.": "", "xn--bcher-kva.test": "", "dead-beef.test": "", "0x7f.test": "", "1.test": "",
		"loopback.test": "loopback", "LOOPBACK.test": "loopback", "loopback.test.": "loopback", "loopback6.test": "loopback",
		"private.test": "RFC 1918", "private.test.": "RFC 1918", "metadata.test": "metadata", "mapped.test": "RFC 1918",
		"nat64.test": "NAT64", "v6private.test": "RFC 4193", "private-and-more.test": "none of its addresses", "zero.test": "unspecified",
		"inward.test": "RFC 1918", "inward.test.": "RFC 1918", "xn--caf-dma.test": "loopback", "_x.test": "RFC 1918",
		"localhost": "loopback",
	} {
		t.Run(host, func(t *testing.T) {
			check(t, d, host, "443", want)
		})
	}
	for _, host := range []string{"absent.test", "empty.test", ""} {
		t.Run(host, func(t *testing.T) {
			_, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, "443"))
			if notFound := (*net.DNSError)(nil); !errors.As(err, &notFound) {
				t.Errorf("%q gives %v", host, err)
			}
		})
	}
	_, err := d.DialContext(t.Context(), "tcp", "private.test:443")
	if strings.Contains(err.Error(), "10.1.2.3") {
		t.Errorf("the refusal tells an address of a private name: %v", err)
	}
}

// The dialer skips blocked addresses of an endpoint and tries the others in order.
func TestSeveralAddresses(t *testing.T) {
	dns, resolver := newDNS(t)
	dns.set("mixed.test", []string{"10.0.0.1", "8.8.8.8", "127.0.0.1", "8.8.4.4", "2606:4700:4700::1111", "fd00::1"})
	var many []string
	for i := range 40 {
		many = append(many, netip.AddrFrom4([4]byte{8, 8, 4, byte(i)}).String())
	}
	dns.set("many.test", many)
	d, through := cutting(t, Options{Resolver: resolver}, "")
	check(t, d, "mixed.test", "443", "")
	if len(*through) != 3 {
		t.Errorf("let through to %q", *through)
	}
	for _, address := range *through {
		if strings.HasPrefix(address, "10.") || strings.HasPrefix(address, "127.") || strings.HasPrefix(address, "[fd") {
			t.Errorf("let through to %s", address)
		}
	}
	*through = nil
	check(t, d, "many.test", "443", "")
	if len(*through) != maxAddresses {
		t.Errorf("%d addresses tried", len(*through))
	}
}

// A name may resolve to other addresses at each lookup. The dialer connects to the addresses that it checked.
func TestRebinding(t *testing.T) {
	dns, resolver := newDNS(t)
	dns.set("rebind.test", []string{"8.8.8.8"}, []string{"127.0.0.1"}, []string{"169.254.169.254", "8.8.8.8"})
	d, through := cutting(t, Options{Resolver: resolver}, "")
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	for i, wantCut := range []bool{true, false, true} {
		_, err := client.Post("http://rebind.test/", "text/plain", nil)
		if blocked := (*BlockedError)(nil); errors.Is(err, errCut) != wantCut || errors.As(err, &blocked) == wantCut {
			t.Errorf("connection %d gives %v", i, err)
		}
	}
	for _, address := range *through {
		if address != "8.8.8.8:80" {
			t.Errorf("let through to %s", address)
		}
	}
}

// net/http passes hosts in punycode, with the digits of other scripts converted to ASCII.
func TestInternationalNames(t *testing.T) {
	dns, resolver := newDNS(t)
	dns.set("xn--bcher-kva.test", []string{"8.8.8.8"})
	dns.set("xn--caf-dma.test", []string{"127.0.0.1"})
	d, _ := cutting(t, Options{Resolver: resolver}, "")
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	for url, wantCut := range map[string]bool{
		"http://bücher.test/": true, "http://BÜCHER.test/": true, "http://bücher.test./": true, "http://bücher。test/": true,
		"http://café.test/": false, "http://１２７.０.０.１/": false, "http://127。0。0。1/": false, "http://①②⑦.0.0.1/": false,
		"http://[::1]/": false, "http://[fe80::1%25lo]/": false, "http://[::ffff:7f00:1]/": false, "http://8.8.8.8/": true,
	} {
		t.Run(url, func(t *testing.T) {
			_, err := client.Post(url, "text/plain", nil)
			if blocked := (*BlockedError)(nil); errors.Is(err, errCut) != wantCut || errors.As(err, &blocked) == wantCut {
				t.Errorf("%s gives %v", url, err)
			}
		})
	}
	for _, name := range dns.questions() {
		if name != "xn--bcher-kva.test" && name != "xn--caf-dma.test" {
			t.Errorf("the DNS was asked for %q", name)
		}
	}
}
