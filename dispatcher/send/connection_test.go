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

package send_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/authority"
	"github.com/postback-dev/postback-operator/test/receiver"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// received has the bodies of the requests that a raw endpoint has read.
type received struct {
	mu     sync.Mutex
	bodies []string
}

func (r *received) add(body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, body)
}

func (r *received) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.bodies...)
}

// An endpoint answers one request, keeps the connection, and ends it at the next request: after reading it, by a
// reset, or by a close. Each time the whole event goes out on another connection, within the same attempt. In
// knative/eventing#4425 the second request had no body.
func TestStaleConnectionIsReplacedWithTheWholeBody(t *testing.T) {
	large := `{"data":"` + strings.Repeat("x", 600<<10) + `"}`
	for name, body := range map[string]string{"small": `{"n":1}`, "large": large} {
		for how, end := range map[string]func(net.Conn, *bufio.Reader){
			"closed when idle":        func(net.Conn, *bufio.Reader) {},
			"closed at the next byte": func(_ net.Conn, r *bufio.Reader) { _, _ = r.ReadByte() },
			"reset at the next byte": func(conn net.Conn, r *bufio.Reader) {
				_, _ = r.ReadByte()
				if tcp, isTCP := conn.(*net.TCPConn); isTCP {
					_ = tcp.SetLinger(0)
				}
			},
			"closed after the request": func(_ net.Conn, r *bufio.Reader) {
				if request, err := http.ReadRequest(r); err == nil {
					_, _ = io.Copy(io.Discard, request.Body)
				}
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				var got received
				address := receiver.Raw(t, func(conn net.Conn) {
					reader := bufio.NewReader(conn)
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					content, err := io.ReadAll(request.Body)
					if err != nil || int64(len(content)) != request.ContentLength {
						t.Errorf("%d bytes of %d, %v", len(content), request.ContentLength, err)
					}
					got.add(string(content))
					_, _ = io.WriteString(conn, ok)
					end(conn, reader)
				})
				sender := newSender()
				for i := range 3 {
					attempt := sender.Send(t.Context(), routeTo("http://"+address), event(body))
					if attempt.Outcome != v1alpha1.OutcomeSucceeded {
						t.Fatalf("attempt %d is %s: %s", i, attempt.Outcome, attempt.Message)
					}
				}
				if all := got.all(); len(all) != 3 || all[0] != body || all[1] != body || all[2] != body {
					t.Errorf("received %d bodies", len(all))
				}
			})
		}
	}
}

// A fresh connection that ends without a response is a failed attempt. Otherwise repeats could go on endlessly.
func TestFreshConnectionIsNotReplaced(t *testing.T) {
	var got received
	address := receiver.Raw(t, func(conn net.Conn) {
		if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			content, _ := io.ReadAll(request.Body)
			got.add(string(content))
		}
	})
	attempt := newSender().Send(t.Context(), routeTo("http://"+address), event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeConnectionReset || len(got.all()) != 1 {
		t.Errorf("outcome is %s after %d requests", attempt.Outcome, len(got.all()))
	}
}

// A malformed HTTP/2 response ends only its stream. The connection serves the next request.
func TestMalformedAnswerLeavesTheConnection(t *testing.T) {
	r := serveH2(t, func(n int, c *h2) {
		for status := "none"; n == 0; status = "200" {
			stream, _, err := c.request(true)
			if err != nil {
				return
			}
			c.status(stream, status)
		}
	})
	sender := newSender()
	if attempt := sender.Send(t.Context(), r, event("{}")); attempt.Outcome != v1alpha1.OutcomeInvalidResponse {
		t.Errorf("outcome is %s: %s", attempt.Outcome, attempt.Message)
	}
	if attempt := sender.Send(t.Context(), r, event("{}")); attempt.Outcome != v1alpha1.OutcomeSucceeded {
		t.Errorf("the next outcome is %s: %s", attempt.Outcome, attempt.Message)
	}
}

