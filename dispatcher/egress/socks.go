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
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// These are constants of SOCKS5 (RFC 1928) and its user names and passwords (RFC 1929).
const (
	socksVersion         = 5
	socksConnect         = 1
	socksNoAuth          = 0
	socksPassword        = 2
	socksNoMethod        = 0xff
	socksPasswordVersion = 1
	socksIPv4            = 1
	socksName            = 3
	socksIPv6            = 4

	maxSocksName = 255
)

// socks asks a SOCKS5 proxy for a connection. The outcome of an attempt depends on the proxy's reply code, which
// libraries return only as text.
func socks(conn net.Conn, t target, user, password string) (net.Conn, error) {
	if err := socksGreet(conn, user, password); err != nil {
		return nil, err
	}
	request := []byte{socksVersion, socksConnect, 0}
	switch {
	case t.address.Is4():
		request = append(append(request, socksIPv4), t.address.AsSlice()...)
	case t.address.IsValid():
		request = append(append(request, socksIPv6), t.address.AsSlice()...)
	case len(t.host) > maxSocksName:
		return nil, &net.DNSError{Err: "the name is longer than 255 bytes", Name: t.host[:maxSocksName], IsNotFound: true}
	default:
		request = append(append(request, socksName, byte(len(t.host))), t.host...)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint16(request, t.port)); err != nil {
		return nil, &ProxyError{What: "cannot ask it for a connection", Err: err}
	}
	if err := socksAnswer(conn); err != nil {
		return nil, err
	}
	return newTunnel(conn, t.addrPort()), nil
}

// socksGreet negotiates the authentication method and authenticates.
func socksGreet(conn net.Conn, user, password string) error {
	greeting := []byte{socksVersion, 1, socksNoAuth}
	if user != "" {
		greeting = []byte{socksVersion, 2, socksNoAuth, socksPassword}
	}
	var chosen [2]byte
	if err := exchange(conn, greeting, chosen[:]); err != nil {
		return err
	}
	switch {
	case chosen[0] != socksVersion:
		return &ProxyError{What: "it does not speak SOCKS5"}
	case chosen[1] == socksNoAuth:
		return nil
	case chosen[1] == socksPassword && user != "":
	case chosen[1] == socksNoMethod, chosen[1] == socksPassword:
		return &ProxyError{What: "it requires credentials, or other ones: see --egress-proxy-credentials-file"}
	default:
		return &ProxyError{What: fmt.Sprintf("it requires the unknown method of authentication %d", chosen[1])}
	}
	login := append([]byte{socksPasswordVersion, byte(len(user))}, user...)
	login = append(append(login, byte(len(password))), password...)
	var verdict [2]byte
	if err := exchange(conn, login, verdict[:]); err != nil {
		return err
	}
	if verdict[1] != 0 {
		return &ProxyError{What: "it does not accept the credentials: see --egress-proxy-credentials-file"}
	}
	return nil
}

func exchange(conn net.Conn, request, answer []byte) error {
	if _, err := conn.Write(request); err != nil {
		return &ProxyError{What: "cannot greet it", Err: err}
	}
	if _, err := io.ReadFull(conn, answer); err != nil {
		return &ProxyError{What: "it ended the connection instead of greeting back", Err: err}
	}
	return nil
}

// socksAnswer reads the whole reply to a connection request, so that the next byte is the endpoint's.
func socksAnswer(conn net.Conn) error {
	// The head is version, reply code, reserved byte, address type, and the first byte of the address.
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return &ProxyError{What: "it ended the connection instead of answering", Err: err, waiting: true}
	}
	if head[0] != socksVersion {
		return &ProxyError{What: "it does not speak SOCKS5"}
	}
	if err := judgeSocks(head[1]); err != nil {
		return err
	}
	const portLength = 2
	rest := portLength
	switch head[3] {
	case socksIPv4:
		rest += net.IPv4len - 1
	case socksIPv6:
		rest += net.IPv6len - 1
	case socksName:
		rest += int(head[4])
	default:
		return &ProxyError{What: "it answered with an unknown kind of address"}
	}
	if _, err := io.CopyN(io.Discard, conn, int64(rest)); err != nil {
		return &ProxyError{What: "its answer is cut short", Err: err}
	}
	return nil
}

// judgeSocks separates faults of the proxy from its reports about the endpoint (RFC 1928, section 6).
func judgeSocks(answer byte) error {
	switch answer {
	case 0:
		return nil
	case 1:
		return &ProxyError{What: "it reports a general failure"}
	case 2:
		return &ProxyError{What: "its rules forbid this connection: have its administrator open it"}
	case 3:
		return &UpstreamError{Said: "network unreachable", Err: syscall.ENETUNREACH}
	case 4:
		return &UpstreamError{Said: "host unreachable", Err: syscall.EHOSTUNREACH}
	case 5:
		return &UpstreamError{Said: "connection refused", Err: syscall.ECONNREFUSED}
	case 6:
		// Proxies send this code when the endpoint takes too long.
		return &UpstreamError{Said: "TTL expired", Err: context.DeadlineExceeded}
	default:
		return &ProxyError{What: fmt.Sprintf("it answered with %d", answer), Err: errors.ErrUnsupported}
	}
}
