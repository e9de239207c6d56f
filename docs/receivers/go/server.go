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
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const maxBody = 2 << 20

// endpoint receives events.
type endpoint struct {
	// secrets are one, or two while you change from one to the next.
	secrets []string
	log     io.Writer

	mu sync.Mutex
	// inbox is here: memory. In production: a table with a unique key on the id, from which a worker takes the events.
	inbox map[string]event
}

// event has its type in Event in the format JSON, in Type in CloudEvents. A Slack message has none.
type event struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Type  string          `json:"type"`
	Data  json.RawMessage `json:"data"`
}

// ServeHTTP verifies and stores an event.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The bytes, before anything parses them: the signature holds for exactly these.
	rawBody, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if !e.verified(rawBody, r.Header) {
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	var received event
	if err := json.Unmarshal(rawBody, &received); err != nil {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	// Answer as soon as the event is stored. The work comes afterwards.
	e.store(r.Header.Get("Webhook-Id"), received)
	w.WriteHeader(http.StatusOK)
}

func (e *endpoint) verified(rawBody []byte, header http.Header) bool {
	for _, secret := range e.secrets {
		if verifyStandardWebhooks(rawBody, header, secret, time.Now()) == nil {
			return true
		}
	}
	return false
}

// store drops an event that is there already: the same event may come again, with the same webhook-id.
func (e *endpoint) store(id string, received event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.inbox[id]; ok {
		return
	}
	e.inbox[id] = received
	_, _ = fmt.Fprintln(e.log, "event", id, cmp.Or(received.Event, received.Type, "untyped"))
}
