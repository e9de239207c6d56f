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

package verifiers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"mime"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
	"github.com/postback-dev/postback-operator/internal/postback/format"
	"github.com/postback-dev/postback-operator/internal/postback/route"
)

// server is a running endpoint of docs/receivers.
type server struct {
	url   string
	lines chan string
}

// startServer starts an endpoint with secrets, which ends with the test.
func startServer(t *testing.T, commandLine []string, secrets ...string) *server {
	t.Helper()
	command := exec.CommandContext(t.Context(), commandLine[0], commandLine[1:]...)
	command.Env = append(os.Environ(), "HOST=127.0.0.1", "PORT=0", "POSTBACK_SECRETS="+strings.Join(secrets, ","))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{lines: make(chan string, 16)}
	go func() {
		defer close(s.lines)
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		for range s.lines {
			// Read the rest, so that the goroutine above ends.
		}
		_ = command.Wait()
	})
	var port int
	if _, err := fmt.Sscanf(s.line(t), "listening on port %d", &port); err != nil {
		t.Fatal(err)
	}
	s.url = fmt.Sprintf("http://127.0.0.1:%d/hooks", port)
	return s
}

// line returns the next line of the endpoint's output.
func (s *server) line(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-s.lines:
		if !ok {
			t.Fatal("the endpoint has ended")
		}
		return line
	case <-time.After(answerTimeout):
		t.Fatalf("the endpoint wrote nothing in %s", answerTimeout)
		return ""
	}
}

// deliver sends an event to the endpoint as the dispatcher does.
func (s *server) deliver(t *testing.T, eventID, data string, keys ...string) v1alpha1.Attempt {
	t.Helper()
	return s.send(t, delivery(eventID, body(eventID, data)), keys...)
}

// send sends a delivery to the endpoint as the dispatcher does.
func (s *server) send(t *testing.T, d *v1alpha1.PostbackDelivery, keys ...string) v1alpha1.Attempt {
	t.Helper()
	return newSender(t, clock.RealClock{}).Send(t.Context(), &route.Route{
		URL: s.url, Keys: keys, Timeout: metav1.Duration{Duration: 10 * time.Second},
		Signatures: []v1alpha1.SignatureScheme{v1alpha1.SignatureStandardWebhooks},
	}, d)
}

func TestEndpointsTakeEachEventOnce(t *testing.T) {
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			if l.serve == nil {
				t.Skip("there is no endpoint in this language")
			}
			s := startServer(t, l.serve(t, receiversDir(t)), current, previous)
			long := longData(t)
			for _, step := range []struct {
				name, id, data string
				keys           []string
				want           v1alpha1.Outcome
			}{
				{"first", "evt_1", `{}`, []string{current}, v1alpha1.OutcomeSucceeded},
				{"again", "evt_1", `{}`, []string{current}, v1alpha1.OutcomeSucceeded},
				{"foreign key", "evt_2", `{}`, []string{foreign}, v1alpha1.OutcomeRejected4xx},
				{"previous key", "evt_2", `{"name":"東京 🚀"}`, []string{previous}, v1alpha1.OutcomeSucceeded},
				{"256 KiB", "evt_3", long, []string{current, previous}, v1alpha1.OutcomeSucceeded},
			} {
				if got := s.deliver(t, step.id, step.data, step.keys...); got.Outcome != step.want {
					t.Errorf("%s: %s %s, want %s", step.name, got.Outcome, got.Message, step.want)
				}
			}
			for _, want := range []string{"event evt_1 lead.created", "event evt_2 lead.created", "event evt_3 lead.created"} {
				if got := s.line(t); got != want {
					t.Errorf("the endpoint stored %q, want %q", got, want)
				}
			}
		})
	}
}

// An endpoint accepts the body of every format, because spec.format may change.
func TestEndpointsTakeEveryFormat(t *testing.T) {
	types := map[v1alpha1.PayloadFormat]string{
		v1alpha1.FormatJSON: "lead.created", v1alpha1.FormatCloudEvents: "lead.created", v1alpha1.FormatSlack: "untyped",
	}
	posted := &event.Event{Type: "lead.created", CreatedAt: time.UnixMilli(1769860800000), Data: json.RawMessage(`{"name":"Ada"}`)}
	for _, l := range languages {
		if l.serve == nil {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			s := startServer(t, l.serve(t, receiversDir(t)), current)
			for kind, want := range types {
				t.Run(string(kind), func(t *testing.T) {
					posted.ID = "evt_" + string(kind)
					content, err := format.Body(kind, "partner-acme", posted)
					if err != nil {
						t.Fatal(err)
					}
					d := delivery(posted.ID, content)
					d.Spec.Format = kind
					if got := s.send(t, d, current); got.Outcome != v1alpha1.OutcomeSucceeded {
						t.Errorf("%s %s", got.Outcome, got.Message)
						return
					}
					if got := s.line(t); got != "event "+posted.ID+" "+want {
						t.Errorf("the endpoint stored %q", got)
					}
				})
			}
		})
	}
}

// Express does not parse a body of a media type that its middleware does not name.
func TestExpressTakesEveryFormat(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(receiversDir(t), "..", "receivers.md"))
	if err != nil {
		t.Fatal(err)
	}
	types := regexp.MustCompile(`express\.raw\(\{type: \[([^]]*)\]`).FindSubmatch(page)
	if types == nil {
		t.Fatal("docs/receivers.md does not say how Express takes the body")
	}
	for _, kind := range []v1alpha1.PayloadFormat{v1alpha1.FormatJSON, v1alpha1.FormatCloudEvents, v1alpha1.FormatSlack} {
		t.Run(string(kind), func(t *testing.T) {
			media, _, err := mime.ParseMediaType(format.ContentType(kind))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(types[1]), "'"+media+"'") {
				t.Errorf("Express is told to take %s, and not %s", types[1], media)
			}
		})
	}
}
