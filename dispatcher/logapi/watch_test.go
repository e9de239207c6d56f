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

package logapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/dispatcher/accept"
	"github.com/postback-dev/postback-operator/dispatcher/httpapi"
	"github.com/postback-dev/postback-operator/dispatcher/intake"
	"github.com/postback-dev/postback-operator/test/doors"
)

// watchLine is a line of a watch.
type watchLine struct {
	Type   string
	Object struct {
		Title    string
		Kind     string
		Metadata struct {
			Name, ResourceVersion string
			Annotations           map[string]string
		}
	}
}

func watchLines(t *testing.T, url string) func() (watchLine, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the watch is answered %s", response.Status)
	}
	decoder := json.NewDecoder(bufio.NewReader(response.Body))
	return func() (w watchLine, err error) { return w, decoder.Decode(&w) }
}

// awaitReadTimeout returns when the server has ended a request that began now and does not arrive.
func awaitReadTimeout(t *testing.T, address string) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(connection); err != nil {
		t.Fatal(err)
	}
}

func TestWatchTheLog(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	log := &memoryLog{follow: make(chan *v1alpha1.PostbackDelivery, 5000)}
	options := testOptions()
	options.Reader = log
	server := testServer(t, options)
	next := watchLines(t, server.URL+"/v1/namespaces/acme/deliveries?watch=true&resourceVersion=41&event=lead.created")
	if w, err := next(); err != nil || w.Type != "BOOKMARK" || w.Object.Metadata.ResourceVersion != "41" {
		t.Fatalf("it begins with %+v, %v", w, err)
	}
	awaitReadTimeout(t, server.Listener.Addr().String()) // A watch must outlive the timeout of other requests.
	d := logged(t, crm, "evt_1")
	log.follow <- d
	if w, err := next(); err != nil || w.Type != "ADDED" || w.Object.Metadata.Name != d.Name || w.Object.Kind != "PostbackDelivery" {
		t.Fatalf("got %+v, %v", w, err)
	}
	// Deliveries beyond the rate of a watch are omitted and counted.
	const many = 4000
	began := time.Now()
	for range many {
		log.follow <- d
	}
	added, leftOut, sequence := 0, 0, ""
	for sequence != fmt.Sprint(42+many) {
		w, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if w.Type != "BOOKMARK" {
			added++
			continue
		}
		sequence = w.Object.Metadata.ResourceVersion
		if value := w.Object.Metadata.Annotations[v1alpha1.LeftOutAnnotation]; value != "" {
			some, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			leftOut += some
		}
	}
	if most := watchedBurst + watchedPerSecond*time.Since(began).Seconds(); added+leftOut != many || float64(added) > most {
		t.Errorf("%d shown, %d left out, of %d; up to %g may be shown", added, leftOut, many, most)
	}
	close(log.follow)
	if w, err := next(); err != nil || w.Type != "ERROR" || w.Object.Title != "The delivery log cannot be read" {
		t.Errorf("without its server: %+v, %v", w, err)
	}
}

// The list of an empty log has resourceVersion 0. A watch from there includes deliveries logged before it began.
func TestWatchAnEmptyLogFromItsList(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	log := &memoryLog{deliveries: []*v1alpha1.PostbackDelivery{logged(t, crm, "evt_1")}}
	options := testOptions()
	options.Reader = log
	server := testServer(t, options)
	for name, test := range map[string]struct{ query, want string }{"from the list": {"&resourceVersion=0", "0"}, "from now on": {"", "1"}} {
		t.Run(name, func(t *testing.T) {
			next := watchLines(t, server.URL+"/v1/namespaces/acme/deliveries?watch=true"+test.query)
			if w, err := next(); err != nil || w.Object.Metadata.ResourceVersion != test.want {
				t.Errorf("it begins with %+v, %v, want version %s", w, err, test.want)
			}
		})
	}
}

// Watches delay neither the shutdown nor the events of producers.
func TestWatchesAreBounded(t *testing.T) {
	crm := doors.LooseRoute("acme", "crm", "", "*")
	options := testOptions()
	options.Reader = &memoryLog{follow: make(chan *v1alpha1.PostbackDelivery)}
	door := New(options)
	door.watches = make(chan struct{}, 1)
	acceptor, err := accept.New(accept.Options{
		Intake: &intake.Kubernetes{API: doors.Store{}, FirstAttempts: &doors.Offers{}}, Routes: doors.Index(crm), Backlog: doors.Backlog{}, Log: logr.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.New(httpapi.Options{Address: "127.0.0.1:0", Acceptor: acceptor, LogDoor: door, Log: logr.Discard()})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	<-s.Listening()
	url := "http://" + s.Addr().String()
	next := watchLines(t, url+"/v1/namespaces/acme/deliveries?watch=true&resourceVersion=1")
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "GET", url+"/v1/namespaces/acme/deliveries?watch=true", ""); got.code != 429 || got.header.Get("Retry-After") != "10" {
		t.Errorf("one more watch: %d %s", got.code, got.raw)
	}
	if code := post(t, url, "acme", `{"event":"lead.created","data":{}}`); code != 202 {
		t.Errorf("an event: %d", code)
	}
	begin := time.Now()
	stop()
	if err := <-ended; err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("the server ends after %s with %v", time.Since(begin), err)
	}
}
