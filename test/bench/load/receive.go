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
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// endpointPath precedes the name of an endpoint.
	endpointPath = "/to/"
	// ArrivalsPath returns the arrivals.
	ArrivalsPath = "/arrivals"
	// CountPath returns the number of events answered with 2xx, at one endpoint or at all.
	CountPath = "/count"
	// ForgetPath drops the arrivals.
	ForgetPath = "/forget"
	// BehavePath sets the behaviour of an endpoint.
	BehavePath = "/behave"
	// ReservePath reserves an address that refuses connections, and returns it. OpenPath makes the receiver serve
	// there.
	ReservePath = "/reserve"
	OpenPath    = "/open"

	headerPatience = 10 * time.Second
)

// Arrival is an event that arrived at an endpoint.
type Arrival struct {
	Endpoint, ID string
	// At is when the first request was complete, in nanoseconds since 1970. Times is the number of requests.
	At    int64
	Times int
	// Good counts the requests answered with 2xx. GoodAt is when the first of them was complete, or 0.
	Good   int
	GoodAt int64
}

// Behaviour says how an endpoint answers.
type Behaviour struct {
	Endpoint string
	// Delay is the time before the response.
	Delay time.Duration
	// Status is the status code of the response; 0 means 200.
	Status int
	// FailFirst is the share of events, chosen by their ids, whose first request is answered with 503.
	FailFirst float64
}

// EndpointURL returns the URL of an endpoint of a receiver.
func EndpointURL(address, endpoint string) string {
	return "http://" + address + endpointPath + endpoint
}

// receiver answers requests and records when each event arrived. It does not verify signatures, which would distort
// the measurement.
type receiver struct {
	mu       sync.Mutex
	arrivals map[arrivalKey]*Arrival
	// good counts the events answered with 2xx, counts those of each endpoint.
	good       int
	counts     map[string]int
	behaviours map[string]Behaviour

	// server serves the reserved addresses once they are open.
	server   *http.Server
	reserved map[string]*reservation
}

type arrivalKey struct{ endpoint, id string }

// receive listens on a free loopback port, prints the address, and serves until ctx ends.
func receive(ctx context.Context, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	r := &receiver{arrivals: map[arrivalKey]*Arrival{}, counts: map[string]int{}, behaviours: map[string]Behaviour{}, reserved: map[string]*reservation{}}
	server := &http.Server{Handler: r, ReadHeaderTimeout: headerPatience}
	r.server = server
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
		n := r.good
		if only := request.URL.Query().Get("endpoint"); only != "" {
			n = r.counts[only]
		}
		r.mu.Unlock()
		_ = json.NewEncoder(w).Encode(n)
	case ForgetPath:
		r.mu.Lock()
		r.arrivals, r.counts, r.good = map[arrivalKey]*Arrival{}, map[string]int{}, 0
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
	case ReservePath:
		answer(w, func() (string, error) { return r.reserve() })
	case OpenPath:
		answer(w, func() (string, error) {
			var address string
			err := json.NewDecoder(request.Body).Decode(&address)
			if err == nil {
				err = r.open(address)
			}
			return address, err
		})
	default:
		http.NotFound(w, request)
	}
}

func (r *receiver) take(w http.ResponseWriter, request *http.Request, endpoint string) {
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return // A truncated request does not count.
	}
	at := time.Now().UnixNano()
	key := arrivalKey{endpoint, request.Header.Get("webhook-id")}
	r.mu.Lock()
	if arrived := r.arrivals[key]; arrived != nil {
		arrived.Times++
	} else {
		r.arrivals[key] = &Arrival{Endpoint: endpoint, ID: key.id, At: at, Times: 1}
	}
	behaviour, arrived := r.behaviours[endpoint], r.arrivals[key]
	status := behaviour.status(arrived)
	if status < http.StatusMultipleChoices {
		if arrived.Good++; arrived.Good == 1 {
			arrived.GoodAt = at
			r.counts[endpoint]++
			r.good++
		}
	}
	r.mu.Unlock()
	pause(request.Context(), behaviour.Delay)
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
}

// status returns the status code for a request of an event.
func (b *Behaviour) status(a *Arrival) int {
	if b.Status != 0 {
		return b.Status
	}
	if a.Times == 1 && chosen(a.ID, b.FailFirst) {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// chosen reports whether an id is in a share of all ids, which is the same in each run.
func chosen(id string, share float64) bool {
	const of = 1000
	h := fnv.New64a()
	_, _ = io.WriteString(h, id) // A hash never returns an error.
	return float64(h.Sum64()%of) < share*of
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
