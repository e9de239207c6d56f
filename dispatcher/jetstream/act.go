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

package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/postback-dev/postback-operator/dispatcher/deliverylog"
)

// actPatience is how long a replica waits for the answer of the elected one.
const actPatience = 8 * time.Second

// Waiting lists the deliveries in the waiting stream for users, and asks the elected replica to carry out acts.
type Waiting struct {
	deliverylog.Waiting

	connection *Connection
}

// Waiting returns the waiting stream, limited to existing Postbacks.
func (c *Connection) Waiting(routes deliverylog.Routes) *Waiting {
	return &Waiting{Waiting: deliverylog.Waiting{JetStream: c.js, Names: c.names, Routes: routes}, connection: c}
}

// actAnswer is the answer of the elected replica. Problem is a name in actErrors, or "".
type actAnswer struct {
	deliverylog.Done

	Problem string `json:"problem,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// actErrors has the errors by their names in an answer. Any other is deliverylog.ErrUnknown.
var actErrors = map[string]error{
	"NotWaiting": deliverylog.ErrNotWaiting, "InFlight": deliverylog.ErrInFlight, "Refused": deliverylog.ErrRefused,
	"NoOwner": deliverylog.ErrNoOwner, "Unknown": deliverylog.ErrUnknown,
}

func answerOf(done deliverylog.Done, err error) actAnswer {
	a := actAnswer{Done: done}
	if err == nil {
		return a
	}
	a.Problem, a.Detail = "Unknown", err.Error()
	for name, known := range actErrors {
		if errors.Is(err, known) {
			a.Problem = name
		}
	}
	return a
}

func (a *actAnswer) err() error {
	if a.Problem == "" {
		return nil
	}
	known := actErrors[a.Problem]
	if known == nil {
		known = deliverylog.ErrUnknown
	}
	if a.Detail == "" || a.Detail == known.Error() {
		return known
	}
	return &actError{known, strings.TrimPrefix(a.Detail, known.Error()+": ")}
}

// actError is an error of an act, with the detail of the elected replica.
type actError struct {
	known  error
	detail string
}

// Error implements error.
func (e *actError) Error() string { return e.detail }

// Unwrap returns the error of actErrors.
func (e *actError) Unwrap() error { return e.known }

// Act asks the elected replica to carry out an act, because only that replica knows which attempts are in flight.
func (w *Waiting) Act(ctx context.Context, act deliverylog.Act) (deliverylog.Done, error) {
	ctx, cancel := context.WithTimeout(ctx, actPatience)
	defer cancel()
	c := w.connection
	if act.Verb == deliverylog.DropAll {
		for _, r := range w.Routes.In(act.Namespace) {
			if r.Name == act.Postback {
				act.UID = r.UID
			}
		}
		if act.UID == "" {
			return deliverylog.Done{}, deliverylog.ErrNotWaiting
		}
	}
	request, err := json.Marshal(act)
	if err != nil {
		return deliverylog.Done{}, fmt.Errorf("ask the owner of the waiting stream: %w", err)
	}
	// The elected replica may publish only to subjects with the prefix, so the answer cannot go to an inbox.
	subject := c.names.ActAnswers() + string(uuid.NewUUID())
	answers, err := c.nats.SubscribeSync(subject)
	if err != nil {
		return deliverylog.Done{}, fmt.Errorf("%w: %w", deliverylog.ErrNoOwner, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // Without a connection it fails, and the subscription has ended.
	if err := c.nats.PublishRequest(c.names.ActRequests(), subject, request); err != nil {
		return deliverylog.Done{}, fmt.Errorf("%w: %w", deliverylog.ErrNoOwner, err)
	}
	m, err := answers.NextMsgWithContext(ctx)
	if err != nil {
		return deliverylog.Done{}, fmt.Errorf("%w: %w", deliverylog.ErrNoOwner, err)
	}
	var a actAnswer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return deliverylog.Done{}, fmt.Errorf("%w: read the answer of the owner: %w", deliverylog.ErrUnknown, err)
	}
	return a.Done, a.err()
}
