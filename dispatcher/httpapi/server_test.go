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

package httpapi

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/route"
	"github.com/postback-dev/postback-operator/test/doors"
)

var _ manager.Runnable = (*Server)(nil)

func startServer(t *testing.T, o setup) (s *Server, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	o.Address = "127.0.0.1:0"
	s = o.server(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	select {
	case <-s.Listening():
	case err := <-done:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("does not listen")
	}
	return s, cancel, done
}

func TestShutdownFinishesRequestsInFlight(t *testing.T) {
	g := gomega.NewWithT(t)
	hold, entered := make(chan struct{}), make(chan struct{})
	store := doors.Store{OnCreate: func(ctx context.Context, _ *v1alpha1.PostbackDelivery) error {
		close(entered)
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
	if s := options.server(t); s.Addr() != nil || s.Ready(nil) == nil {
		t.Error("ready before it listens")
	}
	s, stop, ended := startServer(t, options)
	url := "http://" + s.Addr().String()
	g.Eventually(func() error { return s.Ready(nil) }, "1m", "10ms").Should(gomega.Succeed())
	replies := make(chan *reply, 1)
	go func() { replies <- post(t, url, "acme", simple) }()
	<-entered
	stop()
	g.Eventually(func() error { return s.Ready(nil) }, "1m", "10ms").ShouldNot(gomega.Succeed())
	g.Eventually(func() bool {
		response, err := http.DefaultClient.Do(newPost(t, url, "acme", []byte(simple)))
		if err == nil {
			_ = response.Body.Close()
		}
		return err != nil
	}, "1m", "10ms").Should(gomega.BeTrue(), "new requests are taken")
	select {
	case err := <-ended:
		t.Fatalf("ended before the request in flight: %v", err)
	default:
	}
	close(hold)
	if got := <-replies; got.code != http.StatusAccepted {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTakesNothingBeforeTheRoutesAreThere(t *testing.T) {
	var synced atomic.Bool
	options, offered := testOptions(doors.Store{})
	options.acceptance.Synced = synced.Load
	s, _, _ := startServer(t, options)
	url := "http://" + s.Addr().String()
	got := post(t, url, "acme", simple)
	if got.code != http.StatusServiceUnavailable || got.Type != "urn:postback:problem:not-ready" || got.header.Get("Retry-After") != "1" || s.Ready(nil) == nil {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	options.acceptance.Routes.(*route.Index).Set(doors.LooseRoute("acme", "crm", "", "*"))
	synced.Store(true)
	if got := post(t, url, "acme", simple); got.code != http.StatusAccepted || len(offered.Sorted()) != 1 {
		t.Errorf("got %d: %s", got.code, got.raw)
	}
	gomega.NewWithT(t).Eventually(func() error { return s.Ready(nil) }, "1m", "10ms").Should(gomega.Succeed())
}

func TestShutdownIsBounded(t *testing.T) {
	entered, hold := make(chan struct{}), make(chan struct{})
	defer close(hold)
	store := doors.Store{OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error {
		close(entered)
		<-hold
		return nil
	}}
	options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
	options.shutdownTimeout = 50 * time.Millisecond
	s, stop, ended := startServer(t, options)
	go func() {
		response, err := http.DefaultClient.Do(newPost(t, "http://"+s.Addr().String(), "acme", []byte(simple)))
		if err == nil {
			_ = response.Body.Close()
		}
	}()
	<-entered
	stop()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "finish requests in flight") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("does not end")
	}
}

func TestStartRefusesOptions(t *testing.T) {
	tests := map[string]struct {
		change func(*setup)
		want   string
	}{
		"no acceptor":      {func(o *setup) { o.withoutAcceptor = true }, "is required"},
		"body limit":       {func(o *setup) { o.MaxBodyBytes = largestMaxBodyBytes + 1 }, "from 1 to 1047552 bytes"},
		"negative flights": {func(o *setup) { o.MaxInFlight = -1 }, "at least 1"},
		"address":          {func(o *setup) { o.Address = "127.0.0.1:x" }, "listen for events"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			options, _ := testOptions(doors.Store{})
			tt.change(&options)
			if err := options.server(t).Start(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestStoringIsParallelAndBounded(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"by request": func(o *setup) { o.acceptance.RequestStores = 3 },
		"by server":  func(o *setup) { o.acceptance.TotalStores = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			var entered atomic.Int32
			hold := make(chan struct{})
			store := doors.Store{OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error {
				entered.Add(1)
				<-hold
				return nil
			}}
			options, _ := testOptions(store, doors.LooseRoute("acme", "crm", "", "*"))
			change(&options)
			server := testServer(t, options)
			replies := make(chan *reply, 1)
			go func() { replies <- post(t, server.URL, "acme", "["+strings.Repeat(simple+",", 9)+simple+"]") }()
			g.Eventually(entered.Load, "1m", "1ms").Should(gomega.BeEquivalentTo(3))
			g.Consistently(entered.Load, "50ms", "5ms").Should(gomega.BeEquivalentTo(3))
			close(hold)
			if got := <-replies; got.code != http.StatusAccepted || entered.Load() != 10 {
				t.Errorf("got %d after %d creates: %s", got.code, entered.Load(), got.raw)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	options, _ := testOptions(doors.Store{}, doors.LooseRoute("acme", "crm", "", "lead.*"), doors.LooseRoute("acme", "bi", "", "lead.*"))
	server := testServer(t, options)
	before := counted(t)
	post(t, server.URL, "acme", `[`+simple+`,{"event":"sale.created","data":{}}]`)
	post(t, server.URL, "acme", `{}`)
	after := counted(t)
	for result, want := range map[string]float64{"Stored": 2, "NoMatch": 1, "Invalid": 1, "Unstored": 0} {
		t.Run(result, func(t *testing.T) {
			if got := after[result] - before[result]; got != want {
				t.Errorf("%s: got %v, want %v", result, got, want)
			}
		})
	}
	if n := len(after); n != 8 {
		t.Errorf("%d series, want one for each of 8 results", n)
	}
	if problems, err := testutil.CollectAndLint(requestsTotal); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// counted returns the exposed values of postback_ingest_events_total.
func counted(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "postback_ingest_events_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			values[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return values
}

func TestLogHoldsNoData(t *testing.T) {
	lines := make(chan string, 100)
	options, _ := testOptions(doors.Store{OnCreate: func(context.Context, *v1alpha1.PostbackDelivery) error {
		return context.DeadlineExceeded
	}}, doors.LooseRoute("acme", "crm", "", "lead.*"))
	options.Log = funcr.New(func(prefix, args string) { lines <- prefix + args }, funcr.Options{Verbosity: 9})
	server := testServer(t, options)
	post(t, server.URL, "acme", `{"event":"lead.created","data":{"email":"private"}}`)
	post(t, server.URL, "acme", `{"event":"lead.created","data":{"private":1,"private":2}}`)
	server.Close() // Close waits for the last log line.
	close(lines)
	all := []string{}
	for line := range lines {
		all = append(all, line)
	}
	text := strings.Join(all, "\n")
	if strings.Contains(text, "private") {
		t.Errorf("the log holds what was posted: %s", text)
	}
	if !strings.Contains(text, `"unstored"=1`) || !strings.Contains(text, `"status"=400`) || !strings.Contains(text, "urn:uuid:") {
		t.Errorf("got %s", text)
	}
}
