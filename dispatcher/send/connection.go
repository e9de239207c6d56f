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

package send

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// maxConnections bounds the connections that net/http opens for one request. net/http itself has no bound if an
// HTTP/2 endpoint ends each connection before the request is written.
const maxConnections = 10

var errAlwaysEnds = errors.New("the endpoint ended every connection before it answered")

// conn is a connection to an endpoint. Many endpoints answer 413 or 429 and close before they have read the body, but
// net/http gives up at the first failed write. So a write to a connection that the endpoint has closed succeeds here,
// and the next read returns the response or the error.
type conn struct {
	net.Conn
	closed  atomic.Bool // True once a read or write has found that the endpoint closed it.
	written atomic.Int64
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.closed.Store(true)
		return len(b), nil
	}
	return n, err
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		c.closed.Store(true)
	}
	return n, err
}

// connectionTrace observes the connection of a request. Several goroutines of net/http call its hooks.
type connectionTrace struct {
	// stop ends the request.
	stop context.CancelCauseFunc

	mu       sync.Mutex
	conn     net.Conn
	reused   bool
	answered bool
	used     int
	// before is the number of bytes written to the connection before this request.
	before int64
}

func (t *connectionTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.conn, t.reused, t.answered = info.Conn, info.Reused, false
			if c := wrapped(info.Conn); c != nil {
				t.before = c.written.Load()
			}
			if t.used++; t.used > maxConnections {
				t.stop(errAlwaysEnds)
			}
		},
		GotFirstResponseByte: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.answered = true
		},
	}
}

// wrapped returns the conn, below TLS if necessary.
func wrapped(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// remoteIP returns the address of the endpoint, or "" if it is unknown.
func (t *connectionTrace) remoteIP() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.conn.RemoteAddr() == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(t.conn.RemoteAddr().String())
	if err != nil {
		return "" // A proxy does not tell the address that it connected to.
	}
	return host
}

// repeatable reports whether the endpoint cannot have processed the request. Either it said so (GOAWAY,
// REFUSED_STREAM), or a reused connection ended before the first byte of a response.
func (t *connectionTrace) repeatable(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.answered && (isUnprocessed(err) || t.reused && (isEnded(err) || isUnsolicited(err)))
}

// count returns the number of connections used for the request.
func (t *connectionTrace) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// sent reports whether any byte of the request was written.
func (t *connectionTrace) sent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := wrapped(t.conn)
	return c == nil || c.written.Load() > t.before
}

// cutOff reports whether a response is malformed only because the connection ended within its header: net/http then
// takes part of a line for the whole. A response that does not begin as HTTP is malformed however it ended.
func (t *connectionTrace) cutOff(err error) bool {
	text := err.Error()
	_, line, isLine := strings.Cut(text, `malformed HTTP response "`)
	const version = "HTTP/1."
	if isLine && !strings.HasPrefix(line, version) && !strings.HasPrefix(version, strings.TrimSuffix(line, `"`)) {
		return false
	}
	if !strings.Contains(text, "malformed") {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := wrapped(t.conn); c != nil && c.closed.Load() {
		return true
	}
	// crypto/tls remembers an orderly end of the connection, which conn does not see. An HTTP/2 connection continues
	// after a malformed response, and another read would disturb it.
	secure, ok := t.conn.(*tls.Conn)
	if !ok || secure.ConnectionState().NegotiatedProtocol == "h2" {
		return false
	}
	_, readErr := secure.Read(make([]byte, 1))
	return errors.Is(readErr, io.EOF)
}
