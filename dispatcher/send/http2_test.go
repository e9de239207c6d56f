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
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/authority"
)

// h2 is a connection of an endpoint that speaks HTTP/2 frame by frame.
type h2 struct {
	*http2.Framer
	t *testing.T
}

// request reads a request, up to its end or only its header, and returns its stream and body.
func (c *h2) request(whole bool) (stream uint32, body string, err error) {
	var content bytes.Buffer
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return 0, "", err
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			stream = f.StreamID
			if !whole || f.StreamEnded() {
				return stream, "", nil
			}
		case *http2.DataFrame:
			content.Write(f.Data())
			_ = c.WriteWindowUpdate(0, max(1, uint32(len(f.Data()))))
			if f.StreamEnded() {
				return stream, content.String(), nil
			}
			_ = c.WriteWindowUpdate(f.StreamID, max(1, uint32(len(f.Data()))))
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.WriteSettingsAck()
			}
		}
	}
}

// answer answers a stream with status 200.
func (c *h2) answer(stream uint32) { c.status(stream, "200") }

// status answers a stream with a status, which need not be a number.
func (c *h2) status(stream uint32, status string) {
	var block bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: status}); err != nil {
		c.t.Error(err)
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

// serveH2 serves HTTP/2 connections with f, which gets the number of the connection, from 0. It returns the route of
// the endpoint.
func serveH2(t *testing.T, f func(n int, c *h2)) *route.Route {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(conn, preface); err != nil {
					return
				}
				c := &h2{http2.NewFramer(conn, conn), t}
				_ = c.WriteSettings()
				f(n, c)
			}()
		}
	}()
	r := routeTo("https://" + listener.Addr().String())
	r.TLS = &route.TLS{CA: authority.PEM(certificate.Certificate())}
	return r
}

// A request that meets GOAWAY goes out again, with its whole body, on another connection within the same attempt.
// This holds even for the first request of a connection, and after its body was written (golang/go#32441,
// golang/go#18112, cloudflare/cloudflared#1273).
func TestGoAwayIsReplacedWithTheWholeBody(t *testing.T) {
	body := `{"data":"` + strings.Repeat("y", 200<<10) + `"}`
	goAway := func(c *h2, last uint32) { _ = c.WriteGoAway(last, http2.ErrCodeNo, nil) }
	for name, test := range map[string]struct {
		first int // The number of requests that the first connection answers.
		end   func(*h2)
	}{
		"at the header, of the second request": {1, func(c *h2) {
			if _, _, err := c.request(false); err == nil {
				goAway(c, 1)
			}
		}},
		"after the body, not processed": {1, func(c *h2) {
			if _, _, err := c.request(true); err == nil {
				goAway(c, 1)
			}
		}},
		"after the body, maybe processed": {1, func(c *h2) {
			if stream, _, err := c.request(true); err == nil {
				goAway(c, stream)
			}
		}},
		"of the first request": {0, func(c *h2) {
			if _, _, err := c.request(true); err == nil {
				goAway(c, 0)
			}
		}},
		"stream refused": {1, func(c *h2) {
			if stream, _, err := c.request(true); err == nil {
				_ = c.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
				_, _, _ = c.request(true)
			}
		}},
		"connection ends instead": {1, func(c *h2) { _, _, _ = c.request(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			var got received
			r := serveH2(t, func(n int, c *h2) {
				for i := 0; n > 0 || i < test.first; i++ {
					stream, content, err := c.request(true)
					if err != nil {
						return
					}
					got.add(content)
					c.answer(stream)
				}
				test.end(c)
			})
			sender := newSender()
			for i := range test.first + 1 {
				attempt := sender.Send(t.Context(), r, event(body))
				if attempt.Outcome != v1alpha1.OutcomeSucceeded {
					t.Fatalf("attempt %d is %s: %s", i, attempt.Outcome, attempt.Message)
				}
				if repeated := strings.Contains(attempt.Message, "sent twice"); repeated != (i == test.first) {
					t.Errorf("message of attempt %d is %q", i, attempt.Message)
				}
			}
			if all := got.all(); len(all) != test.first+1 || all[len(all)-1] != body {
				t.Errorf("received %d bodies, the last of %d bytes", len(all), len(all[len(all)-1]))
			}
		})
	}
}

func TestEndlessGoAwayEnds(t *testing.T) {
	var got received
	r := serveH2(t, func(_ int, c *h2) {
		if _, content, err := c.request(true); err == nil {
			got.add(content)
			_ = c.WriteGoAway(0, http2.ErrCodeNo, nil)
		}
	})
	attempt := newSender().Send(t.Context(), r, event("{}"))
	if attempt.Outcome != v1alpha1.OutcomeConnectionReset || attempt.Message == "" {
		t.Errorf("outcome is %s: %s", attempt.Outcome, attempt.Message)
	}
	if n := len(got.all()); n != 2 || !strings.Contains(attempt.Message, "sent twice") {
		t.Errorf("%d requests in one attempt: %s", n, attempt.Message)
	}
}

func TestHTTP2IsSpoken(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	r := routeTo(server.URL)
	r.TLS = &route.TLS{CA: authority.PEM(server.Certificate())}
	if attempt := newSender().Send(t.Context(), r, event("{}")); attempt.ResponseBody != "HTTP/2.0" {
		t.Errorf("attempt is %+v", attempt)
	}
}
