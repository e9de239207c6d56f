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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// startReceiver starts a receiver in this process.
func startReceiver(t *testing.T) (address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- receive(ctx, out) }()
	if _, err := fmt.Fscanln(in, &address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address
}

func ask[Answer any](t *testing.T, address, path string, orders any) (answer Answer) {
	t.Helper()
	encoded, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post("http://"+address+path, "application/json", bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return answer
}

// send sends an event to an endpoint, and returns the status of the response, or 0.
func send(t *testing.T, url, id string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("webhook-id", id)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestReceiverFailsAShareOfFirstRequests(t *testing.T) {
	address := startReceiver(t)
	ask[string](t, address, BehavePath, Behaviour{Endpoint: "x", FailFirst: 0.2})
	const events = 500
	failed := 0
	for i := range events {
		if send(t, EndpointURL(address, "x"), fmt.Sprint(i)) == http.StatusServiceUnavailable {
			failed++
			if again := send(t, EndpointURL(address, "x"), fmt.Sprint(i)); again != http.StatusOK {
				t.Errorf("the second request of event %d is answered with %d", i, again)
			}
		}
	}
	if failed < events/10 || failed > events*3/10 {
		t.Errorf("%d of %d first requests fail", failed, events)
	}
	if n := ask[int](t, address, CountPath+"?endpoint=x", nil); n != events {
		t.Errorf("%d events are counted", n)
	}
	for _, a := range ask[[]Arrival](t, address, ArrivalsPath, nil) {
		if a.Good != 1 || a.GoodAt < a.At {
			t.Errorf("arrival %+v", a)
		}
	}
}

func TestReservedAddressRefusesUntilItIsOpen(t *testing.T) {
	address := startReceiver(t)
	reserved := ask[string](t, address, ReservePath, nil)
	if status := send(t, EndpointURL(reserved, "x"), "a"); status != 0 {
		t.Errorf("an address that is not open answers %d", status)
	}
	ask[string](t, address, OpenPath, reserved)
	if status := send(t, EndpointURL(reserved, "x"), "a"); status != http.StatusOK {
		t.Errorf("an open address answers %d", status)
	}
}

func TestGeneratorReportsRefusals(t *testing.T) {
	ingest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct {
			Data struct{ N int }
		}
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil || event.Data.N%2 == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"events":[{"deliveries":[{}]}]}`)
	}))
	defer ingest.Close()
	report, err := generate(t.Context(), GenerateOrders{
		URLs: []string{ingest.URL}, Prefix: "x", Types: []string{"t"}, Events: 10, Size: 100, Connections: 2, Tries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, p := range report.Posted {
		if p.Accepted != 0 {
			accepted++
		}
	}
	if accepted != 5 || report.Refused != 5 || report.Refusals[http.StatusTooManyRequests] != 5 || report.FirstRefusal == 0 {
		t.Errorf("%d accepted, %+v", accepted, report)
	}
}
