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

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// endpointPath is in front of the name of an endpoint.
	endpointPath = "/to/"
	// ArrivalsPath tells what has arrived.
	ArrivalsPath = "/arrivals"
	// CountPath tells how many events that are, at all endpoints or at one.
	CountPath = "/count"
	// ForgetPath forgets what has arrived.
	ForgetPath = "/forget"
	// BehavePath takes orders on how an endpoint answers.
	BehavePath = "/behave"

	headerPatience = 10 * time.Second
)

// Arrival is an event that an endpoint got.
type Arrival struct {
	Endpoint, ID string
	// At is when the first request was complete, in nanoseconds since 1970. Times is how many came.
	At    int64
	Times int
}

// Behaviour is how an endpoint answers.
type Behaviour struct {
	Endpoint string
	// Delay is how long it takes.
	Delay time.Duration
	// Status is what it answers; 0 is 200.
	Status int
}

// EndpointURL returns the URL of an endpoint of a receiver.
func EndpointURL(address, endpoint string) string {
	return "http://" + address + endpointPath + endpoint
}

// receiver answers requests and notes when each event came. It does not verify them: other tests do, and here that
// would distort the measurement.
type receiver struct {
	mu       sync.Mutex
	arrivals map[arrivalKey]*Arrival
	// counts are those of the arrivals, by endpoint.
	counts     map[string]int
	behaviours map[string]Behaviour
}

type arrivalKey struct{ endpoint, id string }

// receive listens on a free port of loopback, says on which, and serves until ctx ends.
func receive(ctx context.Context, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	r := &receiver{arrivals: map[arrivalKey]*Arrival{}, counts: map[string]int{}, behaviours: map[string]Behaviour{}}
	server := &http.Server{Handler: r, ReadHeaderTimeout: headerPatience}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if _, err := fmt.Fprintln(out, listener.Addr().String()); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if endpoint, ok := strings.CutPrefix(request.URL.Path, endpointPath); ok {
		r.take(w, request, endpoint)
		return
	}
	switch request.URL.Path {
	case ArrivalsPath:
		_ = json.NewEncoder(w).Encode(r.all()) // The caller notices a truncated answer.
	case CountPath:
		r.mu.Lock()
		n := len(r.arrivals)
		if only := request.URL.Query().Get("endpoint"); only != "" {
			n = r.counts[only]
		}
		r.mu.Unlock()
		_ = json.NewEncoder(w).Encode(n)
	case ForgetPath:
		r.mu.Lock()
		r.arrivals, r.counts = map[arrivalKey]*Arrival{}, map[string]int{}
		r.mu.Unlock()
	case BehavePath:
		var b Behaviour
		if err := json.NewDecoder(request.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.behaviours[b.Endpoint] = b
		r.mu.Unlock()
	default:
		http.NotFound(w, request)
	}
}

func (r *receiver) take(w http.ResponseWriter, request *http.Request, endpoint string) {
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return // A truncated request is no event.
	}
	at := time.Now().UnixNano()
	key := arrivalKey{endpoint, request.Header.Get("webhook-id")}
	r.mu.Lock()
	if arrived := r.arrivals[key]; arrived != nil {
		arrived.Times++
	} else {
		r.arrivals[key] = &Arrival{Endpoint: endpoint, ID: key.id, At: at, Times: 1}
		r.counts[endpoint]++
	}
	behaviour := r.behaviours[endpoint]
	r.mu.Unlock()
	pause(request.Context(), behaviour.Delay)
	if behaviour.Status != 0 {
		w.WriteHeader(behaviour.Status)
	}
}

func (r *receiver) all() []Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	arrivals := make([]Arrival, 0, len(r.arrivals))
	for _, a := range r.arrivals {
		arrivals = append(arrivals, *a)
	}
	return arrivals
}
