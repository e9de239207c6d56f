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

package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/postback-dev/postback-operator/console/guard"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// shutdownTimeout is how long running requests may take when the console ends.
	shutdownTimeout = 2 * time.Second
)

// ServerOptions configure a Server.
type ServerOptions struct {
	Options
	// Address is the loopback address to listen on. The default is a free port of 127.0.0.1.
	Address string
	// Out receives the URL that opens the console.
	Out io.Writer
	// Open, if set, is called with that URL, to open it in a browser.
	Open func(url string) error
}

// Server is a console that listens on loopback.
type Server struct {
	console  *Console
	guard    *guard.Guard
	listener net.Listener
}

// Listen returns a Server that listens. The caller has to call Serve.
func Listen(ctx context.Context, o ServerOptions) (*Server, error) {
	o.Address = cmp.Or(o.Address, "127.0.0.1:0")
	if err := guard.Loopback(o.Address); err != nil {
		return nil, err
	}
	c, err := New(o.Options)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &Server{console: c, guard: guard.New(port), listener: listener}, nil
}

// URL returns the URL that opens the console once.
func (s *Server) URL() string { return s.guard.URL(s.listener.Addr().String()) }

// Address returns the URL of the pages, for a browser with the cookie.
func (s *Server) Address() string { return "http://" + s.listener.Addr().String() }

// Handler returns the handler of all requests.
func (s *Server) Handler() http.Handler {
	return readWithin(bodyTimeout, s.guard.Wrap(s.console.routes(), refuse))
}

// server returns the HTTP server.
func (s *Server) server() *http.Server {
	return &http.Server{Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
}

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	running, end := context.WithCancel(ctx)
	defer end()
	server := s.server()
	fed := make(chan struct{})
	go func() { defer close(fed); s.console.Run(running) }()
	stopped := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	defer stopped()
	err := server.Serve(s.listener)
	end()
	<-fed
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the console: %w", err)
}

// Serve serves a console until ctx ends, and prints the URL that opens it.
func Serve(ctx context.Context, o ServerOptions) error {
	s, err := Listen(ctx, o)
	if err != nil {
		return err
	}
	link := s.URL()
	_, _ = fmt.Fprintf(o.Out, "The console is at %s\nThe link works once. Ctrl-C ends the console.\n", link)
	if o.Open != nil {
		if err := o.Open(link); err != nil {
			_, _ = fmt.Fprintf(o.Out, "Open the link yourself, because no browser was found: %v\n", err)
		}
	}
	return s.Serve(ctx)
}
