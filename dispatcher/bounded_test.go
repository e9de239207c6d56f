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

package dispatcher

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

func TestBounded(t *testing.T) {
	const places = 2
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	defer server.Close()
	client := &http.Client{Transport: bound(http.DefaultTransport, places)}
	get := func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	var asking sync.WaitGroup
	for range places {
		asking.Go(func() {
			if err := get(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for range places {
		<-arrived
	}
	gone, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() { waits <- get(gone) }()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("who waited and went away got %v", err)
	}
	if len(arrived) > 0 {
		t.Error("more requests are at the server than may be")
	}
	close(answer)
	asking.Wait()
	if err := get(t.Context()); err != nil {
		t.Errorf("no place was given back: %v", err)
	}
}
