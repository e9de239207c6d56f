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

package apiproxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

func TestHold(t *testing.T) {
	for _, moment := range []Moment{Before, After} {
		for _, released := range []bool{true, false} {
			name := strings.Fields(string(moment))[0]
			if released {
				name += " and released"
			}
			t.Run(name, func(t *testing.T) { testHold(t, moment, released) })
		}
	}
}

func TestHoldStopsAnUpdateThatIsRepeated(t *testing.T) {
	p := &Proxy{}
	p.Hold(Before, func(r *http.Request) bool { return r.Method == http.MethodPut })
	request := func(method, path, client string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		r.RemoteAddr = client
		return r
	}
	for i, tt := range []struct {
		method, path, client string
		stopped              bool
	}{
		{http.MethodPost, "/a", "first", false},
		{http.MethodPut, "/a", "first", true},
		{http.MethodPut, "/a", "first", true},
		{http.MethodPut, "/b", "first", false},
		{http.MethodGet, "/a", "first", false},
		{http.MethodPut, "/a", "second", false},
	} {
		if got := p.take(request(tt.method, tt.path, tt.client)) != nil; got != tt.stopped {
			t.Errorf("request %d: stopped is %t", i, got)
		}
	}
}

func testHold(t *testing.T, moment Moment, released bool) {
	var posts atomic.Int32
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
		}
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		_, _ = io.WriteString(w, "answer")
	}))
	defer upstream.Close()
	p, err := Start(&rest.Config{Host: upstream.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	transport, err := rest.TransportFor(&rest.Config{BearerToken: "token", TLSClientConfig: rest.TLSClientConfig{CAData: p.CA()}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	call := func(ctx context.Context, method string) error {
		request, err := http.NewRequestWithContext(ctx, method, p.Host()+"/path", http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && string(body) != "answer" {
			err = errors.New(string(body))
		}
		return err
	}

	h := p.Hold(moment, func(r *http.Request) bool { return r.Method == http.MethodPost })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- call(ctx, http.MethodPost) }()
	<-h.Reached
	if err := call(t.Context(), http.MethodGet); err != nil {
		t.Errorf("another request got %v", err)
	}
	want := map[Moment]int32{Before: 0, After: 1}[moment]
	if posts.Load() != want {
		t.Errorf("%d requests took effect, want %d", posts.Load(), want)
	}
	if released {
		h.Release()
		if err := <-answered; err != nil {
			t.Error(err)
		}
		want = 1
	} else {
		cancel()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("the client got %v", err)
		}
	}
	if err := call(t.Context(), http.MethodPost); err != nil {
		t.Errorf("a later request got %v", err)
	}
	if posts.Load() != want+1 {
		t.Errorf("%d requests took effect, want %d", posts.Load(), want+1)
	}
}
