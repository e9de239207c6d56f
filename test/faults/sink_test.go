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
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is an HTTP server that records when each event first arrived, on any path. It does not answer requests on
// silent paths, and answers 503 on failing paths.
type sink struct {
	address string
	closing context.Context

	mu      sync.Mutex
	silent  map[string]bool
	failing map[string]bool
	// arrived has the time of each event's first success, times the times of all successes by path.
	arrived map[string]time.Time
	times   map[string][]time.Time
	// bad counts the requests without success, by path.
	bad map[string]int
}

func startSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{
		closing: t.Context(), silent: map[string]bool{}, failing: map[string]bool{},
		arrived: map[string]time.Time{}, times: map[string][]time.Time{}, bad: map[string]int{},
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // Serve returns at Close.
	t.Cleanup(func() { _ = server.Close() })
	return s
}

func (s *sink) url(path string) string { return "http://" + s.address + path }

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now, path := time.Now(), r.URL.Path
	s.mu.Lock()
	silent, failing := s.silent[path], s.failing[path]
	if silent || failing {
		s.bad[path]++
	} else {
		id := r.Header.Get("webhook-id")
		if _, ok := s.arrived[id]; !ok {
			s.arrived[id] = now
		}
		s.times[path] = append(s.times[path], now)
	}
	s.mu.Unlock()
	switch {
	case silent:
		select {
		case <-r.Context().Done():
		case <-s.closing.Done():
		}
		panic(http.ErrAbortHandler)
	case failing:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// set adds a path to silent or failing, or removes it.
func (s *sink) set(which map[string]bool, path string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	which[path] = on
}

// badOn returns the number of requests on a path without success.
func (s *sink) badOn(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bad[path]
}

// goodOn returns the times of the successful requests on a path.
func (s *sink) goodOn(path string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.times[path]...)
}

// waitFor waits until n events with a prefix have arrived, and returns when each did.
func (s *sink) waitFor(t *testing.T, prefix string, n int, patience time.Duration) map[string]time.Time {
	t.Helper()
	got := map[string]time.Time{}
	await(t, patience, func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id, at := range s.arrived {
			if strings.HasPrefix(id, prefix) {
				got[id] = at
			}
		}
		if len(got) < n {
			return fmt.Errorf("%d of %d events %s… have arrived", len(got), n, prefix)
		}
		return nil
	})
	return got
}
