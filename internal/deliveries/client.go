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

// Package deliveries reads deliveries for the kubectl plugin and the console. Client reads the delivery log and the
// waiting stream through a dispatcher, as docs/ingest.md describes. Reader lists them together with
// PostbackDeliveries, and Union merges the changes of PostbackDeliveries and the delivery log.
package deliveries

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
)

const (
	// maxAnswer bounds a response. The bodies of a page are at most 16 MiB, and grow when JSON escapes them.
	maxAnswer = 128 << 20
	// requestTimeout bounds a request other than a watch.
	requestTimeout = 30 * time.Second
	// silence is the time without a message after which a watch counts as dead. The dispatcher sends one every five
	// seconds.
	silence = 20 * time.Second
	// patience bounds the repeats of a request with Retry-After. longestPause bounds the pause before each.
	patience     = 5
	longestPause = 10 * time.Second
	// logPage is the number of deliveries in one request. maxPages bounds the pages of one query. A query that the
	// dispatcher has to search for scans at most 5,000 deliveries for a page.
	logPage  = 500
	maxPages = 200
)

// Connection is a connection to a dispatcher, such as a port-forward.
type Connection struct {
	// URL is the base URL of the dispatcher's ingest.
	URL string
	// Transport adds the caller's token.
	Transport http.RoundTripper
	// Close closes the connection. It may be nil.
	Close func()
}

// Client reads the delivery log and the waiting stream. It is safe for concurrent use.
type Client struct {
	connect func(context.Context) (*Connection, error)

	mu   sync.Mutex
	open *Connection
}

// New returns a client that calls connect for its first request, and again after the connection is lost.
func New(connect func(context.Context) (*Connection, error)) *Client {
	return &Client{connect: connect}
}

// Close closes the connection.
func (c *Client) Close() { c.drop(nil) }

// ProblemError is the problem (RFC 9457) in a dispatcher's response.
type ProblemError struct {
	Type, Title, Detail string
	Status              int
}

// Error implements error.
func (p *ProblemError) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

func isProblem(err error, kind string) bool {
	p, ok := errors.AsType[*ProblemError](err)
	return ok && p.Type == "urn:postback:problem:"+kind
}

// IsNoLog reports whether a dispatcher answered that it keeps no delivery log. All deliveries are then
// PostbackDeliveries.
func IsNoLog(err error) bool { return isProblem(err, "no-log") }

// IsNotFound reports whether a dispatcher answered that the delivery log lacks the delivery.
func IsNotFound(err error) bool { return isProblem(err, "no-delivery") }

// List returns a page of the delivery log, the newest first.
func (c *Client) List(ctx context.Context, q Query) (*v1alpha1.PostbackDeliveryList, error) {
	return c.list(ctx, logResource, q)
}

func (c *Client) list(ctx context.Context, resource string, q Query) (*v1alpha1.PostbackDeliveryList, error) {
	list := &v1alpha1.PostbackDeliveryList{}
	return list, c.ask(ctx, http.MethodGet, q.path(resource), q.values(), list)
}

// each calls f with the deliveries of a resource that a query selects, newest first, up to the query's limit unless
// that is 0. It sets Version, Truncated and More of the page.
func (c *Client) each(ctx context.Context, resource string, q Query, p *Page, f func(*v1alpha1.PostbackDelivery)) error {
	limit, n := q.Limit, 0
	for pages := 1; ; pages++ {
		if q.Limit = logPage; limit > 0 {
			q.Limit = min(limit-n, logPage)
		}
		page, err := c.list(ctx, resource, q)
		if err != nil {
			return err
		}
		if p.Version == "" && resource == logResource {
			p.Version = page.ResourceVersion
		}
		for i := range page.Items {
			f(&page.Items[i])
		}
		n += len(page.Items)
		q.Continue = page.Continue
		truncated := q.Continue != "" && pages == maxPages
		more := truncated || q.Continue != "" && limit > 0 && n >= limit
		p.Truncated, p.More = p.Truncated || truncated, p.More || more
		if q.Continue == "" || more {
			return nil
		}
	}
}

// Get returns a delivery of the delivery log.
func (c *Client) Get(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	return d, c.ask(ctx, http.MethodGet, deliveryPath(namespace, name), nil, d)
}

// Restore creates the PostbackDelivery of an entry of the delivery log, so that it can be redelivered, and returns
// it.
func (c *Client) Restore(ctx context.Context, namespace, name string) (*v1alpha1.PostbackDelivery, error) {
	d := &v1alpha1.PostbackDelivery{}
	return d, c.ask(ctx, http.MethodPost, deliveryPath(namespace, name)+"/restore", nil, d)
}

func deliveryPath(namespace, name string) string {
	q := Query{Namespace: namespace}
	return q.path(logResource) + "/" + url.PathEscape(name)
}

