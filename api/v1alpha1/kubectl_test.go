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
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	stdout, _, err := cp.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout
}

// rows returns the columns of each line of a table that kubectl prints, without the age.
func rows(table string) [][]string {
	var rows [][]string
	for line := range strings.Lines(table) {
		// Columns are at least three spaces apart, and the text of a header may contain one space.
		var columns []string
		for _, column := range strings.Split(line, "   ") {
			if column = strings.TrimSpace(column); column != "" {
				columns = append(columns, column)
			}
		}
		rows = append(rows, columns[:len(columns)-1])
	}
	return rows
}

func checkRows(t *testing.T, table string, want ...string) {
	t.Helper()
	var got []string
	for _, row := range rows(table) {
		got = append(got, strings.Join(row, " | "))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s\nfrom\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), table)
	}
}

func updateStatus(t *testing.T, o *unstructured.Unstructured, status string) {
	t.Helper()
	changed := merge(t, o, status)
	if _, err := resource(t, changed).UpdateStatus(t.Context(), changed, strictUpdate); err != nil {
		t.Fatal(err)
	}
}

func TestNewObjectsDoNotCountAsHealthy(t *testing.T) {
	for kind, test := range map[string]struct{ manifest, status string }{
		"Postback":         {validPostback, `{"observedGeneration":-1}`},
		"PostbackSecret":   {validPostbackSecret, `{"observedGeneration":-1}`},
		"PostbackDelivery": {validDelivery, `{"observedGeneration":-1,"phase":"Pending"}`},
	} {
		t.Run(kind, func(t *testing.T) {
			o := createFor(t, object(t, test.manifest, ""))
			if got := kubectl(t, "get", kind, o.GetName(), "-o", "jsonpath={.status}"); got != test.status {
				t.Errorf("status is %s, want %s", got, test.status)
			}
		})
	}
}

func TestSpecDefaults(t *testing.T) {
	createFor(t, object(t, validPostback, ""))
	if got := kubectl(t, "get", "postback", "crm", "-o", "jsonpath={.spec.state}"); got != "Enabled" {
		t.Errorf("spec.state is %q", got)
	}
	createFor(t, object(t, validPostbackSecret, "spec: null"))
	if got := kubectl(t, "get", "postbacksecret", "signing", "-o", "jsonpath={.spec.source}"); got != "Generated" {
		t.Errorf("spec.source is %q", got)
	}
}

func TestShortNamesAndCategory(t *testing.T) {
	createFor(t, object(t, validPostback, ""))
	createFor(t, object(t, validPostbackSecret, ""))
	createFor(t, object(t, validDelivery, ""))
	for short, want := range map[string]string{
		"pb": "postback.postback.dev/crm", "pbs": "postbacksecret.postback.dev/signing", "pbd": "postbackdelivery.postback.dev/delivery",
	} {
		t.Run(short, func(t *testing.T) {
			if got := strings.TrimSpace(kubectl(t, "get", short, "-o", "name")); got != want {
				t.Errorf("kubectl get %s: %q, want %q", short, got, want)
			}
		})
	}
	// A category must not have the name of a kind: kubectl would expand it, and delete objects of other kinds too.
	for category, want := range map[string][]string{
		"postbacks":    {"postback.postback.dev/crm"},
		"postback-all": {"postback.postback.dev/crm", "postbacksecret.postback.dev/signing", "postbackdelivery.postback.dev/delivery"},
	} {
		t.Run("category "+category, func(t *testing.T) {
			listed := strings.Fields(kubectl(t, "get", category, "-o", "name"))
			slices.Sort(listed)
			slices.Sort(want)
			if !slices.Equal(listed, want) {
				t.Errorf("kubectl get %s lists %v, want %v", category, listed, want)
			}
		})
	}
	deleted := kubectl(t, "delete", "postbacks", "--all", "--dry-run=server", "-o", "name")
	if got := strings.TrimSpace(deleted); got != "postback.postback.dev/crm" {
		t.Errorf("kubectl delete postbacks --all deletes %q", got)
	}
}

