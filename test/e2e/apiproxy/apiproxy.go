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

// Package apiproxy is a proxy in front of an API server that stops one request at a chosen moment: before the API server
// sees it, or after it took effect and before the client hears of it. So a test can kill the client exactly there.
package apiproxy

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"

	"k8s.io/client-go/rest"
)

// Moment is when a request is stopped.
type Moment string

const (
	// Before the API server has seen the request.
	Before Moment = "before the API server sees it"
	// After it took effect, and before the client has the answer.
	After Moment = "after it took effect, before the answer"
)

// Proxy serves TLS on loopback with a certificate of its own and forwards credentials. It is safe for concurrent use.
type Proxy struct {
	server *httptest.Server

	mu    sync.Mutex
	holds []*Hold
}

// Hold is an order to stop one request, and each that repeats it: a client may give up the one and send another.
type Hold struct {
	// Reached is closed when the first request is stopped. Each waits until its client is gone, or until Release.
	Reached <-chan struct{}

	match    func(*http.Request) bool
	moment   Moment
	reached  chan struct{}
	released chan struct{}
	reach    sync.Once
	release  sync.Once
	taken    bool
	// update is the path of the PUT that was stopped, which names one object, and client whose it was. A POST may be for
	// another object each time.
	update, client string
}

// Release lets the request go on.
func (h *Hold) Release() { h.release.Do(func() { close(h.released) }) }

func (h *Hold) wait(ctx context.Context) error {
	h.reach.Do(func() { close(h.reached) })
	select {
	case <-h.released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// held is the key under which a request's context carries its Hold.
type held struct{}

// Start starts a proxy to the API server of a client's configuration. The credentials in it are not used.
func Start(config *rest.Config) (*Proxy, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(config))
	if err != nil {
		return nil, fmt.Errorf("start the proxy: %w", err)
	}
	p := &Proxy{}
	reverse := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(response *http.Response) error {
			if h, ok := response.Request.Context().Value(held{}).(*Hold); ok {
				return h.wait(response.Request.Context())
			}
			return nil
		},
		// A client that was killed is what this package is for.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(reverse, w, r) }))
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = reverse.ErrorLog
	p.server.StartTLS()
	return p, nil
}

func (p *Proxy) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	h := p.take(r)
	switch {
	case h == nil:
	case h.moment == Before:
		if h.wait(r.Context()) != nil {
			panic(http.ErrAbortHandler)
		}
	default:
		r = r.WithContext(context.WithValue(r.Context(), held{}, h))
	}
	next.ServeHTTP(w, r)
}

// take returns the Hold that a request fulfils, if any.
func (p *Proxy) take(r *http.Request) *Hold {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.holds {
		switch {
		case h.taken:
			if r.Method == http.MethodPut && r.URL.Path == h.update && r.RemoteAddr == h.client {
				return h
			}
		case h.match(r):
			h.taken = true
			if r.Method == http.MethodPut {
				h.update, h.client = r.URL.Path, r.RemoteAddr
			}
			return h
		}
	}
	return nil
}

// Hold stops the first request from now on that match accepts, and the same update of the same object on the same connection
// again. match must not read the body, and is called once for
// each request, by one goroutine at a time.
func (p *Proxy) Hold(moment Moment, match func(*http.Request) bool) *Hold {
	reached := make(chan struct{})
	h := &Hold{Reached: reached, reached: reached, released: make(chan struct{}), match: match, moment: moment}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = append(p.holds, h)
	return h
}

// Host returns the address of the proxy, for a kubeconfig.
func (p *Proxy) Host() string { return p.server.URL }

// CA returns the certificate to trust there, as PEM.
func (p *Proxy) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Close ends the proxy, its connections, and every Hold.
func (p *Proxy) Close() {
	p.mu.Lock()
	for _, h := range p.holds {
		h.Release()
	}
	p.mu.Unlock()
	p.server.CloseClientConnections()
	p.server.Close()
}