// ask sends a request and decodes the response. It repeats the request if the dispatcher answers with Retry-After.
func (c *Client) ask(ctx context.Context, method, path string, values url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for i := 0; ; i++ {
		response, err := c.do(ctx, method, path, values) //nolint:bodyclose // read does.
		if err != nil {
			return err
		}
		err = read(response, into)
		pause, again := retryAfter(response)
		if err == nil || !again || i == patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// retryAfter returns the response's Retry-After, at most longestPause.
func retryAfter(response *http.Response) (time.Duration, bool) {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0, false
	}
	return min(time.Duration(seconds)*time.Second, longestPause), true
}

// do sends a request once. If there is no response, it drops the connection.
func (c *Client) do(ctx context.Context, method, path string, values url.Values) (*http.Response, error) {
	connection, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	address, err := url.JoinPath(connection.URL, path)
	if err != nil {
		return nil, fmt.Errorf("the URL of the dispatcher: %w", err)
	}
	if len(values) > 0 {
		address += "?" + values.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("the URL of the dispatcher: %w", err)
	}
	// A redirect would send the token to another server.
	client := &http.Client{Transport: connection.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			c.drop(connection)
		}
		return nil, fmt.Errorf("ask the dispatcher: %w", err)
	}
	return response, nil
}

func (c *Client) connected(ctx context.Context) (*Connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil {
		return c.open, nil
	}
	opened, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.open = opened
	return opened, nil
}

// drop closes a connection if it is still the open one. nil means the open one.
func (c *Client) drop(connection *Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil || connection != nil && c.open != connection {
		return
	}
	if c.open.Close != nil {
		c.open.Close()
	}
	c.open = nil
}

// read decodes a response, or returns its problem as an error.
func read(response *http.Response, into any) error {
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the dispatcher's answer: %w", err)
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusMultipleChoices {
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("read the dispatcher's answer: %w", err)
		}
		return nil
	}
	p := &ProblemError{}
	if json.Unmarshal(body, p) != nil || p.Title == "" {
		return fmt.Errorf("the dispatcher answers %s, and not as one: is it the ingest API", response.Status)
	}
	return p
}

// Event is an event of a watch.
type Event struct {
	// Delivery is a new entry of the delivery log, or nil.
	Delivery *v1alpha1.PostbackDelivery
	// ResourceVersion is the position of the watch, from which another watch can continue.
	ResourceVersion string
	// LeftOut is the number of deliveries left out since the last bookmark, because there were too many.
	LeftOut int
}

// Watch calls tell with each delivery logged after resourceVersion, until ctx ends or tell fails. It returns nil when
// the dispatcher ends the watch, after some minutes.
func (c *Client) Watch(ctx context.Context, q Query, resourceVersion string, tell func(Event) error) error {
	// A silent connection may be dead.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dead := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer dead.Stop()
	values := q.values()
	values.Set("watch", "true")
	if resourceVersion != "" {
		values.Set("resourceVersion", resourceVersion)
	}
	response, err := c.do(ctx, http.MethodGet, q.path(logResource), values)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return read(response, nil)
	}
	defer func() { _ = response.Body.Close() }()
	decoder := json.NewDecoder(bufio.NewReader(response.Body))
	for {
		e, err := next(decoder)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(context.Cause(ctx), errSilent):
			return errSilent
		case err != nil:
			return err
		}
		dead.Reset(silence)
		if err := tell(e); err != nil {
			return err
		}
	}
}

var errSilent = errors.New("the dispatcher says nothing any more")

// next decodes one line of a watch.
func next(decoder *json.Decoder) (Event, error) {
	var line struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := decoder.Decode(&line); err != nil {
		if errors.Is(err, io.EOF) {
			return Event{}, err
		}
		return Event{}, fmt.Errorf("read the watch: %w", err)
	}
	if line.Type == "ERROR" {
		p := &ProblemError{}
		if err := json.Unmarshal(line.Object, p); err != nil {
			return Event{}, fmt.Errorf("read the watch: %w", err)
		}
		return Event{}, p
	}
	d := &v1alpha1.PostbackDelivery{}
	if err := json.Unmarshal(line.Object, d); err != nil {
		return Event{}, fmt.Errorf("read the watch: %w", err)
	}
	e := Event{ResourceVersion: d.ResourceVersion}
	if line.Type == "ADDED" {
		e.Delivery = d
		return e, nil
	}
	if text := d.Annotations[v1alpha1.LeftOutAnnotation]; text != "" {
		var err error
		if e.LeftOut, err = strconv.Atoi(text); err != nil {
			return Event{}, fmt.Errorf("read the watch: %w", err)
		}
	}
	return e, nil
}
