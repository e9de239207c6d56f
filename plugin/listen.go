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

package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/postback-dev/postback-operator/internal/endpoint"
	"github.com/postback-dev/postback-operator/internal/verify"
)

type listenOptions struct {
	*env
	secretFlags
	address, forwardTo string
	status             int
	quiet              bool

	// printing keeps the output of concurrent requests apart.
	printing sync.Mutex
	secretOf string
}

func (e *env) listenCommand() *cobra.Command {
	o := &listenOptions{env: e}
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive requests here, verify and print them, and forward them",
		Long: "Receive requests on this machine, verify each against a secret, print it, and answer it, while you develop a receiver. With --forward-to, it " +
			"forwards the request byte for byte and returns the answer of your receiver, so retries and the log show that answer.\n\n" +
			"The dispatcher has to reach the address: if the cluster runs elsewhere, use a tunnel, and set the URL of a Postback to that of the tunnel.",
		Example: "  kubectl postback listen --postback crm --forward-to http://localhost:8000/hooks",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.secretFlags.add(cmd, e)
	f := cmd.Flags()
	f.StringVar(&o.address, "address", "127.0.0.1:3000", "Address to listen on; port 0 is any free one.")
	f.StringVar(&o.forwardTo, "forward-to", "", "URL to forward requests to.")
	f.IntVar(&o.status, "status", http.StatusOK, "HTTP status to answer with, to simulate failures.")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Print a line for each request, and neither headers nor body.")
	return cmd
}

const (
	// maxReceived bounds the body of a received request, in bytes.
	maxReceived = 4 << 20
	// forwardPatience bounds a forwarded request. An attempt takes at most 30s.
	forwardPatience = 30 * time.Second
	closePatience   = 3 * time.Second
)

func (o *listenOptions) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if o.status < 100 || o.status > 999 {
		return usagef(cmd, "--status must be an HTTP status, from 100 to 999")
	}
	if o.forwardTo != "" {
		if target, err := url.Parse(o.forwardTo); err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
			return usagef(cmd, "--forward-to must be an absolute URL, such as http://localhost:8000/hooks")
		}
	}
	var err error
	if o.secretOf, err = o.read(ctx, o.env); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.address)
	if err != nil {
		return fmt.Errorf("listen on --address: %w", err)
	}
	server := &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: forwardPatience, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	say(o.ErrOut, "Listening on http://%s; end with Ctrl-C.", listener.Addr())
	select {
	case err := <-ended:
		return fmt.Errorf("listen: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// ServeHTTP verifies, prints and answers one request.
func (o *listenOptions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceived))
	if err != nil {
		http.Error(w, "the body cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	results, err := verify.Check(verify.Request{Header: r.Header, Body: body}, o.secretOf, o.clock.Now(), verify.Tolerance)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a := reply{status: o.status, body: []byte("received by kubectl postback listen\n")}
	if o.forwardTo != "" {
		a = o.forward(r, body)
	}
	o.printRequest(r, body, results, a)
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// reply is the response to a request.
type reply struct {
	status int
	header http.Header
	body   []byte
	note   string
}

// forwardedHeaders are the response headers that affect the dispatcher.
var forwardedHeaders = []string{"Content-Type", "Retry-After", "Location"}

// forward forwards a request and returns the response, or a 502 if there is none.
func (o *listenOptions) forward(r *http.Request, body []byte) reply {
	ctx, cancel := context.WithTimeout(r.Context(), forwardPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, o.forwardTo, bytes.NewReader(body))
	if err != nil {
		return reply{status: http.StatusBadGateway, note: err.Error()}
	}
	request.Header = r.Header.Clone()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request) //nolint:gosec // to where the caller says, on the caller's machine
	if err != nil {
		return reply{status: http.StatusBadGateway, body: []byte("the receiver does not answer\n"), note: "the receiver does not answer: " + err.Error()}
	}
	defer func() { _ = response.Body.Close() }()
	a := reply{status: response.StatusCode, header: http.Header{}}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, maxReceived)); err != nil {
		a.note = "the answer is cut off: " + err.Error()
	}
	for _, name := range forwardedHeaders {
		if values := response.Header.Values(name); len(values) > 0 {
			a.header[name] = values
		}
	}
	return a
}

// printedHeaders are the request headers that matter to a receiver.
var printedHeaders = []string{"Content-Type", "User-Agent", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Dub-Signature"}

func (o *listenOptions) printRequest(r *http.Request, body []byte, results []verify.Result, a reply) {
	o.printing.Lock()
	defer o.printing.Unlock()
	say(o.Out, "%s %s %s, %s, %s -> %d", o.clock.Now().Format(time.TimeOnly), r.Method, visible(endpoint.Masked(r.URL.RequestURI())), strconv.Itoa(len(body))+" bytes", visible(summary(results)), a.status)
	if a.note != "" {
		say(o.Out, "  %s", visible(a.note))
	}
	if o.quiet {
		return
	}
	for _, name := range printedHeaders {
		if value := r.Header.Get(name); value != "" {
			say(o.Out, "  %s: %s", name, visible(value))
		}
	}
	indented(o.Out, pretty(string(body)))
}
