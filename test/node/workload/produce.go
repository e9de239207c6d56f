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

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/postback-dev/postback-operator/test/node/report"
)

const (
	// burst is the number of events that may make up for a busy moment.
	burst = 20
	// connections bounds the concurrent requests.
	connections = 256
	// postTimeout bounds a try. The pauses between tries grow from firstPause to longestPause.
	postTimeout                 = 10 * time.Second
	firstPause, longestPause    = 100 * time.Millisecond, 2 * time.Second
	dialTimeout, headersTimeout = 2 * time.Second, 8 * time.Second
)

// producer posts events without losing any: it repeats unaccepted events with the same id. Meanwhile it posts new
// ones at the same rate.
type producer struct {
	url, caFile, tokenFile, prefix string
	events, tries                  int
	rate                           float64

	client *http.Client
	token  string

	mu    sync.Mutex
	tell  report.Produced
	times []time.Duration
}

// produce posts all events, and writes its report as JSON.
func (p *producer) produce(ctx context.Context, out io.Writer) error {
	if err := p.prepare(); err != nil {
		return err
	}
	began := time.Now()
	limiter := rate.NewLimiter(rate.Limit(p.rate), burst)
	var posts sync.WaitGroup
	for i := range p.events {
		if limiter.Wait(ctx) != nil {
			break
		}
		posts.Go(func() { p.post(ctx, fmt.Sprintf("%s%d", p.prefix, i)) })
	}
	posting := time.Since(began)
	posts.Wait()
	p.tell.Posting = posting
	if slices.Sort(p.times); len(p.times) > 0 {
		p.tell.Median, p.tell.P99, p.tell.Max = p.times[len(p.times)/2], p.times[len(p.times)*99/100], p.times[len(p.times)-1]
	}
	return json.NewEncoder(out).Encode(p.tell)
}

func (p *producer) prepare() error {
	p.tell = report.Produced{Refused: map[string]string{}, Retries: map[string]int{}}
	token, err := os.ReadFile(p.tokenFile)
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	p.token = strings.TrimSpace(string(token))
	authorities, err := os.ReadFile(p.caFile)
	if err != nil {
		return fmt.Errorf("read the certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authorities) {
		return fmt.Errorf("%s has no certificate", p.caFile)
	}
	p.client = &http.Client{Timeout: postTimeout, Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		ResponseHeaderTimeout: headersTimeout,
		MaxConnsPerHost:       connections,
		MaxIdleConnsPerHost:   connections,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
	return nil
}

// post posts an event until it is accepted or no try is left.
func (p *producer) post(ctx context.Context, id string) {
	body := fmt.Appendf(nil, `{"id":%q,"event":"sale.created","data":{"sale":{"id":%q,"amount":4900}}}`, id, id)
	pause := firstPause
	for try := 1; ; try++ {
		began := time.Now()
		err := p.try(ctx, body)
		p.mu.Lock()
		p.tell.MostTries = max(p.tell.MostTries, try)
		switch {
		case err == nil:
			p.tell.Accepted++
			p.times = append(p.times, time.Since(began))
		case try == p.tries || ctx.Err() != nil:
			p.tell.Refused[id] = err.Error()
		default:
			p.tell.Retries[kindOf(err)]++
		}
		p.mu.Unlock()
		if err == nil || try == p.tries || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// kindOf returns the text of an error without addresses, to group equal errors.
func kindOf(err error) string {
	var network *net.OpError
	var address *url.Error
	switch {
	case errors.As(err, &network):
		return network.Op + ": " + network.Err.Error()
	case errors.As(err, &address):
		return address.Err.Error()
	}
	return err.Error()
}

// try posts an event once.
func (p *producer) try(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+p.token)
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("ingest answers %s", response.Status)
	}
	return stored(content)
}

// stored checks that the event is stored for exactly one Postback.
func stored(answer []byte) error {
	var accepted struct {
		Events []struct {
			Deliveries []struct {
				Result string `json:"result"`
			} `json:"deliveries"`
		} `json:"events"`
	}
	if err := json.Unmarshal(answer, &accepted); err != nil {
		return fmt.Errorf("read ingest's answer: %w", err)
	}
	if len(accepted.Events) != 1 || len(accepted.Events[0].Deliveries) != 1 {
		return fmt.Errorf("not stored for one Postback: %s", answer)
	}
	if result := accepted.Events[0].Deliveries[0].Result; result != "Stored" && result != "Duplicate" {
		return fmt.Errorf("not stored: %s", result)
	}
	return nil
}
