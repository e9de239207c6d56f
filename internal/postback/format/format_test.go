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

package format

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/internal/postback/event"
)

var createdAt = time.Date(2026, 1, 31, 12, 0, 0, 123_456_789, time.UTC)

func sample(eventType string) *event.Event {
	return &event.Event{ID: "evt_1", Type: eventType, CreatedAt: createdAt, Data: event.Sample(eventType)}
}

func fromCloudEvent() *event.Event {
	e := sample("lead.created")
	e.CloudEvent = &event.CloudEvent{
		ID: "a.1 \"x\"", Source: "https://acme.example/a?b=c&d", Subject: "é<", DataSchema: "https://acme.example/s",
		Extensions: []event.Extension{{Name: "alpha", Value: "true"}, {Name: "num", Value: "-5"}, {Name: "traceparent", Value: `"00-ab"`}},
	}
	return e
}

func body(t *testing.T, f v1alpha1.PayloadFormat, e *event.Event) []byte {
	t.Helper()
	got, err := Body(f, "acme", e)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The bytes that endpoints get must not change with a release, because an event that is posted again is compared with the
// stored body. To see the effect of a change, run the tests with UPDATE_GOLDEN=true.
func TestGolden(t *testing.T) {
	for name, tt := range map[string]struct {
		format v1alpha1.PayloadFormat
		event  *event.Event
	}{
		"json":                     {v1alpha1.FormatJSON, sample("lead.created")},
		"cloudevents":              {v1alpha1.FormatCloudEvents, sample("sale.created")},
		"cloudevents_passed_on":    {v1alpha1.FormatCloudEvents, fromCloudEvent()},
		"slack_lead.created":       {v1alpha1.FormatSlack, sample("lead.created")},
		"slack_sale.created":       {v1alpha1.FormatSlack, sample("sale.created")},
		"slack_commission.created": {v1alpha1.FormatSlack, sample("commission.created")},
		"slack_other":              {v1alpha1.FormatSlack, sample("invoice.paid")},
		"slack_hostile":            {v1alpha1.FormatSlack, hostile()},
	} {
		t.Run(name, func(t *testing.T) {
			got := body(t, tt.format, tt.event)
			path := filepath.Join("testdata", name+".json")
			if os.Getenv("UPDATE_GOLDEN") == "true" {
				if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != string(want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if again := body(t, tt.format, tt.event); !bytes.Equal(got, again) || !json.Valid(got) {
				t.Error("not the same bytes again, or not JSON")
			}
		})
	}
}

func TestDefaultIsJSONAndUnknownIsAnError(t *testing.T) {
	e := sample("lead.created")
	if got := body(t, "", e); !bytes.Equal(got, e.Body()) || !bytes.Equal(got, body(t, v1alpha1.FormatJSON, e)) {
		t.Errorf("got %s", got)
	}
	if got, err := Body("Morse", "acme", e); err == nil || got != nil || !strings.Contains(err.Error(), `"Morse"`) {
		t.Errorf("got %s, %v", got, err)
	}
}

// The SDK of CloudEvents reads the bodies.
func TestSDKReadsCloudEvents(t *testing.T) {
	for name, e := range map[string]*event.Event{"ours": sample("sale.created"), "passed on": fromCloudEvent()} {
		t.Run(name, func(t *testing.T) {
			var got cloudevents.Event
			if err := json.Unmarshal(body(t, v1alpha1.FormatCloudEvents, e), &got); err != nil {
				t.Fatal(err)
			}
			if err := got.Validate(); err != nil {
				t.Fatal(err)
			}
			want := e.CloudEvent
			if want == nil {
				want = &event.CloudEvent{ID: "evt_1", Source: "/apis/postback.dev/namespaces/acme"}
			}
			if got.ID() != want.ID || got.Source() != want.Source || got.Subject() != want.Subject || got.DataSchema() != want.DataSchema ||
				got.DataContentType() != "application/json" || got.Type() != e.Type || !got.Time().Equal(createdAt.Truncate(time.Millisecond)) ||
				len(got.Extensions()) != len(want.Extensions) || !bytes.Equal(got.Data(), e.Data) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A CloudEvent that is sent as a CloudEvent decodes to the same event.
func TestCloudEventPassesThrough(t *testing.T) {
	sent := body(t, v1alpha1.FormatCloudEvents, fromCloudEvent())
	read, err := event.DecodeCloudEvents(sent, false, createdAt)
	if err != nil {
		t.Fatal(err)
	}
	if again := body(t, v1alpha1.FormatCloudEvents, &read[0].Event); !bytes.Equal(sent, again) {
		t.Errorf("sent  %s\nagain %s", sent, again)
	}
}

// The largest event that ingest accepts fits into the body of a delivery, which is at most 1 MiB.
func TestSize(t *testing.T) {
	const room = 1 << 10
	data := []byte(`{"a":"` + strings.Repeat("<", 500_000) + `"}`)
	e := &event.Event{ID: "evt_1", Type: "x", CreatedAt: createdAt, Data: data}
	for f, limit := range map[v1alpha1.PayloadFormat]int{
		v1alpha1.FormatJSON: len(data) + room, v1alpha1.FormatCloudEvents: len(data) + room, v1alpha1.FormatSlack: 40_000,
	} {
		t.Run(string(f), func(t *testing.T) {
			if n := len(body(t, f, e)); n > limit {
				t.Errorf("%s: %d bytes", f, n)
			}
		})
	}
}

func FuzzSlack(f *testing.F) {
	f.Add("lead.created", `{"eventName":"<!channel>","customer":{"id":1,"country":null}}`)
	f.Add("sale.created", `{"sale":{"amount":-7,"currency":"jpy"}}`)
	f.Add("commission.created", `{"amount":"x","earnings":[],"currency":{}}`)
	f.Add("x", `{"a":"\u202e\u0000<https://a|b>"}`)
	f.Fuzz(func(t *testing.T, eventType, data string) {
		if !event.ValidType(eventType) || !json.Valid([]byte(data)) {
			t.Skip()
		}
		e := &event.Event{ID: "evt_1", Type: eventType, CreatedAt: createdAt, Data: json.RawMessage(data)}
		got, err := Body(v1alpha1.FormatSlack, "acme", e)
		if err != nil {
			t.Fatal(err)
		}
		checkSlack(t, got)
	})
}

// checkSlack checks the limits of Block Kit, and that the message has no markup.
func checkSlack(t *testing.T, got []byte) {
	t.Helper()
	if !utf8.Valid(got) {
		t.Fatalf("not UTF-8: %q", got)
	}
	var message slackMessage
	decoder := json.NewDecoder(bytes.NewReader(got))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&message); err != nil {
		t.Fatal(err)
	}
	limits := map[string]int{"header": 150, "section": 3000, "context": 2000}
	texts := map[string]int{message.Text: 3000}
	for _, b := range message.Blocks {
		if b.Text != nil {
			texts[b.Text.Text] = limits[b.Type]
		}
		if len(b.Fields) > 10 || len(b.Elements) > 10 {
			t.Error("more than 10 parts")
		}
		for _, part := range append(b.Fields, b.Elements...) {
			texts[part.Text] = 2000
			if part.Type != "plain_text" {
				t.Errorf("%s is markup", part.Text)
			}
		}
	}
	for text, limit := range texts {
		if n := utf16Length(text); n == 0 || n > limit {
			t.Errorf("%d characters, limit %d: %q", n, limit, text)
		}
		unescaped := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(text)
		if strings.ContainsAny(unescaped, "&<>\x00\x1b\u202e\u200b") {
			t.Errorf("not escaped: %q", text)
		}
	}
}

func hostile() *event.Event {
	return &event.Event{ID: "evt_1", Type: "sale.created", CreatedAt: createdAt, Data: json.RawMessage(
		`{"eventName":"<!channel> *hi* & \u202eabc\u0000\u001b[31m` + strings.Repeat("<", 400) + `","customer":{"id":"<@U123>\u200b","country":{"a":1}},` +
			`"link":{"shortLink":"<https://evil.example|acme.example>"},"sale":{"amount":-5,"currency":"usd"}}`)}
}

func TestSlackIsNoMarkup(t *testing.T) {
	got := body(t, v1alpha1.FormatSlack, hostile())
	checkSlack(t, got)
	for _, bad := range []string{"<!channel>", "<@U123>", "<https", "\\u202e", "\\u0000", "\\u001b"} {
		if bytes.Contains(got, []byte(bad)) {
			t.Errorf("%s is in %s", bad, got)
		}
	}
}

func TestMoney(t *testing.T) {
	for name, test := range map[string]struct{ amount, currency, want string }{
		"a currency of two digits":   {"4900", "usd", "USD 49.00"},
		"less than one":              {"5", "usd", "USD 0.05"},
		"a negative amount":          {"-5", "eur", "EUR -0.05"},
		"nothing":                    {"0", "usd", "USD 0.00"},
		"a currency of no digits":    {"4900", "jpy", "JPY 4900"},
		"a currency of three digits": {"4900", "bhd", "BHD 4.900"},
		"an unknown currency":        {"4900", "doge", "4900 doge"},
		"a fraction":                 {"49.5", "usd", "49.5 usd"},
		"no currency":                {"4900", "", "4900"},
		"no amount":                  {"", "usd", ""},
		"more than 64 bits":          {"99999999999999999999", "usd", "99999999999999999999 usd"},
		"the least of 64 bits":       {"-9223372036854775808", "usd", "USD -92233720368547758.08"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := money(scalar(test.amount), scalar(test.currency)); got != test.want {
				t.Errorf("%s %s: got %q, want %q", test.amount, test.currency, got, test.want)
			}
		})
	}
}

func TestSlackText(t *testing.T) {
	for _, tt := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"a&b", 10, "a&amp;b"},
		{"a&b", 5, "a…"},
		{"a\tb\r\nc", 10, "a b \nc"},
		{"", 10, "-"},
		{"\u200b", 10, "-"},
		{" ", 10, "-"},
		{"😀😀", 4, "😀😀"},
		{"😀😀😀", 5, "😀😀…"},
		{"\xff", 5, "\ufffd"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			if got := slackText(tt.text, tt.limit); got != tt.want {
				t.Errorf("%q to %d: got %q, want %q", tt.text, tt.limit, got, tt.want)
			}
		})
	}
}
