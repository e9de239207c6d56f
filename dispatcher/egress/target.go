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
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// target is the destination of a connection.
type target struct {
	// host is a name, or the text of address.
	host string
	// address is invalid for a name.
	address netip.Addr
	port    uint16
}

// parseTarget parses host:port as net/http derives it from a URL.
func parseTarget(hostPort string) (target, error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return target{}, fmt.Errorf("split host and port: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return target{}, fmt.Errorf("%q is not a port", portText)
	}
	t := target{host: host, port: uint16(port)}
	t.address, err = netip.ParseAddr(host)
	switch {
	case err == nil:
		return t, nil
	case strings.Contains(host, ":"):
		return target{}, fmt.Errorf("%q is not an IPv6 address", host)
	case host == "":
		return target{}, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case endsInNumber(host):
		return target{}, &BlockedError{Host: host, Kind: "it is an unusual spelling of an IPv4 address, which programs interpret differently", Remedy: spellIPv4}
	}
	return t, nil
}

// endsInNumber reports whether some programs parse a host as an IPv4 address (inet_aton, and the URL standard of WHATWG,
// "ends in a number"). Examples are 127.1, 0x7f.0.0.1, 2130706433, and 127.0.0.1. with a final full stop. No top-level
// domain is a number.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if hex, ok := strings.CutPrefix(strings.ToLower(last), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

func (t target) String() string {
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
}

// addrPort returns address and port. It is invalid for a name.
func (t target) addrPort() netip.AddrPort {
	if !t.address.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(t.address, t.port)
}