func TestFieldSelectors(t *testing.T) {
	createFor(t, object(t, validPostback, `spec: {secretRef: {name: shared}}`))
	createFor(t, object(t, validPostback, `metadata: {name: other}`))
	lead := createFor(t, object(t, validDelivery, `metadata: {name: lead}`))
	createFor(t, object(t, validDelivery, `
metadata: {name: sale}
spec: {postbackRef: {name: other}, event: {id: evt_2, type: sale.created}}`))
	updateStatus(t, lead, `status: {phase: Delivered, attemptCount: 1}`)

	for _, test := range []struct{ kind, selector, want string }{
		{"postback", "spec.secretRef.name=shared", "crm"},
		{"pbd", "status.phase=Delivered", "lead"},
		{"pbd", "status.phase!=Delivered,status.phase!=Failed", "sale"},
		{"pbd", "spec.postbackRef.name=other", "sale"},
		{"pbd", "spec.event.type=lead.created", "lead"},
		{"pbd", "spec.event.id=evt_2", "sale"},
		{"pbd", "spec.event.id=evt_3", ""},
	} {
		t.Run(test.selector, func(t *testing.T) {
			got := kubectl(t, "get", test.kind, "--field-selector", test.selector, "-o", "jsonpath={.items[*].metadata.name}")
			if got != test.want {
				t.Errorf("%s of %s: %q, want %q", test.selector, test.kind, got, test.want)
			}
		})
	}
}

func TestDeliveryColumns(t *testing.T) {
	createFor(t, object(t, validDelivery, `metadata: {name: a-new}`))
	retried := createFor(t, object(t, validDelivery, `metadata: {name: b-retried}`))
	updateStatus(t, retried, `
status:
  phase: Retrying
  attemptCount: 2
  nextAttemptTime: "2026-01-02T03:07:00.000000Z"
  attempts:
  - {number: 1, time: "2026-01-02T03:04:05.678000Z", duration: 1s, outcome: Timeout}
  - {number: 2, time: "2026-01-02T03:04:18.000000Z", duration: 12ms, outcome: Failed5xx, statusCode: 503}`)

	checkRows(t, kubectl(t, "get", "pbd"),
		"NAME | POSTBACK | EVENT | PHASE | ATTEMPTS | HTTP | OUTCOME",
		"a-new | crm | lead.created | Pending",
		"b-retried | crm | lead.created | Retrying | 2 | 503 | Failed5xx")
	wide := kubectl(t, "get", "pbd", "b-retried", "-o", "wide")
	checkRows(t, wide,
		"NAME | POSTBACK | EVENT | PHASE | ATTEMPTS | HTTP | OUTCOME | NEXT | EVENT ID",
		"b-retried | crm | lead.created | Retrying | 2 | 503 | Failed5xx | 2026-01-02T03:07:00.000000Z | evt_1")
}

func TestPostbackColumns(t *testing.T) {
	o := createFor(t, object(t, validPostback, `spec: {triggers: [lead.created, sale.*]}`))
	updateStatus(t, o, `
status:
  observedGeneration: 1
  secretName: crm
  endpointHost: example.com
  waiting: {reason: RetryAfter, until: "2026-01-02T03:07:00Z"}
  backlog: {deliveries: 540000, oldestTime: "2026-01-02T03:04:05Z"}
  conditions:
  - {type: Ready, status: "True", reason: Routed, message: Events are routed., lastTransitionTime: "2026-01-02T03:04:05Z", observedGeneration: 1}
  - {type: EndpointHealthy, status: "False", reason: Gone, message: Gone., lastTransitionTime: "2026-01-02T03:04:05Z"}`)
	checkRows(t, kubectl(t, "get", "pb"), "NAME | READY | REASON | STATE | HEALTHY | HOST", "crm | True | Routed | Enabled | False | example.com")
	checkRows(t, kubectl(t, "get", "pb", "-o", "wide"),
		"NAME | READY | REASON | STATE | HEALTHY | HOST | WAITING | UNTIL | BACKLOG | TRIGGERS | SECRET | MESSAGE",
		`crm | True | Routed | Enabled | False | example.com | RetryAfter | 2026-01-02T03:07:00Z | 540000 | ["lead.created","sale.*"] | crm | Events are routed.`)
}

func TestPostbackSecretColumns(t *testing.T) {
	o := createFor(t, object(t, validPostbackSecret, ""))
	updateStatus(t, o, `
status:
  observedGeneration: 1
  version: 3
  lastRotationTime: "`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`"
  nextRotationTime: "2026-04-02T03:04:05Z"
  previousExpiryTime: "2026-01-03T03:04:05Z"
  conditions:
  - {type: Ready, status: "True", reason: KeyAvailable, message: The key is there., lastTransitionTime: "2026-01-02T03:04:05Z", observedGeneration: 1}`)
	checkRows(t, kubectl(t, "get", "pbs", "-o", "wide"),
		"NAME | READY | REASON | SOURCE | VERSION | ROTATED | NEXT ROTATION | OVERLAP UNTIL | MESSAGE",
		"signing | True | KeyAvailable | Generated | 3 | 60m | 2026-04-02T03:04:05Z | 2026-01-03T03:04:05Z | The key is there.")
}
