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
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	postTimeout = 30 * time.Second
	// postTries bounds the posts of an event that is not accepted, with postPause in between.
	postTries = 200
	postPause = 20 * time.Millisecond
)

// GenerateOrders say which events to post.
type GenerateOrders struct {
	// URLs are the URLs for posting events of a namespace, one per dispatcher replica. Token is the producer's.
	URLs  []string
	Token string
	// Prefix begins the ids of the events. Types are their types, in turn.
	Prefix string
	Types  []string
	// Events is the number of events, Size the length of each in bytes.
	Events, Size int
	// Connections is the number of concurrent requests.
	Connections int
	// PerSecond is the rate of requests, whatever the answers; 0 means as fast as Connections allow.
	PerSecond float64
	// Tries, if not 0, bounds the posts of an event. Then an event that is never accepted is no error.
	Tries int
}

// Posted is an event that was posted.
type Posted struct {
	ID string
	// Due is when the event had to be posted. Accepted is when its answer arrived, or 0 if it was never accepted.
	// Both are in nanoseconds since 1970.
	Due, Accepted int64
	// Deliveries is the number of stored deliveries.
	Deliveries int
}

// GenerateReport reports the results of the posts.
type GenerateReport struct {
	Posted  []Posted
	Elapsed time.Duration
	// Refused counts the refused requests that were repeated.
	Refused int
	// Refusals counts refused requests by status, with 0 for requests without an answer. FirstRefusal is the time of
	// the first refusal in nanoseconds since 1970, or 0.
	Refusals     map[int]int
	FirstRefusal int64
}

// generator posts events as a producer should: repeatedly, until they are accepted.
type generator struct {
	orders  GenerateOrders
	client  *http.Client
	filler  string
	refused atomic.Int64

	mu           sync.Mutex
	refusals     map[int]int
	firstRefusal int64
}

// refusal is an answer that accepts no event, or, with status 0, a missing answer.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

// note counts a refused request.
func (g *generator) note(err error) {
	g.refused.Add(1)
	status := 0
	var refused *refusal
	if errors.As(err, &refused) {
		status = refused.status
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusals[status]++
	if g.firstRefusal == 0 {
		g.firstRefusal = time.Now().UnixNano()
	}
}

func generate(ctx context.Context, o GenerateOrders) (GenerateReport, error) {
	g := &generator{
		orders: o, refusals: map[int]int{},
		client: &http.Client{Timeout: postTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: o.Connections}},
		filler: padding(o.Size - len(encode(o, 0, ""))),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	posted := make([]Posted, o.Events)
	turns := make(chan int, o.Events)
	began := time.Now()
	var workers sync.WaitGroup
	for range o.Connections {
		workers.Go(func() {
			for i := range turns {
				if err := g.post(ctx, i, g.due(began, i), &posted[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range o.Events {
		pause(ctx, time.Until(g.due(began, i)))
		turns <- i
	}
	close(turns)
	workers.Wait()
	return GenerateReport{
		Posted: posted, Elapsed: time.Since(began), Refused: int(g.refused.Load()), Refusals: g.refusals, FirstRefusal: g.firstRefusal,
	}, context.Cause(ctx)
}

// due returns when an event has to be posted; zero means as soon as a connection is free. The latency of a late event
// counts from its due time.
func (g *generator) due(began time.Time, i int) time.Time {
	if g.orders.PerSecond == 0 {
		return time.Time{}
	}
	return began.Add(time.Duration(float64(i) / g.orders.PerSecond * float64(time.Second)))
}

// encode returns the JSON of an event.
func encode(o GenerateOrders, i int, filler string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"event":%q,"data":{"n":%d,"filler":%q}}`, EventID(o.Prefix, i), o.Types[i%len(o.Types)], i, filler)
}

// EventID returns the id of the event with a number.
func EventID(prefix string, i int) string { return fmt.Sprintf("%s-%06d", prefix, i) }

func (g *generator) post(ctx context.Context, i int, due time.Time, p *Posted) error {
	body := encode(g.orders, i, g.filler)
	p.ID = EventID(g.orders.Prefix, i)
	if due.IsZero() {
		due = time.Now()
	}
	p.Due = due.UnixNano()
	var err error
	tries := cmp.Or(g.orders.Tries, postTries)
	for try := range tries {
		url := g.orders.URLs[(i+try)%len(g.orders.URLs)]
		if p.Deliveries, err = g.try(ctx, url, body); err == nil {
			p.Accepted = time.Now().UnixNano()
			return nil
		}
		g.note(err)
		if try < tries-1 {
			pause(ctx, postPause)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if g.orders.Tries > 0 {
		return nil
	}
	return fmt.Errorf("post event %s: %w", p.ID, err)
}

func (g *generator) try(ctx context.Context, url string, body []byte) (deliveries int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+g.orders.Token)
	response, err := g.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusAccepted {
		return 0, &refusal{response.StatusCode, fmt.Errorf("ingest answers %s: %s", response.Status, content)}
	}
	var answer struct {
		Events []struct {
			Deliveries []json.RawMessage `json:"deliveries"`
		} `json:"events"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer.Events) != 1 {
		return 0, errors.New("the answer is not about one event")
	}
	return len(answer.Events[0].Deliveries), nil
}