// An endpoint leaves eight idle connections, then resets each after it has read a request. One attempt sends at most
// two requests, and its message says so (oven-sh/bun#28708).
func TestOneAttemptIsTwoRequestsAtMost(t *testing.T) {
	const warm = 8
	for name, useTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			var got received
			var broken atomic.Bool
			var all sync.WaitGroup
			all.Add(warm)
			serve := func(conn net.Conn) {
				for reader := bufio.NewReader(conn); ; {
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					content, _ := io.ReadAll(request.Body)
					if broken.Load() {
						got.add(string(content))
						reset(conn)
						return
					}
					all.Done()
					all.Wait()
					_, _ = io.WriteString(conn, ok)
				}
			}
			r := serveRaw(t, useTLS, serve)
			sender := newSender()
			var warming sync.WaitGroup
			for range warm {
				warming.Go(func() { sender.Send(t.Context(), r, event("{}")) })
			}
			warming.Wait()
			broken.Store(true)
			r.Headers = []route.Header{{Name: "Idempotency-Key", Value: "evt_1"}} // net/http would repeat such a request.
			attempt := sender.Send(t.Context(), r, event("{}"))
			if n := len(got.all()); n != 2 || attempt.Outcome != v1alpha1.OutcomeConnectionReset || !strings.Contains(attempt.Message, "sent twice") {
				t.Errorf("%d requests; the attempt is %s: %s", n, attempt.Outcome, attempt.Message)
			}
		})
	}
}

// reset ends a connection by a TCP reset, which discards data in flight.
func reset(conn net.Conn) {
	if secure, isTLS := conn.(*tls.Conn); isTLS {
		conn = secure.NetConn()
	}
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// serveRaw serves each connection with f, and returns the route of the endpoint.
func serveRaw(t *testing.T, useTLS bool, f func(net.Conn)) *route.Route {
	t.Helper()
	if !useTLS {
		return routeTo("http://" + receiver.Raw(t, f))
	}
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	r := routeTo("https://" + receiver.Raw(t, func(conn net.Conn) {
		f(tls.Server(conn, &tls.Config{Certificates: certificate.TLS.Certificates}))
	}))
	r.TLS = &route.TLS{CA: authority.PEM(certificate.Certificate())}
	return r
}

// An endpoint answers before it has read the body, and closes. The response counts, with its Retry-After.
func TestEarlyAnswerIsNotLost(t *testing.T) {
	body := `{"data":"` + strings.Repeat("x", 250<<10) + `"}`
	const rounds = 100
	for name, useTLS := range map[string]bool{"plain": false, "TLS": true} {
		for status, want := range map[string]v1alpha1.Outcome{
			"200 OK": v1alpha1.OutcomeSucceeded, "413 Content Too Large": v1alpha1.OutcomeRejected4xx, "429 Too Many Requests": v1alpha1.OutcomeRejected4xx,
		} {
			t.Run(name+" "+status, func(t *testing.T) {
				r := serveRaw(t, useTLS, func(conn net.Conn) {
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nRetry-After: 30\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
					}
					_ = conn.Close()
				})
				sender := newSender()
				for i := range rounds {
					attempt := sender.Send(t.Context(), r, event(body))
					if attempt.Outcome != want || want != v1alpha1.OutcomeSucceeded && attempt.RetryAfterTime == nil {
						t.Fatalf("attempt %d is %s: %s", i, attempt.Outcome, attempt.Message)
					}
				}
			})
		}
	}
}

// A response that is cut off in its header is not classified as malformed. It does not matter where it is cut, or
// whether by a reset or a close.
func TestAnswerCutOffInItsHeader(t *testing.T) {
	const header = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	for name, useTLS := range map[string]bool{"plain": false, "TLS": true} {
		for how, end := range map[string]func(net.Conn){"closed": func(c net.Conn) { _ = c.Close() }, "reset": reset} {
			for _, length := range []int{0, 2, 6, 11, 14, 17, 19, 27, len(header)} {
				t.Run(fmt.Sprintf("%s, %s after %d bytes", name, how, length), func(t *testing.T) {
					r := serveRaw(t, useTLS, func(conn net.Conn) {
						if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
							_, _ = io.Copy(io.Discard, request.Body)
							_, _ = io.WriteString(conn, header[:length])
						}
						end(conn)
					})
					attempt := newSender().Send(t.Context(), r, event("{}"))
					if attempt.Outcome != v1alpha1.OutcomeConnectionReset {
						t.Errorf("outcome is %s: %s", attempt.Outcome, attempt.Message)
					}
				})
			}
		}
	}
}
