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
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/test/controlplane"
)

// timeout is spec.timeout of the Postbacks.
const timeout = 2 * time.Second

// behaviour is the way in which an endpoint answers a request.
type behaviour string

const (
	well behaviour = "well"
	// unwell answers 503. busy answers 429 and asks to wait for busyFor.
	unwell behaviour = "unwell"
	busy   behaviour = "busy"
	// hanging never answers. late answers after the deadline.
	hanging behaviour = "hanging"
	late    behaviour = "late"
	// resetting ends the connection without a response. cut ends it in the middle of the header.
	resetting behaviour = "resetting"
	cut       behaviour = "cut"
	// lying declares more bytes than follow. garbled sends something other than HTTP.
	lying   behaviour = "lying"
	garbled behaviour = "garbled"
)

const busyFor = 4 * time.Second

// outcomes has the outcome that the record must have for each behaviour.
var outcomes = map[behaviour]v1alpha1.Outcome{
	well:      v1alpha1.OutcomeSucceeded,
	unwell:    v1alpha1.OutcomeFailed5xx,
	busy:      v1alpha1.OutcomeRejected4xx,
	hanging:   v1alpha1.OutcomeTimeout,
	late:      v1alpha1.OutcomeTimeout,
	resetting: v1alpha1.OutcomeConnectionReset,
	cut:       v1alpha1.OutcomeConnectionReset,
	lying:     v1alpha1.OutcomeSucceeded,
	garbled:   v1alpha1.OutcomeInvalidResponse,
}

// arrival is a request that arrived completely.
type arrival struct {
	id      string
	replica string
	body    [sha256.Size]byte
	at      time.Time
	// behaviour is the way in which it was answered, answer the body that the record should have.
	behaviour behaviour
	answer    string
	// answered is when the response was written; zero means never.
	answered time.Time
	// problem describes a fault of the request itself, or is "".
	problem string
}

// temper decides how to answer the n-th request (from 0) with an event's id, at a time since the start.
type temper func(random func() float64, n int, since time.Duration) behaviour

// tempers are the endpoints of TestFaults. An endpoint that fails single events answers at most two requests of an
// event badly. The others fail any event, but only for a while.
var tempers = map[string]temper{
	"well": func(func() float64, int, time.Duration) behaviour { return well },
	"flaky": func(random func() float64, n int, _ time.Duration) behaviour {
		return sometimes(random, n, 0.3, unwell)
	},
	"flapping": func(_ func() float64, _ int, since time.Duration) behaviour {
		if since%(15*time.Second) < 4*time.Second {
			return unwell
		}
		return well
	},
	"busy": func(random func() float64, n int, _ time.Duration) behaviour { return sometimes(random, n, 0.02, busy) },
	"hanging": func(random func() float64, n int, _ time.Duration) behaviour {
		return sometimes(random, n, 0.05, hanging, late)
	},
	"resetting": func(random func() float64, n int, _ time.Duration) behaviour {
		return sometimes(random, n, 0.3, resetting, cut)
	},
	"lying": func(random func() float64, n int, _ time.Duration) behaviour {
		return sometimes(random, n, 0.3, lying, garbled)
	},
	// down refuses connections for a while, by endpoint.flap.
	"down": func(func() float64, int, time.Duration) behaviour { return well },
}

// sometimes returns one of the bad behaviours for a share of an event's first two requests.
func sometimes(random func() float64, n int, share float64, bad ...behaviour) behaviour {
	const most = 2
	if n >= most || random() >= share {
		return well
	}
	return bad[int(random()*float64(len(bad)))]
}

// endpoint is an HTTP server that records arrivals.
type endpoint struct {
	name    string
	temper  temper
	address string
	// verifies checks the signature of a request.
	verifies func(body []byte, header http.Header) error
	started  time.Time
	closing  context.Context

	mu       sync.Mutex
	server   *http.Server
	arrivals []*arrival
	times    map[string]int
	random   func() float64
	// calm is true once the endpoint always answers well.
	calm bool
}

