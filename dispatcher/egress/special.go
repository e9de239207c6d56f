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
	"slices"

	"code.dny.dev/ssrf"
)

// kind is an address range with its description.
type kind struct {
	prefix netip.Prefix
	name   string
}

func kinds(name string, prefixes ...string) []kind {
	all := make([]kind, 0, len(prefixes))
	for _, p := range prefixes {
		all = append(all, kind{netip.MustParsePrefix(p), name})
	}
	return all
}

// specialKinds describes the ranges outside the public internet, narrow ranges before the wider ones around them. The
// sources are the IANA registries of special-purpose addresses for IPv4 and IPv6; RFC 3879 (site-local), RFC 4291
// (IPv4-compatible); and the metadata addresses of clouds.
var specialKinds = slices.Concat(
	kinds("it is a cloud's metadata service", "169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32",
		"192.0.0.192/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"),
	kinds("it is loopback, the dispatcher itself", "127.0.0.0/8", "::1/128"),
	kinds("it is the unspecified address, the dispatcher itself", "0.0.0.0/32", "::/128"),
	kinds(`it is of "this network" (RFC 791)`, "0.0.0.0/8"),
	kinds("it is private (RFC 1918)", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
	kinds("it is private (unique local, RFC 4193)", "fc00::/7"),
	kinds("it is private (shared address space of carriers, RFC 6598)", "100.64.0.0/10"),
	kinds("it is link-local", "169.254.0.0/16", "fe80::/10"),
	kinds("it is site-local (RFC 3879)", "fec0::/10"),
	kinds("it is the broadcast address", "255.255.255.255/32"),
	kinds("it is multicast", "224.0.0.0/4", "ff00::/8"),
	kinds("it is for documentation", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
	kinds("it is for benchmarks (RFC 2544)", "198.18.0.0/15", "2001:2::/48"),
	kinds("it is a relay of 6to4 (RFC 7526)", "192.88.99.0/24"),
	kinds("it is an IPv4 address behind NAT64 (RFC 6052)", "64:ff9b::/96", "64:ff9b:1::/48"),
	kinds("it is an IPv4 address behind 6to4 (RFC 3056)", "2002::/16"),
	kinds("it is an IPv4 address behind Teredo (RFC 4380)", "2001::/32"),
	kinds("it is an IPv4-compatible IPv6 address (RFC 4291)", "::/96"),
	kinds("it is an IPv4-translated IPv6 address (RFC 2765)", "::ffff:0:0:0/96"),
	kinds("it is discarded (RFC 6666, RFC 9780)", "100::/64", "100:0:0:1::/64"),
	kinds("it is a segment routing identifier (RFC 9602)", "5f00::/16"),
	kinds("it is reserved for protocols", "192.0.0.0/24", "2001::/23", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24",
		"2620:4f:8000::/48"),
	kinds("it is reserved", "240.0.0.0/4"),
)

// public decides about addresses that no flag opens or closes. It refuses every range that IANA has not given to the
// public internet, including ranges that specialKinds does not list.
var public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork())

// specialKind returns the description of an address outside the public internet, or "" for a public one.
func specialKind(address netip.Addr) string {
	for _, k := range specialKinds {
		if k.prefix.Contains(address) {
			return k.name
		}
	}
	if public.SafeAddr(address) != nil {
		return "it is not an address of the public internet"
	}
	return ""
}

// inside returns the IPv4 addresses embedded in an IPv6 address of NAT64, 6to4, Teredo and the like. For the
// local-use prefix of NAT64 (RFC 8215), it assumes /96 prefixes.
func inside(address netip.Addr) []netip.Addr {
	b := address.As16()
	low := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case !address.Is6(), address.Is4In6(), address.IsLoopback(), address.IsUnspecified():
		return nil
	case nat64.Contains(address), nat64Local.Contains(address), compatible.Contains(address), translated.Contains(address):
		return []netip.Addr{low}
	case sixToFour.Contains(address):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(address):
		// Teredo embeds the server, and the client with inverted bits.
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4(client)}
	default:
		return nil
	}
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
)
