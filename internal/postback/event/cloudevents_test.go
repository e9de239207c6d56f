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

package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

const minimalCE = `{"specversion":"1.0","id":"1","source":"/shop","type":"lead.created"}`

// ce returns a CloudEvent in which one member is added or has another value.
func ce(name, value string) string {
	members := []string{}
	for _, m := range [][2]string{{"specversion", `"1.0"`}, {"id", `"1"`}, {"source", `"/shop"`}, {"type", `"lead.created"`}} {
		if m[0] != name {
			members = append(members, fmt.Sprintf("%q:%s", m[0], m[1]))
		}
	}
	if value != "" {
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestDecodeCloudEvents(t *testing.T) {
	made := testNow.UTC().Truncate(time.Millisecond)
	id := DerivedID("cloudevents", "/shop", "1")
	plain := Posted{Event{ID: id, Type: "lead.created", CreatedAt: made, Data: json.RawMessage(`{}`), CloudEvent: &CloudEvent{ID: "1", Source: "/shop"}}, false}
	with := func(change func(*Posted)) []Posted {
		p := plain
		more := *plain.CloudEvent
		p.CloudEvent = &more
		change(&p)
		return []Posted{p}
	}
	tests := map[string]struct {
		body  string
		batch bool
		want  []Posted
	}{
		"the least":         {minimalCE, false, []Posted{plain}},
		"null is absent":    {`{"specversion":"1.0","id":"1","source":"/shop","type":"lead.created","subject":null,"data":null,"data_base64":null,"ext":null}`, false, []Posted{plain}},
		"batch":             {"[" + minimalCE + ", " + minimalCE + "]", true, []Posted{plain, plain}},
		"data as it stands": {ce("data", "{ \"b\" : 1.0,\t\"a\":\"<\\u003c>\" }"), false, with(func(p *Posted) { p.Data = json.RawMessage("{ \"b\" : 1.0,\t\"a\":\"<\\u003c>\" }") })},
		"time": {ce("time", `"2025-02-03T10:35:57.9269+01:00"`), false, with(func(p *Posted) {
			p.CreatedAt, p.CreatedAtGiven = time.Date(2025, 2, 3, 9, 35, 57, 926_000_000, time.UTC), true
		})},
		"further attributes": {
			`{"type":"lead.created","zeta":"é\"","data":{},"datacontenttype":"application/vnd.acme+json","alpha":true,"num":-5,"subject":"a b","dataschema":"https://acme.example/s","source":"/shop","id":"1","specversion":"1.0"}`, false,
			with(func(p *Posted) {
				p.CloudEvent.Subject, p.CloudEvent.DataSchema = "a b", "https://acme.example/s"
				p.CloudEvent.Extensions = []Extension{{"alpha", "true"}, {"num", "-5"}, {"zeta", `"é\""`}}
			}),
		},
		"as deep as allowed": {ce("data", nested(MaxDepth-1)), false, with(func(p *Posted) { p.Data = json.RawMessage(nested(MaxDepth - 1)) })},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCloudEvents([]byte(tt.body), tt.batch, testNow)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestIdentityOfACloudEvent(t *testing.T) {
	ids := map[string]string{}
	for _, pair := range [][2]string{{"/shop", "1"}, {"/shop", "2"}, {"/crm", "1"}, {"/shop1", ""}, {"/sho", "p1"}} {
		body := fmt.Sprintf(`{"specversion":"1.0","type":"x","source":%q,"id":%q}`, pair[0], pair[1]+"x")
		got, err := DecodeCloudEvents([]byte(body), false, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := ids[got[0].ID]; ok || !ValidID(got[0].ID) {
			t.Errorf("%v has the id of %s: %s", pair, other, got[0].ID)
		}
		ids[got[0].ID] = body
	}
	// The id must never change, so that a CloudEvent that is posted again after an upgrade is the same event.
	got, err := DecodeCloudEvents([]byte(minimalCE), false, testNow)
	if err != nil || got[0].ID != "evt_6xMlEGv39R5marJnnKSG8Ret8" {
		t.Errorf("got %q, %v", got[0].ID, err)
	}
}

func TestDecodeCloudEventsRefuses(t *testing.T) {
	long := `"` + strings.Repeat("a", maxAttribute+1) + `"`
	extensions := ""
	for i := range maxExtensions + 1 {
		extensions += fmt.Sprintf(`,"e%d":"x"`, i)
	}
	tests := map[string]struct {
		body    string
		batch   bool
		pointer string
		want    string
	}{
		"no specversion":          {ce("specversion", ""), false, "/specversion", "is missing: send 1.0"},
		"no id":                   {ce("id", ""), false, "/id", "is missing"},
		"no source":               {ce("source", ""), false, "/source", "is missing"},
		"no type":                 {ce("type", ""), false, "/type", "is missing"},
		"null id":                 {ce("id", "null"), false, "/id", "is missing"},
		"old version":             {ce("specversion", `"0.3"`), false, "/specversion", "must be 1.0"},
		"empty id":                {ce("id", `""`), false, "/id", "must not be empty"},
		"blank id":                {ce("id", `" "`), false, "/id", "must not be empty"},
		"blank subject":           {ce("subject", `"\u3000 "`), false, "/subject", "must not be empty"},
		"number as id":            {ce("id", `1`), false, "/id", "must be a string"},
		"long id":                 {ce("id", long), false, "/id", "longer than 2048"},
		"control in id":           {ce("id", `"a\u0007"`), false, "/id", "control characters"},
		"noncharacter":            {ce("subject", `"\ufdd0"`), false, "/subject", "noncharacters"},
		"source is no reference":  {ce("source", `"%zz"`), false, "/source", "URI reference"},
		"source is nothing":       {ce("source", `"#"`), false, "/source", "URI reference"},
		"type is not ours":        {ce("type", `"com.acme/lead created"`), false, "/type", "must be an event type"},
		"type too long":           {ce("type", `"`+strings.Repeat("a", 64)+`"`), false, "/type", "must be an event type"},
		"time":                    {ce("time", `"yesterday"`), false, "/time", "RFC 3339"},
		"time without zone":       {ce("time", `"2025-02-03T10:35:57"`), false, "/time", "RFC 3339"},
		"relative schema":         {ce("dataschema", `"/schema"`), false, "/dataschema", "absolute URI"},
		"XML":                     {ce("datacontenttype", `"application/xml"`), false, "/datacontenttype", "application/json"},
		"latin1":                  {ce("datacontenttype", `"application/json; charset=latin1"`), false, "/datacontenttype", "UTF-8"},
		"data is text":            {ce("data", `"x"`), false, "/data", "must be an object"},
		"data is an array":        {ce("data", `[1]`), false, "/data", "must be an object"},
		"data is binary":          {ce("data_base64", `"AA=="`), false, "/data_base64", "binary data"},
		"data too deep":           {ce("data", nested(MaxDepth)), false, "/data" + strings.Repeat("/a", 0), "nested more than 64"},
		"number beyond range":     {ce("data", `{"n":1e400}`), false, "/data/n", "64-bit float"},
		"name twice":              {ce("data", `{"n":1,"n":2}`), false, "/data/n", "twice"},
		"attribute twice":         {`{"id":"1","id":"1"}`, false, "/id", "twice"},
		"extension is an object":  {ce("ext", `{"a":1}`), false, "/ext", "must be a string, a boolean or an integer"},
		"extension is a fraction": {ce("ext", `1.5`), false, "/ext", "integer of 32 bits"},
		"extension too large":     {ce("ext", `2147483648`), false, "/ext", "integer of 32 bits"},
		"extension is empty":      {ce("ext", `""`), false, "/ext", "must not be empty"},
		"extension's name":        {ce("my_ext", `"x"`), false, "/my_ext", "lower-case letters and digits"},
		"many extensions":         {`{"specversion":"1.0","id":"1","source":"/s","type":"x"` + extensions + `}`, false, "/e32", "extension attributes"},
		"an array, no batch":      {"[" + minimalCE + "]", false, "", "cloudevents-batch+json"},
		"an object, batch":        {minimalCE, true, "", "must be an array"},
		"an empty batch":          {"[]", true, "", "is empty"},
		"second of a batch":       {"[" + minimalCE + `,{"id":"2"}]`, true, "/1/specversion", "is missing"},
		"batch of texts":          {`["x"]`, true, "/0", "must be an event"},
		"too many":                {"[" + strings.Repeat(minimalCE+",", MaxEvents) + minimalCE + "]", true, "/100", "more than 100"},
		"same id, other data":     {"[" + minimalCE + "," + ce("data", `{"a":1}`) + "]", true, "/1/id", "is also the id of /0"},
		"same id, other subject":  {"[" + minimalCE + "," + ce("subject", `"s"`) + "]", true, "/1/id", "is also the id of /0"},
		"nothing":                 {"", false, "", "is empty"},
		"cut off":                 {minimalCE[:20], false, "", "ends too early"},
		"something follows":       {minimalCE + "x", false, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCloudEvents([]byte(tt.body), tt.batch, testNow)
			problem, ok := errors.AsType[*InvalidError](err)
			if !ok || got != nil {
				t.Fatalf("got %+v, %v", got, err)
			}
			if !strings.HasPrefix(problem.Pointer, tt.pointer) || !strings.Contains(problem.Detail, tt.want) {
				t.Errorf("got %q: %q, want %q: %q", problem.Pointer, problem.Detail, tt.pointer, tt.want)
			}
		})
	}
}

func TestDecodeBinaryCloudEvent(t *testing.T) {
	attributes := func(change ...string) map[string]string {
		all := map[string]string{"specversion": "1.0", "id": "1", "source": "/shop", "type": "lead.created"}
		for i := 0; i+1 < len(change); i += 2 {
			if all[change[i]] = change[i+1]; change[i+1] == "" {
				delete(all, change[i])
			}
		}
		return all
	}
	got, err := DecodeBinaryCloudEvent(attributes("myext", `a"b`, "subject", "s", "datacontenttype", "application/json"), []byte(" { \"a\" : 1 }\n"), testNow)
	want := &CloudEvent{ID: "1", Source: "/shop", Subject: "s", Extensions: []Extension{{"myext", `"a\"b"`}}}
	if err != nil || len(got) != 1 || string(got[0].Data) != `{ "a" : 1 }` || !reflect.DeepEqual(got[0].CloudEvent, want) || got[0].ID != DerivedID("cloudevents", "/shop", "1") {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := DecodeBinaryCloudEvent(attributes(), nil, testNow); err != nil || string(got[0].Data) != `{}` {
		t.Errorf("without data: %+v, %v", got, err)
	}
	if _, err := DecodeBinaryCloudEvent(attributes(), []byte(nested(MaxDepth-1)), testNow); err != nil {
		t.Errorf("as deep as allowed: %v", err)
	}
	for name, tt := range map[string]struct {
		attributes map[string]string
		data       string
		want       string
	}{
		"no source":       {attributes("source", ""), `{}`, "the header ce-source is missing"},
		"no specversion":  {attributes("specversion", ""), `{}`, "the header ce-specversion is missing"},
		"type":            {attributes("type", "a b"), `{}`, "the header ce-type must be an event type"},
		"content type":    {attributes("datacontenttype", "text/plain"), `{}`, "the header Content-Type must be application/json"},
		"extension":       {attributes("my-ext", "a"), `{}`, "the header ce-my-ext is not the name"},
		"a second data":   {attributes("data", "a"), `{}`, "the header ce-data is not the name"},
		"not UTF-8":       {attributes("subject", "\xff"), `{}`, "the header ce-subject must be text in UTF-8"},
		"data is no JSON": {attributes(), `x`, "invalid"},
		"data is a text":  {attributes(), `"x"`, "must be an object"},
		"too deep":        {attributes(), nested(MaxDepth), "nested more than 64"},
		"more follows":    {attributes(), `{}{}`, "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := DecodeBinaryCloudEvent(tt.attributes, []byte(tt.data), testNow); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

// FuzzDecodeCloudEvents compares DecodeCloudEvents with the SDK of CloudEvents. The SDK accepts every event that
// DecodeCloudEvents accepts, with the same content, and also others.
func FuzzDecodeCloudEvents(f *testing.F) {
	for _, seed := range []string{
		minimalCE, "[" + minimalCE + "]", ce("data", `{"a":[1,2.50,{"b":null}]}`), ce("time", `"2026-01-31T12:00:00+02:00"`),
		ce("subject", `"\ud83d\ude00"`), ce("ext", "true"), ce("ext", "-7"), ce("data_base64", `"AA=="`), ce("datacontenttype", `"application/json"`),
		ce("source", `"https://acme.example/a?b=c#d"`), ce("id", `"\ud800"`), ce("id", `" "`), `{"id":null}`, `[[`, ``, `{}`, ce("dataschema", `"urn:x:y"`),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, batch := range []bool{false, true} {
			events, err := DecodeCloudEvents(body, batch, testNow)
			if err != nil {
				if _, ok := errors.AsType[*InvalidError](err); !ok {
					t.Fatalf("not an InvalidError: %v", err)
				}
				continue
			}
			if len(events) == 0 || len(events) > MaxEvents {
				t.Fatalf("%d events", len(events))
			}
			for i := range events {
				checkCloudEvent(t, body, &events[i])
			}
			if !batch {
				compareWithSDK(t, body, &events[0])
			}
		}
	})
}

func checkCloudEvent(t *testing.T, body []byte, e *Posted) {
	t.Helper()
	if !bytes.Contains(body, e.Data) && string(e.Data) != noData {
		t.Errorf("data is not what was posted: %s", e.Data)
	}
	if !ValidID(e.ID) || !ValidType(e.Type) || !json.Valid(e.Body()) {
		t.Errorf("not an event: %+v", e)
	}
	for _, extension := range e.CloudEvent.Extensions {
		if !json.Valid([]byte(extension.Value)) {
			t.Errorf("extension %+v", extension)
		}
	}
}

func compareWithSDK(t *testing.T, body []byte, e *Posted) {
	t.Helper()
	var typed struct {
		Type *string `json:"datacontenttype"`
	}
	if json.Unmarshal(body, &typed) != nil || typed.Type != nil && *typed.Type != cloudevents.ApplicationJSON {
		return // The SDK reads JSON with another media type as text.
	}
	var other cloudevents.Event
	if err := json.Unmarshal(body, &other); err != nil {
		t.Errorf("the SDK does not read %s: %v", body, err)
		return
	}
	if err := other.Validate(); err != nil {
		t.Errorf("the SDK refuses %s: %v", body, err)
		return
	}
	more := e.CloudEvent
	if other.ID() != more.ID || other.Type() != e.Type || other.Subject() != more.Subject || len(other.Extensions()) != len(more.Extensions) {
		t.Errorf("the SDK reads %v, not %+v", other, e)
	}
	if e.CreatedAtGiven && !other.Time().Truncate(time.Millisecond).Equal(e.CreatedAt) {
		t.Errorf("the SDK reads the time %v, not %v", other.Time(), e.CreatedAt)
	}
}
