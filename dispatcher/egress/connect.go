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
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxConnectHeader bounds the header of the proxy's response, in bytes.
const maxConnectHeader = 64 << 10

// httpConnect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6). It serves http endpoints as well: if the
// proxy forwarded the requests, its responses would look like the endpoint's.
func httpConnect(conn net.Conn, t target, user, password string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: t.String()}, Host: t.String(), Header: http.Header{}}
	// An empty value keeps net/http from sending "Go-http-client".
	request.Header.Set("User-Agent", "")
	if user != "" {
		credentials := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return nil, &ProxyError{What: "cannot ask it for a tunnel", Err: err}
	}
	limited := &io.LimitedReader{R: conn, N: maxConnectHeader}
	reader := bufio.NewReader(limited)
	//nolint:bodyclose // A tunnel begins where a body would, and to close that would wait for its end.
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, &ProxyError{What: "it gave no HTTP answer to CONNECT", Err: unquoted(err), waiting: true}
	}
	if err := judgeConnect(response.StatusCode); err != nil {
		return nil, err
	}
	address := t.addrPort()
	if reader.Buffered() > 0 {
		// The endpoint does not speak first, but a proxy may send its bytes early: the tunnel must not lose them.
		early, _ := reader.Peek(reader.Buffered())
		return newTunnel(&unread{Conn: conn, early: append([]byte(nil), early...)}, address), nil
	}
	return newTunnel(conn, address), nil
}

var errMalformed = errors.New("its answer is malformed")

// unquoted returns errors of the connection unchanged and replaces those of net/http, which quote the response and
// thus perhaps the credentials.
func unquoted(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errMalformed
}

// judgeConnect separates faults of the proxy from those of the endpoint. A proxy answers 502, 503 or 504 if it cannot
// reach the endpoint.
func judgeConnect(code int) error {
	said := fmt.Sprintf("%d %s", code, http.StatusText(code))
	switch {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable:
		return &UpstreamError{Said: said, Err: syscall.EHOSTUNREACH}
	case code == http.StatusGatewayTimeout:
		return &UpstreamError{Said: said, Err: context.DeadlineExceeded}
	case code == http.StatusProxyAuthRequired:
		return &ProxyError{What: "it does not accept the credentials (407): see --egress-proxy-credentials-file"}
	case code == http.StatusForbidden:
		return &ProxyError{What: "it forbids a tunnel to this host and port (403): have its administrator open them"}
	default:
		return &ProxyError{What: "it answered CONNECT with " + said}
	}
}

// unread is a connection that first returns bytes that were read too early.
type unread struct {
	net.Conn
	early []byte
}

// Read implements net.Conn.
func (u *unread) Read(b []byte) (int, error) {
	if len(u.early) == 0 {
		return u.Conn.Read(b)
	}
	n := copy(b, u.early)
	u.early = u.early[n:]
	return n, nil
}
