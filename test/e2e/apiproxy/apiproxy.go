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

// Package apiproxy is a proxy for an API server that holds one request at a chosen moment: before the API server gets
// it, or after it took effect but before the client gets the response. So a test can kill the client at exactly that
// moment.
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

// Moment is the moment at which a request is held.
type Moment string

const (
	// Before means that the API server has not received the request.
	Before Moment = "before the API server sees it"
	// After means that the request took effect, and the client has no response yet.
	After Moment = "after it took effect, before the answer"
)

// Proxy serves TLS on loopback with its own certificate and forwards credentials. It is safe for concurrent use.
type Proxy struct {
	server *httptest.Server

	mu    sync.Mutex
	holds []*Hold
}

// Hold is an order to hold one request and its repeats, because a client may give up a request and send it again.
type Hold struct {
	// Reached is closed when the first request is held. Each request waits until its client is gone, or until
	// Release.
	Reached <-chan struct{}

	match    func(*http.Request) bool
	moment   Moment
	reached  chan struct{}
	released chan struct{}
	reach    sync.Once
	release  sync.Once
	taken    bool
	// update is the path of the held PUT, client the address of its client. A repeat has the same ones. A POST has
	// none, because each may create another object.
	update, client string
}

// Release forwards the held requests, or their responses.
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

// held is the context key of a request's Hold.
type held struct{}

// Start starts a proxy for the API server of a client configuration. It does not use the credentials of the
// configuration.
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
		// Aborted requests of killed clients are expected, so they are not logged.
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

// take returns the Hold that applies to a request, or nil.
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

// Hold holds the first request that match accepts, and repeats of the same update on the same connection. match must
// not read the body. It is called for each request, by one goroutine at a time.
func (p *Proxy) Hold(moment Moment, match func(*http.Request) bool) *Hold {
	reached := make(chan struct{})
	h := &Hold{Reached: reached, reached: reached, released: make(chan struct{}), match: match, moment: moment}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = append(p.holds, h)
	return h
}

// Host returns the URL of the proxy, for a kubeconfig.
func (p *Proxy) Host() string { return p.server.URL }

// CA returns the proxy's certificate in PEM, for a kubeconfig.
func (p *Proxy) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Close ends the proxy, its connections and all Holds.
func (p *Proxy) Close() {
	p.mu.Lock()
	for _, h := range p.holds {
		h.Release()
	}
	p.mu.Unlock()
	p.server.CloseClientConnections()
	p.server.Close()
}
