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

// Package receiver is an endpoint for tests and the demo: a real HTTP server that verifies requests by code of other
// projects, records them, and answers as configured.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	maxBody       = 4 << 20
	headerTimeout = 10 * time.Second
)

// Secret is a signing secret that the receiver knows, with a name of the caller's choice.
type Secret struct {
	Name, Value string
}

// Request is a received request.
type Request struct {
	// Time is when the body was complete.
	Time   time.Time
	Method string
	Path   string
	Header http.Header
	// Body has the exact bytes.
	Body []byte
	// StandardWebhooks and Dub have the names of the secrets that verified the request by each scheme, in the order
	// of the secrets.
	StandardWebhooks, Dub []string
	// Status is the status code of the response; 0 means none.
	Status int
}

// ID returns the event id of the request.
func (r *Request) ID() string { return r.Header.Get("webhook-id") }

// Verified reports whether a secret verified the request by each scheme.
func (r *Request) Verified() bool { return len(r.StandardWebhooks) > 0 && len(r.Dub) > 0 }

// Receiver is a running server. Its methods are safe for concurrent use.
type Receiver struct {
	secrets func() []Secret
	server  *http.Server
	address string
	served  chan struct{}
	// closing ends the responses in progress.
	closing context.Context //nolint:containedctx // It is the server's lifetime, not that of a call.
	cancel  context.CancelFunc

	mu       sync.Mutex
	requests []Request
	answers  map[string][]Answer
	// changed is closed and replaced when a request is recorded.
	changed chan struct{}
}

// Start starts a receiver on a free loopback port. secrets is called for each request, and returns the secrets for
// its verification.
func Start(secrets func() []Secret) (*Receiver, error) { return StartAt("127.0.0.1:0", secrets) }

// StartAt is Start with a given address.
func StartAt(address string, secrets func() []Secret) (*Receiver, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	r := &Receiver{
		secrets: secrets,
		address: listener.Addr().String(),
		served:  make(chan struct{}),
		answers: map[string][]Answer{},
		changed: make(chan struct{}),
	}
	r.closing, r.cancel = context.WithCancel(context.Background())
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: headerTimeout}
	go func() {
		defer close(r.served)
		// Serve returns when Close is called; nothing else ends the listener.
		_ = r.server.Serve(listener)
	}()
	return r, nil
}

// Close ends the receiver and the unanswered requests.
func (r *Receiver) Close() error {
	r.cancel()
	err := r.server.Close()
	<-r.served
	if err != nil {
		return fmt.Errorf("close the receiver: %w", err)
	}
	return nil
}

// Address returns host:port.
func (r *Receiver) Address() string { return r.address }

// URL returns the URL of a path.
func (r *Receiver) URL(path string) string { return "http://" + r.address + path }

// Requests returns the requests on a path so far, in order; "" means any path.
func (r *Receiver) Requests(path string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.on(path)
}

func (r *Receiver) on(path string) []Request {
	if path == "" {
		return slices.Clone(r.requests)
	}
	var requests []Request
	for _, request := range r.requests {
		if request.Path == path {
			requests = append(requests, request)
		}
	}
	return requests
}

// Wait returns the requests on a path ("" means any) once there are at least n, or an error with their number when
// ctx ends. A request counts before it is answered.
func (r *Receiver) Wait(ctx context.Context, path string, n int) ([]Request, error) {
	return r.WaitFor(ctx, func(requests []Request) bool { return len(requests) >= n }, path)
}

// WaitFor is Wait with another condition.
func (r *Receiver) WaitFor(ctx context.Context, enough func([]Request) bool, path string) ([]Request, error) {
	for {
		r.mu.Lock()
		requests, changed := r.on(path), r.changed
		r.mu.Unlock()
		if enough(requests) {
			return requests, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return requests, fmt.Errorf("wait for requests on %q: %d have come: %w", path, len(requests), ctx.Err())
		}
	}
}

func (r *Receiver) serve(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxBody))
	if err != nil {
		// A truncated request is not recorded.
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	received := Request{
		Time:   time.Now(),
		Method: request.Method,
		Path:   request.URL.Path,
		Header: request.Header.Clone(),
		Body:   body,
	}
	received.StandardWebhooks, received.Dub = verify(r.secrets(), request.Header, body)
	answer := r.record(&received)
	if err := r.give(w, request, &received, answer); err != nil {
		// The connection ends without a response.
		panic(http.ErrAbortHandler)
	}
}

// record records a request and returns its answer.
func (r *Receiver) record(received *Request) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.next(received.Path)
	received.Status = answer.status()
	r.requests = append(r.requests, *received)
	close(r.changed)
	r.changed = make(chan struct{})
	return answer
}

var errNoAnswer = errors.New("no answer")
