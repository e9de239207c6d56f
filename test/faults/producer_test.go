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
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	producers = 16
	// maxBatch is the largest number of events in a request.
	maxBatch = 10
	// postTimeout bounds one request. postPause is the time between two tries.
	postTimeout = 10 * time.Second
	postPause   = 200 * time.Millisecond
)

// posted is an event as a producer posts it.
type posted struct {
	ID   string `json:"id"`
	Type string `json:"event"`
	// CreatedAt is required for events that may be posted again. Otherwise ingest sets the time of each request, and
	// a copy in the stream and one at the API server would differ in it.
	CreatedAt time.Time       `json:"createdAt,omitzero"`
	Data      json.RawMessage `json:"data"`
}

// source posts events for a namespace as a producer should: it repeats unaccepted events to the other replica until
// they are accepted.
type source struct {
	namespace, token string
	replicas         []*operator.Process
	client           *http.Client

	mu sync.Mutex
	// accepted has the data of each accepted event.
	accepted map[string]string
	// began is when the accepted request of each event began.
	began map[string]time.Time
	// refused counts the refused requests.
	refused int
}

func newSource(namespace, token string, replicas ...*operator.Process) *source {
	transport := &http.Transport{MaxIdleConnsPerHost: producers, TLSClientConfig: trust}
	return &source{
		namespace: namespace, token: token, replicas: replicas, accepted: map[string]string{}, began: map[string]time.Time{},
		client: &http.Client{Transport: transport, Timeout: postTimeout},
	}
}

// load posts n events at a rate, from several producers, and returns once all are accepted.
func (s *source) load(ctx context.Context, random *rand.Rand, n int, perSecond float64, event func(i int) posted) error {
	limiter := rate.NewLimiter(rate.Limit(perSecond), maxBatch)
	batches := make(chan []posted)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	for p := range producers {
		workers.Go(func() {
			for events := range batches {
				if err := s.post(ctx, p, events); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; {
		events := make([]posted, 0, maxBatch)
		for range min(1+random.IntN(maxBatch), n-i) {
			events = append(events, event(i))
			i++
		}
		if limiter.WaitN(ctx, len(events)) == nil {
			batches <- events
		}
	}
	close(batches)
	workers.Wait()
	return context.Cause(ctx)
}

// post posts events until they are accepted.
func (s *source) post(ctx context.Context, first int, events []posted) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // The endpoint must get the data unchanged.
	err := encoder.Encode(events)
	if err != nil {
		return err
	}
	for try := first; ctx.Err() == nil; try++ {
		began := time.Now()
		err = s.try(ctx, s.replicas[try%len(s.replicas)], body.Bytes())
		var fatal *refusedError
		switch {
		case err == nil:
			s.note(events, began)
			return nil
		case errors.As(err, &fatal):
			return err
		}
		s.mu.Lock()
		s.refused++
		s.mu.Unlock()
		pause(ctx, postPause)
	}
	return fmt.Errorf("%w; the last answer: %w", context.Cause(ctx), err)
}

func (s *source) note(events []posted, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.accepted[e.ID], s.began[e.ID] = string(e.Data), began
	}
}

// postedAt returns when the accepted request of an event began.
func (s *source) postedAt(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began[id]
}

// refusedError reports a request that will never be accepted.
type refusedError struct{ answer string }

func (e *refusedError) Error() string { return "ingest refuses: " + e.answer }

// try sends a request once.
func (s *source) try(ctx context.Context, to *operator.Process, body []byte) error {
	url := to.IngestURL() + "/v1/namespaces/" + s.namespace + "/events"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusAccepted:
		return stored(content)
	case response.StatusCode < http.StatusInternalServerError:
		return &refusedError{fmt.Sprintf("%s: %s", response.Status, content)}
	}
	return fmt.Errorf("ingest answers %s: %s", response.Status, content)
}

// stored checks that each event is stored for exactly one Postback.
func stored(answer []byte) error {
	var accepted struct {
		Events []struct {
			ID         string `json:"id"`
			Deliveries []struct {
				Result string `json:"result"`
			} `json:"deliveries"`
		} `json:"events"`
	}
	if err := json.Unmarshal(answer, &accepted); err != nil {
		return fmt.Errorf("read ingest's answer: %w", err)
	}
	for _, e := range accepted.Events {
		if len(e.Deliveries) != 1 || !slices.Contains([]string{"Stored", "Duplicate"}, e.Deliveries[0].Result) {
			return &refusedError{strings.TrimSpace(string(answer))}
		}
	}
	return nil
}
