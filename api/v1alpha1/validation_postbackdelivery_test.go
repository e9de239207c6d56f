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

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestPostbackDelivery(t *testing.T) {
	event := func(field, value string) string { return fmt.Sprintf("spec: {event: {%s: %q}}", field, value) }
	cases := []manifestCase{
		{"no spec", `spec: null`, []string{"spec", "Required value"}},
		{"no Postback", `spec: {postbackRef: null}`, []string{"spec.postbackRef", "Required value"}},
		{"no UID", `spec: {postbackRef: {uid: null}}`, []string{"spec.postbackRef.uid", "Required value"}},
		{"no event", `spec: {event: null}`, []string{"spec.event", "Required value"}},
		{"no body", `spec: {body: null}`, []string{"spec.body", "Required value"}},
		{"empty body", `spec: {body: ""}`, []string{"spec.body", "at least 1"}},
		{"body an object", `spec: {body: [id]}`, []string{"spec.body", "must be of type string"}},
		{"body too long", "spec: {body: " + strings.Repeat("x", 1048577) + "}", []string{"spec.body", "1048576"}},
		{"no id", `spec: {event: {id: null}}`, []string{"spec.event.id", "Required value"}},
		{"id with a full stop", event("id", "evt.1"), []string{"spec.event.id", "letters, digits", "forbids a full stop"}},
		{"id with a space", event("id", "evt 1"), []string{"spec.event.id", "letters, digits"}},
		{"id too long", event("id", strings.Repeat("x", 129)), []string{"spec.event.id", "128"}},
		{"malformed type", event("type", "lead created"), []string{"spec.event.type", "must be an event type such as lead.created"}},
		{"a trigger, not a type", event("type", "sale.*"), []string{"spec.event.type", "must be an event type such as lead.created"}},
		{"type too long", event("type", strings.Repeat("x", 64)), []string{"spec.event.type", "63"}},
		{"createdAt not a time", event("createdAt", "yesterday"), []string{"spec.event.createdAt", "date-time"}},
		{"unknown field", `spec: {url: a}`, []string{"unknown field", "spec.url"}},

		{"a test event", `spec: {test: true}`, nil},
		{"as long as can be", "spec: {body: " + strings.Repeat("x", 1048576) + ", event: {id: " + strings.Repeat("x", 128) + ", type: " + strings.Repeat("x", 63) + "}}", nil},
	}
	runCreates(t, validDelivery, cases)
}

func TestPostbackDeliveryChanges(t *testing.T) {
	immutable := []string{"spec", "is immutable", "annotate it with postback.dev/redeliver to send it again"}
	runUpdates(t, validDelivery, []updateCase{
		{"body", ``, `spec: {body: other}`, immutable},
		{"event", ``, `spec: {event: {id: evt_2}}`, immutable},
		{"Postback", ``, `spec: {postbackRef: {name: other}}`, immutable},
		{"test", ``, `spec: {test: true}`, immutable},
		{"an annotation", ``, `metadata: {annotations: {postback.dev/redeliver: "1"}}`, nil},
	})
}

func TestPostbackDeliveryStatus(t *testing.T) {
	attempt := func(fields string) string {
		return fmt.Sprintf("{number: 1, time: \"2026-01-02T03:04:05.678000Z\", duration: 12ms, outcome: Succeeded%s}", fields)
	}
	attempts := func(list string) string { return "status: {attempts: " + list + "}" }
	runStatusUpdates(t, validDelivery, []manifestCase{
		{"unknown phase", `status: {phase: Lost}`, []string{"status.phase", `"Pending", "Retrying", "Delivered", "Failed"`}},
		{"unknown outcome", attempts(`[{number: 1, time: "2026-01-02T03:04:05.678000Z", duration: 1s, outcome: Lost}]`), []string{"status.attempts[0].outcome", "Succeeded"}},
		{"number 0", attempts(`[{number: 0, time: "2026-01-02T03:04:05.678000Z", duration: 1s, outcome: Timeout}]`), []string{"status.attempts[0].number", "greater than or equal to 1"}},
		{"no time", attempts(`[{number: 1, duration: 1s, outcome: Timeout}]`), []string{"status.attempts[0].time", "Required value"}},
		{"status code too small", attempts("[" + attempt(", statusCode: 99") + "]"), []string{"status.attempts[0].statusCode", "greater than or equal to 100"}},
		{"status code too large", attempts("[" + attempt(", statusCode: 1000") + "]"), []string{"status.attempts[0].statusCode", "less than or equal to 999"}},
		{"message too long", attempts("[" + attempt(", message: "+strings.Repeat("x", 1025)) + "]"), []string{"status.attempts[0].message", "1024"}},
		{"response body too long", attempts("[" + attempt(", responseBody: "+strings.Repeat("x", 1025)) + "]"), []string{"status.attempts[0].responseBody", "1024"}},
		{"too many attempts", attempts(times(21, attempt(""))), []string{"status.attempts", "at most 20"}},
		{"attemptCount below 0", `status: {attemptCount: -1}`, []string{"status.attemptCount", "greater than or equal to 0"}},

		{"in full", attempts(times(20, attempt(", statusCode: 200, remoteIP: \"2001:db8::1\", message: "+strings.Repeat("x", 1024)))), nil},
		{"every phase", `status: {phase: Retrying, attemptCount: 21, round: {attempts: 3}}`, nil},
	})
}
