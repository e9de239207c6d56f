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

package faults

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/test/operator"
)

// silentPatience bounds the time in which a dispatcher gives up a silent connection and watches again.
const silentPatience = time.Minute

// line forwards connections to an API server. After silence, the connections stay open but forward nothing, as if a
// firewall had dropped their state.
type line struct {
	listener net.Listener
	to       string
	// era counts the silences; a connection of an earlier era is silent.
	era     atomic.Int64
	running sync.WaitGroup
	closing chan struct{}
}

func startLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, to: to, closing: make(chan struct{})}
	l.running.Go(l.serve)
	t.Cleanup(func() {
		close(l.closing)
		_ = listener.Close()
		l.running.Wait()
	})
	return l
}

func (l *line) silence() { l.era.Add(1) }

func (l *line) serve() {
	for {
		from, err := l.listener.Accept()
		if err != nil {
			return
		}
		to, err := (&net.Dialer{}).DialContext(context.Background(), "tcp4", l.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		era := l.era.Load()
		done := make(chan struct{}, 2)
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			l.running.Go(func() {
				l.pass(way[0], way[1], era)
				done <- struct{}{}
			})
		}
		l.running.Go(func() {
			select {
			case <-done:
			case <-l.closing:
			}
			_, _ = from.Close(), to.Close()
		})
	}
}

// pass copies data until the connection is silent or ends.
func (l *line) pass(from io.Reader, to io.Writer, era int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if l.era.Load() != era {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestSilentConnection: a dispatcher's connections to the API server, watches included, go silent without being
// closed. The dispatcher notices, and loads the changes since.
func TestSilentConnection(t *testing.T) {
	dumpOnFailure(t)
	const namespace = "silent"
	address, err := url.Parse(cp.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	line := startLine(t, address.Host)
	// The timeouts are client-go's defaults, 30 and 15 seconds.
	p, err := op.StartDispatcher(t.Context(), "postback-dispatcher-silent",
		operator.WithAPIServer("https://"+line.listener.Addr().String(), cp.Config.CAData),
		operator.WithEnv("HTTP2_READ_IDLE_TIMEOUT_SECONDS=2", "HTTP2_PING_TIMEOUT_SECONDS=2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := p.Terminate(context.WithoutCancel(t.Context())); err != nil { // An orderly end leaves no Lease behind.
			t.Error(err)
		}
	})
	source := newSource(namespace, newNamespace(t, namespace), p)
	sink := startSink(t)
	line.silence()
	create(t, postback(namespace, "crm", sink.url("/crm"), "*"))
	await(t, silentPatience, func(ctx context.Context) error {
		return source.try(ctx, p, []byte(`{"id":"silent_0","event":"lead.created","data":{}}`))
	})
	sink.waitFor(t, "silent_", 1, arrivePatience)
}
