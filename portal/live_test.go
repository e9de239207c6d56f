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

package portal

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// pipes is a listener whose connections have no buffer: what the peer does not read is not written.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// TestSlowReadersAreCutOff: a live page whose visitor reads nothing ends after slowRead. Until then nothing collects.
func TestSlowReadersAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := testutil.ToFloat64(refusedTotal.WithLabelValues(boundRead))
		var lasted time.Duration
		var failed error
		ended := make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			page := newLivePage(w)
			defer page.read()
			began := time.Now()
			for failed == nil && r.Context().Err() == nil {
				_, failed = page.Write([]byte(strings.Repeat("x", 64<<10)))
			}
			lasted = time.Since(began)
			if got := testutil.ToFloat64(liveUnwritten); got > 64<<10 {
				t.Errorf("%v bytes wait for the visitor", got)
			}
		}), ReadHeaderTimeout: headerTimeout}
		listener := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(listener) }()
		near, far := net.Pipe()
		listener.connections <- far
		if _, err := near.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		<-ended
		if failed == nil || lasted != slowRead {
			t.Errorf("the page lasted %s, and ended with %v", lasted, failed)
		}
		if got := testutil.ToFloat64(refusedTotal.WithLabelValues(boundRead)) - before; got != 1 {
			t.Errorf("%v slow readers are counted", got)
		}
		if got := testutil.ToFloat64(liveUnwritten); got != 0 {
			t.Errorf("%v bytes are counted after the end", got)
		}
		near.Close()
		if err := server.Shutdown(context.Background()); err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		<-served
	})
}

// TestQuietPagesStayOpen: without changes there is no deadline.
func TestQuietPagesStayOpen(t *testing.T) {
	deadlines := &deadlines{}
	page := newLivePage(deadlines)
	if _, err := page.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !deadlines.last.IsZero() {
		t.Errorf("an idle page ends at %s", deadlines.last)
	}
	page.end()
	if _, err := page.Write([]byte("x")); err != nil || deadlines.last.IsZero() {
		t.Errorf("after the end of the visit a write may take until %s (%v)", deadlines.last, err)
	}
}

// TestAVisitEndsAfterItsPage: the end of a visit does not touch the connection of a page whose handler has returned.
func TestAVisitEndsAfterItsPage(t *testing.T) {
	deadlines := &deadlines{}
	page := newLivePage(deadlines)
	page.close()
	page.end()
	if !deadlines.last.IsZero() {
		t.Errorf("the end sets a deadline of %s", deadlines.last)
	}
}

// deadlines records the last deadline of writes.
type deadlines struct {
	http.ResponseWriter

	last time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error { d.last = at; return nil }

func (d *deadlines) Write(content []byte) (int, error) { return len(content), nil }
