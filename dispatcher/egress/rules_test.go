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
	"net/netip"
	"strings"
	"testing"
)

func TestOpening(t *testing.T) {
	tests := map[string]struct {
		options   Options
		namespace string
		host      string
		port      string
		want      string
	}{
		"opened for all":                        {Options{AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "10.1.2.3", "443", ""},
		"opened for all, mapped":                {Options{AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "::ffff:10.1.2.3", "443", ""},
		"opened by its mapped form":             {Options{AllowCIDRs: List{"::ffff:10.0.0.0/104"}}, "acme", "10.1.2.3", "443", ""},
		"beside what is opened":                 {Options{AllowCIDRs: List{"10.0.0.0/24"}}, "acme", "10.0.1.0", "443", "RFC 1918"},
		"opened, behind NAT64":                  {Options{AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "64:ff9b::10.1.2.3", "443", "NAT64"},
		"opened, behind 6to4":                   {Options{AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "2002:a01:203::1", "443", "6to4"},
		"opened, IPv4-compatible":               {Options{AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "::10.1.2.3", "443", "IPv4-compatible"},
		"NAT64 opened, public inside":           {Options{AllowCIDRs: List{"64:ff9b::/96"}}, "acme", "64:ff9b::8.8.8.8", "443", ""},
		"NAT64 opened, private inside":          {Options{AllowCIDRs: List{"64:ff9b::/96"}}, "acme", "64:ff9b::10.1.2.3", "443", "RFC 1918"},
		"NAT64 opened, metadata inside":         {Options{AllowCIDRs: List{"64:ff9b::/96"}}, "acme", "64:ff9b::169.254.169.254", "443", "metadata"},
		"NAT64 and private opened":              {Options{AllowCIDRs: List{"64:ff9b::/96", "10.0.0.0/8"}}, "acme", "64:ff9b::10.1.2.3", "443", ""},
		"local NAT64 opened, loopback inside":   {Options{AllowCIDRs: List{"64:ff9b:1::/48"}}, "acme", "64:ff9b:1::127.0.0.1", "443", "loopback"},
		"6to4 opened, private inside":           {Options{AllowCIDRs: List{"2002::/16"}}, "acme", "2002:c0a8:1::1", "443", "RFC 1918"},
		"6to4 opened, public inside":            {Options{AllowCIDRs: List{"2002::/16"}}, "acme", "2002:808:808::1", "443", ""},
		"Teredo opened, private client inside":  {Options{AllowCIDRs: List{"2001::/32"}}, "acme", "2001:0:808:808::f5ff:fefe", "443", "RFC 1918"},
		"loopback opened, IPv6":                 {Options{AllowCIDRs: List{"127.0.0.0/8", "::1/128"}}, "acme", "::1", "443", ""},
		"all of IPv6 opened":                    {Options{AllowCIDRs: List{"::/0"}}, "acme", "fd00::1", "443", ""},
		"all of IPv6 opened, mapped":            {Options{AllowCIDRs: List{"::/0"}}, "acme", "::ffff:10.0.0.1", "443", "RFC 1918"},
		"all of IPv6 opened, compatible":        {Options{AllowCIDRs: List{"::/0"}}, "acme", "::10.0.0.1", "443", "RFC 1918"},
		"opened for its namespace":              {Options{AllowCIDRs: List{"acme=10.0.0.0/8"}}, "acme", "10.1.2.3", "443", ""},
		"opened for another namespace":          {Options{AllowCIDRs: List{"globex=10.0.0.0/8"}}, "acme", "10.1.2.3", "443", "RFC 1918"},
		"opened for all, with own":              {Options{AllowCIDRs: List{"acme=10.0.0.0/8", "172.16.0.0/12"}}, "acme", "172.16.0.1", "443", ""},
		"one address opened":                    {Options{AllowCIDRs: List{"127.0.0.1/32"}}, "acme", "127.0.0.1", "443", ""},
		"beside one address":                    {Options{AllowCIDRs: List{"127.0.0.1/32"}}, "acme", "127.0.0.2", "443", "loopback"},
		"ULA opened":                            {Options{AllowCIDRs: List{"fd00:1::/32"}}, "acme", "fd00:1::5", "443", ""},
		"link-local opened, with a zone":        {Options{AllowCIDRs: List{"fe80::/10"}}, "acme", "fe80::1%lo", "443", "zone"},
		"the cluster's, public":                 {Options{ClusterCIDRs: List{"20.0.0.0/16", "2600:1f00::/32"}}, "acme", "20.0.3.4", "443", "cluster"},
		"the cluster's, public, mapped":         {Options{ClusterCIDRs: List{"20.0.0.0/16"}}, "acme", "::ffff:20.0.3.4", "443", "cluster"},
		"the cluster's, IPv6":                   {Options{ClusterCIDRs: List{"2600:1f00::/32"}}, "acme", "2600:1f00::7", "443", "cluster"},
		"the cluster's, behind opened NAT64":    {Options{ClusterCIDRs: List{"20.0.0.0/16"}, AllowCIDRs: List{"64:ff9b::/96"}}, "acme", "64:ff9b::20.0.0.1", "443", "cluster"},
		"beside the cluster's":                  {Options{ClusterCIDRs: List{"20.0.0.0/16"}}, "acme", "20.1.0.0", "443", ""},
		"the cluster's, opened":                 {Options{ClusterCIDRs: List{"20.0.0.0/16"}, AllowCIDRs: List{"20.0.3.0/24"}}, "acme", "20.0.3.4", "443", ""},
		"the cluster's, opened for a namespace": {Options{ClusterCIDRs: List{"20.0.0.0/16"}, AllowCIDRs: List{"globex=20.0.3.0/24"}}, "acme", "20.0.3.4", "443", "cluster"},
		"port 80":                               {Options{}, "acme", "8.8.8.8", "80", ""},
		"port 8443":                             {Options{}, "acme", "8.8.8.8", "8443", ""},
		"port 65535":                            {Options{}, "acme", "8.8.8.8", "65535", ""},
		"port 25":                               {Options{}, "acme", "8.8.8.8", "25", "port 25 is not open"},
		"port 1023":                             {Options{}, "acme", "8.8.8.8", "1023", "--allow-ports"},
		"port 0":                                {Options{}, "acme", "8.8.8.8", "0", "port 0"},
		"another port opened":                   {Options{AllowPorts: "443,8000-8009"}, "acme", "8.8.8.8", "8009", ""},
		"ports narrowed":                        {Options{AllowPorts: "443,8000-8009"}, "acme", "8.8.8.8", "8010", "port 8010"},
		"ports narrowed, private opened":        {Options{AllowPorts: "443", AllowCIDRs: List{"10.0.0.0/8"}}, "acme", "10.0.0.1", "10250", "port 10250"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d, _ := cutting(t, test.options, test.namespace)
			check(t, d, test.host, test.port, test.want)
		})
	}
}

// net/http reuses connections per dialer, so namespaces with different rules need different dialers.
func TestNamespacesWithOwnRulesHaveOwnDialers(t *testing.T) {
	e, err := New(Options{AllowCIDRs: List{"acme=10.0.0.0/8", "globex=10.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	if e.Dialer("acme") == e.Dialer("initech") || e.Dialer("acme") == e.Dialer("globex") {
		t.Error("namespaces with rules of their own share a dialer")
	}
	if e.Dialer("initech") != e.Dialer("umbrella") {
		t.Error("namespaces with the same rules have several dialers")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no CIDR":            {Options{AllowCIDRs: List{"10.0.0.1"}}, "--allow-cidr"},
		"host bits":          {Options{AllowCIDRs: List{"10.0.0.1/8"}}, "10.0.0.0/8"},
		"mapped, too short":  {Options{AllowCIDRs: List{"::ffff:0:0/90"}}, "--allow-cidr"},
		"no namespace":       {Options{AllowCIDRs: List{"=10.0.0.0/8"}}, "namespace"},
		"wrong namespace":    {Options{AllowCIDRs: List{"A_b=10.0.0.0/8"}}, "namespace"},
		"cluster":            {Options{ClusterCIDRs: List{"10.0.0.0"}}, "--cluster-cidr"},
		"port 0":             {Options{AllowPorts: "0"}, "--allow-ports"},
		"port too high":      {Options{AllowPorts: "65536"}, "--allow-ports"},
		"range turned":       {Options{AllowPorts: "90-80"}, "--allow-ports"},
		"no port":            {Options{AllowPorts: "80,"}, "--allow-ports"},
		"proxy scheme":       {Options{Proxy: "ftp://proxy"}, "--egress-proxy"},
		"proxy without host": {Options{Proxy: "http://"}, "--egress-proxy"},
		"proxy with path":    {Options{Proxy: "http://proxy/x"}, "--egress-proxy"},
		"proxy password":     {Options{Proxy: "http://u:s3cret@proxy"}, "--egress-proxy-credentials-file"},
		"proxy, no URL":      {Options{Proxy: "http://u:s3cret@pro xy:%zz"}, "--egress-proxy"},
		"credentials alone":  {Options{ProxyCredentialsFile: "x"}, "--egress-proxy"},
		"no-proxy alone":     {Options{NoProxy: "x"}, "--no-proxy"},
		"no such file":       {Options{Proxy: "http://proxy", ProxyCredentialsFile: "/does/not/exist"}, "--egress-proxy-credentials-file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestListIsAFlag(t *testing.T) {
	var l List
	for _, values := range []string{"10.0.0.0/8", "acme=10.1.0.0/16, 127.0.0.0/8", ""} {
		if err := l.Set(values); err != nil {
			t.Fatal(err)
		}
	}
	if l.String() != "10.0.0.0/8,acme=10.1.0.0/16,127.0.0.0/8" {
		t.Errorf("the list is %s", l.String())
	}
}

// closed lists the ranges of IANA's registries, independently of special.go.
var closed = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "::/3", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48",
	"3fff::/20", "4000::/2", "8000::/1", "168.63.129.16/32")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// FuzzAddress checks that the rules refuse every address of a special range, also inside an IPv6 address, and allow
// every other address.
func FuzzAddress(f *testing.F) {
	for host := range literals {
		if address, err := netip.ParseAddr(host); err == nil {
			b := address.As16()
			f.Add(b[:])
		}
	}
	standard, _, err := parseRules(nil, nil, DefaultPorts)
	if err != nil {
		f.Fatal(err)
	}
	wrapping, _, err := parseRules([]string{"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"}, nil, DefaultPorts)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 16 {
			t.Skip()
		}
		address := netip.AddrFrom16([16]byte(b))
		special := containing(closed, address.Unmap())
		if err := standard.checkAddress("host", address); (err != nil) != special {
			t.Errorf("%s: special %t, but %v", address, special, err)
		}
		v4 := netip.AddrFrom4([4]byte(b[12:]))
		for _, wrapped := range []netip.Addr{
			v4, netip.AddrFrom16(v4.As16()), wrap("64:ff9b::", v4, 12), wrap("64:ff9b:1::", v4, 12), wrap("2002::", v4, 2),
		} {
			err := wrapping.checkAddress("host", wrapped)
			if special := containing(closed, v4); (err != nil) != special {
				t.Errorf("%s with %s inside: special %t, but %v", wrapped, v4, special, err)
			}
			if err := standard.checkAddress("host", wrapped); err == nil && wrapped.Is6() && !wrapped.Is4In6() {
				t.Errorf("%s is let through without an opening", wrapped)
			}
		}
	})
}

// wrap embeds an IPv4 address in an IPv6 address.
func wrap(prefix string, v4 netip.Addr, at int) netip.Addr {
	b := netip.MustParseAddr(prefix).As16()
	copy(b[at:], v4.AsSlice())
	return netip.AddrFrom16(b)
}

// FuzzHost checks that no host which inet_aton reads as an address is resolved as a name, and that allowed addresses
// are public.
func FuzzHost(f *testing.F) {
	for host := range literals {
		f.Add(host)
	}
	for _, host := range []string{"2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "example.com", "example.com.", "xn--bcher-kva.test", "1e3", "+1.2.3.4", "0b1", "1_0"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		target, err := parseTarget("[" + host + "]:443")
		if err != nil {
			return
		}
		if !target.address.IsValid() && aton(target.host) {
			t.Errorf("%q is taken for a name", host)
		}
		if address, err := netip.ParseAddr(host); err == nil && address != target.address {
			t.Errorf("%q is taken for %s", host, target.address)
		}
	})
}

// aton reports whether inet_aton would parse a host: up to four numbers, decimal, octal or hexadecimal.
func aton(host string) bool {
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if len(parts) > 4 {
		return false
	}
	for _, part := range parts {
		digits, base := part, "0123456789"
		if lower := strings.ToLower(part); strings.HasPrefix(lower, "0x") {
			digits, base = lower[2:], "0123456789abcdef"
		}
		if part == "" || strings.Trim(digits, base) != "" {
			return false
		}
	}
	return true
}
