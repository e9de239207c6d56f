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
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// List is a repeatable flag with comma-separated values.
type List []string

// String implements flag.Value.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value. It adds to the values of earlier calls.
func (l *List) Set(values string) error {
	for value := range strings.SplitSeq(values, ",") {
		if value = strings.TrimSpace(value); value != "" {
			*l = append(*l, value)
		}
	}
	return nil
}

// rules are the addresses that the Postbacks of one or more namespaces may reach.
type rules struct {
	// allowed is open, even if it is special. cluster is closed, even if it is public.
	allowed, cluster []netip.Prefix
	ports            ports
}

// parseRules returns the rules for all namespaces, and separate rules for the namespaces with ranges of their own.
func parseRules(allow, cluster []string, portList string) (rules, map[string]rules, error) {
	var all rules
	var err error
	if all.ports, err = parsePorts(portList); err != nil {
		return rules{}, nil, err
	}
	for _, text := range cluster {
		prefix, err := parsePrefix(text)
		if err != nil {
			return rules{}, nil, fmt.Errorf("--cluster-cidr: %w", err)
		}
		all.cluster = append(all.cluster, prefix)
	}
	byNamespace := map[string][]netip.Prefix{}
	for _, text := range allow {
		namespace, cidr, ok := strings.Cut(text, "=")
		if !ok {
			namespace, cidr = "", text
		}
		if problems := validation.IsDNS1123Label(namespace); ok && len(problems) > 0 {
			return rules{}, nil, fmt.Errorf("--allow-cidr: %q is not the name of a namespace: write namespace=10.0.0.0/8, or 10.0.0.0/8 for all", namespace)
		}
		prefix, err := parsePrefix(cidr)
		if err != nil {
			return rules{}, nil, fmt.Errorf("--allow-cidr: %w", err)
		}
		byNamespace[namespace] = append(byNamespace[namespace], prefix)
	}
	all.allowed = byNamespace[""]
	delete(byNamespace, "")
	own := map[string]rules{}
	for namespace, allowed := range byNamespace {
		own[namespace] = rules{allowed: slices.Concat(all.allowed, allowed), cluster: all.cluster, ports: all.ports}
	}
	return all, own, nil
}

// parsePrefix parses a CIDR. It converts IPv4-mapped IPv6 ranges to IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR: write one such as 10.0.0.0/8, 10.1.2.3/32 or fd00::/8", text)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its length: write %s", text, prefix.Masked())
	}
	if prefix.Addr().Is4In6() {
		const mappedBits = 96
		if prefix.Bits() < mappedBits {
			return netip.Prefix{}, fmt.Errorf("%q is part of the IPv4-mapped range: write the IPv4 range", text)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	return prefix, nil
}

// checkPort returns a BlockedError if a port is closed.
func (r *rules) checkPort(host string, port uint16) error {
	if r.ports.contain(port) {
		return nil
	}
	return &BlockedError{Host: host, Kind: fmt.Sprintf("port %d is not open", port), Remedy: openPort}
}

// checkAddress returns a BlockedError if an address is closed. host is the host in the URL.
func (r *rules) checkAddress(host string, address netip.Addr) error {
	if !address.IsValid() || address.Zone() != "" {
		// A zone selects a network interface, which a URL must not do.
		return &BlockedError{Host: host, Kind: "it is an address with a zone", Remedy: dropZone}
	}
	address = address.Unmap()
	reason := specialKind(address)
	if containing(r.cluster, address) {
		reason = "it is an address of the cluster itself"
	}
	if containing(r.allowed, address) {
		reason = ""
	}
	if reason != "" {
		return &BlockedError{Host: host, Kind: reason, Remedy: openAddress}
	}
	// A range that opens a translation prefix such as NAT64 does not open every IPv4 address behind it.
	for _, wrapped := range inside(address) {
		if err := r.checkAddress(host, wrapped); err != nil {
			return err
		}
	}
	return nil
}

func containing(prefixes []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(address) })
}
