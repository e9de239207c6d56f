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
)

// BlockedError reports a connection that the rules forbid. Its text is for the owner of the Postback. It names the kind
// of target and the remedy. It omits the address of a name: otherwise a tenant could query a private DNS.
type BlockedError struct {
	// Host is the host of the URL, without the port.
	Host string
	// Kind describes the address or its spelling.
	Kind string
	// Remedy says how to allow the connection.
	Remedy string
}

// Error implements error.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("the dispatcher may not reach %s: %s; %s", e.Host, e.Kind, e.Remedy)
}

const (
	openAddress = "use a public address, or have the operator of this installation open this one (the dispatcher's flag --allow-cidr)"
	openPort    = "use another port, or have the operator of this installation open this one (the dispatcher's flag --allow-ports)"
	spellIPv4   = "write it as four decimal numbers, such as 192.0.2.1"
	dropZone    = "use an address without a zone"
)

// ProxyError is a fault of the egress proxy itself, not of the endpoint behind it.
type ProxyError struct {
	// The description of the fault, without a secret.
	What string
	// Err is the cause, or nil.
	Err error
	// waiting is true if the proxy had the complete request and should have connected to the endpoint.
	waiting bool
}

// Error implements error.
func (e *ProxyError) Error() string {
	text := "the egress proxy failed: " + e.What
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

// UpstreamError reports that the proxy could not reach the endpoint.
type UpstreamError struct {
	// Said is the proxy's answer in words.
	Said string
	// Err is the equivalent error without a proxy, such as syscall.ECONNREFUSED.
	Err error
}

// Error implements error.
func (e *UpstreamError) Error() string {
	return fmt.Sprintf("the egress proxy could not reach the endpoint: it answered %q", e.Said)
}

// Unwrap returns the error that a direct connection would have returned.
func (e *UpstreamError) Unwrap() error { return e.Err }

// viaProxy is the remote address of a tunnel if only the proxy knows the address of the endpoint.
type viaProxy struct{}

func (viaProxy) Network() string { return "tcp" }
func (viaProxy) String() string  { return "" }

// tunnel is a connection through a proxy. Its remote address is the endpoint's, not the proxy's.
type tunnel struct {
	net.Conn
	remote net.Addr
}

func newTunnel(conn net.Conn, target netip.AddrPort) net.Conn {
	if !target.IsValid() {
		return &tunnel{Conn: conn, remote: viaProxy{}}
	}
	return &tunnel{Conn: conn, remote: net.TCPAddrFromAddrPort(target)}
}

// RemoteAddr returns the endpoint's address, or a viaProxy if only the proxy knows it.
func (t *tunnel) RemoteAddr() net.Addr { return t.remote }