// startEndpoint starts an endpoint on loopback, which ends with ctx and close. Calls of random are serialised.
func startEndpoint(ctx context.Context, name string, random func() float64) (*endpoint, error) {
	e := &endpoint{
		name: name, temper: tempers[name], random: random, started: time.Now(), closing: ctx, times: map[string]int{},
		verifies: func([]byte, http.Header) error { return errors.New("no key is known yet") },
	}
	// The endpoint leaves its port for a while, by flap.
	port, err := controlplane.FreePort()
	if err != nil {
		return nil, err
	}
	return e, e.listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

func (e *endpoint) url() string { return "http://" + e.address + "/hooks" }

// listen serves at an address, at first and after each pause.
func (e *endpoint) listen(address string) error {
	listener, err := (&net.ListenConfig{}).Listen(e.closing, "tcp4", address)
	if err != nil {
		return fmt.Errorf("start endpoint %s: %w", e.name, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(e.serve), ReadHeaderTimeout: time.Minute}
	e.mu.Lock()
	e.server, e.address = server, listener.Addr().String()
	e.mu.Unlock()
	go func() { _ = server.Serve(listener) }() // Serve returns at close.
	return nil
}

func (e *endpoint) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server.Close()
}

func (e *endpoint) shutdown() error {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	return server.Shutdown(e.closing)
}

// calmDown makes the endpoint answer well from now on.
func (e *endpoint) calmDown() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calm = true
}

func (e *endpoint) isCalm() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calm
}

// received returns the arrivals so far.
func (e *endpoint) received() []*arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.arrivals)
}

func (e *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // The body is incomplete, because the client has gone.
	}
	a := &arrival{id: r.Header.Get("webhook-id"), replica: r.UserAgent(), body: sha256.Sum256(body), at: time.Now()}
	if err := e.verifies(body, r.Header); err != nil {
		a.problem = err.Error()
	}
	e.mu.Lock()
	n := e.times[a.id]
	e.times[a.id]++
	a.behaviour = well
	if !e.calm {
		a.behaviour = e.temper(e.random, n, time.Since(e.started))
	}
	a.answer = fmt.Sprintf("%s %s %d", a.behaviour, a.id, n)
	e.arrivals = append(e.arrivals, a)
	e.mu.Unlock()
	e.answer(w, r, a)
}

func (e *endpoint) answer(w http.ResponseWriter, r *http.Request, a *arrival) {
	switch a.behaviour {
	case hanging:
		e.wait(r, time.Hour)
		panic(http.ErrAbortHandler)
	case late:
		e.wait(r, timeout+time.Second)
	case unwell:
		w.WriteHeader(http.StatusServiceUnavailable)
	case busy:
		w.Header().Set("Retry-After", strconv.Itoa(int(busyFor.Seconds())))
		w.WriteHeader(http.StatusTooManyRequests)
	case resetting, cut, lying, garbled:
		e.raw(w, a)
		return
	case well:
	}
	if _, err := io.WriteString(w, a.answer); err == nil {
		e.note(a)
	}
}

// note records that a response was written.
func (e *endpoint) note(a *arrival) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a.answered = time.Now()
}

// wait waits for a time, until the client gives up, or until the endpoint ends.
func (e *endpoint) wait(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-e.closing.Done():
	}
}

// raw sends a malformed response, which the server of net/http cannot send.
func (e *endpoint) raw(w http.ResponseWriter, a *arrival) {
	controller := http.NewResponseController(w)
	conn, _, err := controller.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	var text string
	switch a.behaviour {
	case resetting:
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // Send RST instead of FIN.
		}
	case cut:
		text = "HTTP/1.1 200 OK\r\nContent-Len"
	case lying:
		text = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 1000+len(a.answer), a.answer)
	case garbled:
		text = "220 mail.example.com ESMTP\r\n"
	case well, unwell, busy, hanging, late: // The HTTP server answers these.
	}
	if _, err := io.WriteString(conn, text); err == nil {
		e.note(a)
	}
}

// flap makes the endpoint refuse connections for a while, repeatedly, until ctx ends or the endpoint is calm.
func (e *endpoint) flap(ctx context.Context, every, down time.Duration) error {
	for {
		if !pause(ctx, every) || e.isCalm() {
			return nil
		}
		// First answer the requests in flight, so that the arrivals can be compared with the record.
		if err := e.shutdown(); err != nil {
			return err
		}
		pause(ctx, down)
		if err := e.listen(e.address); err != nil {
			return err
		}
	}
}

// pause waits, and returns false if ctx ends meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// verifier returns a function that checks requests with a signing secret, by code of another project.
func verifier(secret string) (func([]byte, http.Header) error, error) {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	return webhook.Verify, nil
}
