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
	"strings"
	"testing"
	"time"
)

var testNow = time.Date(2026, 3, 4, 5, 6, 7, 891_234_567, time.FixedZone("", 3600))

func testID(index int) string { return fmt.Sprintf("evt_made%d", index) }

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + "{}" + strings.Repeat("}", depth-1)
}

func TestDecode(t *testing.T) {
	made := time.Date(2026, 3, 4, 4, 6, 7, 891_000_000, time.UTC)
	tests := map[string]struct {
		body string
		want []Posted
	}{
		"all fields": {
			`{"id":"evt_1","event":"lead.created","createdAt":"2026-01-31T12:00:00.000Z","data":{"a":1}}`,
			[]Posted{{Event{ID: "evt_1", Type: "lead.created", CreatedAt: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Data: json.RawMessage(`{"a":1}`)}, true}},
		},
		"id and time are made": {
			`{"event":"x","data":{}}`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage(`{}`)}, false}},
		},
		"white space inside data stays, around it goes": {
			" {\n\"data\" : { \"b\" : [ 1 ,\t2 ] }\n, \"event\":\"x\" } \n",
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage("{ \"b\" : [ 1 ,\t2 ] }")}, false}},
		},
		"time with an offset and microseconds": {
			`{"event":"x","createdAt":"2026-01-31T12:00:00.123999+05:30","data":{}}`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: time.Date(2026, 1, 31, 6, 30, 0, 123_000_000, time.UTC), Data: json.RawMessage(`{}`)}, true}},
		},
		"escapes in envelope values": {
			`{"\u0065vent":"le\u0061d","id":"\u0041","data":{"é":"\ud83d\ude00"}}`,
			[]Posted{{Event{ID: "A", Type: "lead", CreatedAt: made, Data: json.RawMessage(`{"é":"\ud83d\ude00"}`)}, false}},
		},
		"numbers as they are": {
			`{"event":"x","data":{"n":[123456789012345678901234567890,0.1000000000000000000000000001,1E+2,-0.0,1e-400]}}`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage(`{"n":[123456789012345678901234567890,0.1000000000000000000000000001,1E+2,-0.0,1e-400]}`)}, false}},
		},
		"an array": {
			`[{"event":"x","data":{}},{"id":"b","event":"y","data":{}}]`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage(`{}`)}, false}, {Event{ID: "b", Type: "y", CreatedAt: made, Data: json.RawMessage(`{}`)}, false}},
		},
		"the same event twice": {
			`[{"id":"b","event":"y","data":{"c":1}},{"id":"b","event":"y","data":{"c":1}}]`,
			[]Posted{{Event{ID: "b", Type: "y", CreatedAt: made, Data: json.RawMessage(`{"c":1}`)}, false}, {Event{ID: "b", Type: "y", CreatedAt: made, Data: json.RawMessage(`{"c":1}`)}, false}},
		},
		"as deep as allowed": {
			`{"event":"x","data":` + nested(MaxDepth-1) + `}`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage(nested(MaxDepth - 1))}, false}},
		},
		"as deep as allowed, in an array": {
			`[{"event":"x","data":` + nested(MaxDepth-1) + `}]`,
			[]Posted{{Event{ID: "evt_made0", Type: "x", CreatedAt: made, Data: json.RawMessage(nested(MaxDepth - 1))}, false}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(tt.body), testNow, testID)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %d events, want %d", len(got), len(tt.want))
			}
			for i := range got {
				if got[i].ID != tt.want[i].ID || !got[i].sameContent(&tt.want[i]) || got[i].CreatedAt.Location() != time.UTC {
					t.Errorf("event %d: got %+v (data %s), want %+v (data %s)", i, got[i], got[i].Data, tt.want[i], tt.want[i].Data)
				}
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	event := func(data string) string { return `{"event":"x","data":` + data + `}` }
	tests := map[string]struct {
		body, pointer, detail string
	}{
		"nothing":                  {"", "", "the body is empty"},
		"white space":              {" \n", "", "the body is empty"},
		"a string":                 {`"x"`, "", "must be an event"},
		"null":                     {`null`, "", "must be an event"},
		"empty array":              {`[]`, "", "the array is empty"},
		"array of arrays":          {`[[]]`, "/0", "must be an event, which is an object"},
		"null in an array":         {`[null]`, "/0", "must be an event, which is an object"},
		"number as second":         {`[` + event(`{}`) + `,7]`, "/1", "must be an event, which is an object"},
		"arrays without end":       {strings.Repeat("[", 100_000), "/0", "must be an event"},
		"101 events":               {"[" + strings.Repeat(event(`{}`)+",", 100) + event(`{}`) + "]", "/100", "more than 100 events"},
		"cut short":                {`{"event":"x","data":{"a":`, "/data/a", "ends too early"},
		"cut short in an array":    {`[{"event":"x","data":{}}`, "", "ends too early"},
		"cut short in a string":    {`{"event":"x","data":{"a":"b`, "/data/a", "ends too early"},
		"trailing text":            {event(`{}`) + "x", "", "send valid JSON"},
		"two documents":            {event(`{}`) + event(`{}`), "", "something follows"},
		"trailing comma":           {`[` + event(`{}`) + `,]`, "", "send valid JSON"},
		"single quotes":            {`{'event':"x"}`, "", "send valid JSON"},
		"comment":                  {`{"event":"x",/* */"data":{}}`, "", "send valid JSON"},
		"NaN":                      {event(`{"a":NaN}`), "/data/a", "send valid JSON"},
		"leading zero":             {event(`{"a":01}`), "/data", "send valid JSON"},
		"control character":        {event("{\"a\":\"\x01\"}"), "/data/a", "send valid JSON"},
		"byte order mark":          {"\xef\xbb\xbf" + event(`{}`), "", "without a byte order mark"},
		"UTF-16":                   {"{\x00\"\x00", "", "send valid JSON"},
		"invalid UTF-8 in a value": {event("{\"a\":\"\xff\"}"), "/data/a", "encode the text as UTF-8"},
		"invalid UTF-8 in a name":  {event("{\"\xc0\xaf\":1}"), "/data", "encode the text as UTF-8"},
		"encoded surrogate":        {event("{\"a\":\"\xed\xa0\x80\"}"), "/data/a", "encode the text as UTF-8"},
		"lone high surrogate":      {event(`{"a":"\ud800"}`), "/data/a", "a high and a low surrogate"},
		"lone low surrogate":       {event(`{"a":"\udc00 "}`), "/data/a", "a high and a low surrogate"},
		"wrong pair":               {event(`{"a":"\ud800\u0041"}`), "/data/a", "a high and a low surrogate"},
		"duplicate field":          {`{"event":"x","event":"x","data":{}}`, "/event", "is present twice"},
		"duplicate name":           {`[` + event(`{}`) + `,` + event(`{"a":[{"b":1,"b":2}]}`) + `]`, "/1/data/a/0/b", "is present twice"},
		"duplicate by escape":      {event(`{"b":1,"\u0062":2}`), "/data/b", "is present twice"},
		"too deep":                 {event(nested(MaxDepth)), strings.Repeat("/a", MaxDepth-1), "is nested more than 64 deep"},
		"too deep, arrays":         {event(`{"a":` + strings.Repeat("[", 200_000)), "/data/a", "is nested more than 64 deep"},
		"too deep, in an array":    {`[` + event(nested(MaxDepth)) + `]`, strings.Repeat("/a", MaxDepth-1), "is nested more than 64 deep"},
		"1e400":                    {`[` + event(`{"amount":1e400}`) + `]`, "/0/data/amount", "beyond the range"},
		"-1e309":                   {event(`{"a":[0,-1e309]}`), "/data/a/1", "beyond the range"},
		"400 digits":               {event(`{"a":` + strings.Repeat("9", 400) + `}`), "/data/a", "beyond the range"},
		"no type":                  {`{"data":{}}`, "/event", "is missing"},
		"no data":                  {`[{"event":"x"}]`, "/0/data", "is missing"},
		"empty object":             {`{}`, "/event", "is missing"},
		"type is a number":         {`{"event":1,"data":{}}`, "/event", "must be an event type"},
		"type is an object":        {`{"event":{},"data":{}}`, "/event", "must be an event type"},
		"type is a pattern":        {`{"event":"sale.*","data":{}}`, "/event", "must be an event type"},
		"type is too long":         {`{"event":"` + strings.Repeat("a", 64) + `","data":{}}`, "/event", "must be an event type"},
		"id is null":               {`{"id":null,"event":"x","data":{}}`, "/id", "must be a string of 1 to 128"},
		"id is empty":              {`{"id":"","event":"x","data":{}}`, "/id", "must be a string of 1 to 128"},
		"id with a full stop":      {`[{"id":"a.b","event":"x","data":{}}]`, "/0/id", "must be a string of 1 to 128"},
		"id is too long":           {`{"id":"` + strings.Repeat("a", 129) + `","event":"x","data":{}}`, "/id", "must be a string of 1 to 128"},
		"time is a number":         {`{"event":"x","createdAt":1,"data":{}}`, "/createdAt", "must be a time"},
		"time without a zone":      {`{"event":"x","createdAt":"2026-01-31T12:00:00","data":{}}`, "/createdAt", "must be a time"},
		"time is a date":           {`{"event":"x","createdAt":"2026-01-31","data":{}}`, "/createdAt", "must be a time"},
		"time with a comma":        {`{"event":"x","createdAt":"2026-01-31T12:00:00,5Z","data":{}}`, "/createdAt", "must be a time"},
		"offset of 24 hours":       {`{"event":"x","createdAt":"2026-01-31T12:00:00+24:00","data":{}}`, "/createdAt", "must be a time"},
		"hour of one digit":        {`{"event":"x","createdAt":"2026-01-31T2:00:00Z","data":{}}`, "/createdAt", "must be a time"},
		"31 February":              {`{"event":"x","createdAt":"2026-02-31T12:00:00Z","data":{}}`, "/createdAt", "must be a time"},
		"year 1":                   {`{"event":"x","createdAt":"0001-01-01T00:00:00Z","data":{}}`, "/createdAt", "must be a time"},
		"year 10000 in UTC":        {`{"event":"x","createdAt":"9999-12-31T23:59:59-01:00","data":{}}`, "/createdAt", "must be a time"},
		"data is null":             {event(`null`), "/data", "must be an object"},
		"data is an array":         {event(`[]`), "/data", "must be an object"},
		"data is a string":         {event(`"{}"`), "/data", "must be an object"},
		"unknown field":            {`{"event":"x","data":{},"a/b~":{}}`, "/a~1b~0", `put your own fields under "data"`},
		"field in another case":    {`{"Event":"x","data":{}}`, "/Event", `put your own fields under "data"`},
		"long name":                {`{"` + strings.Repeat("é", 1000) + `":1}`, "/é", `put your own fields`},
		"one id, other data":       {`[{"id":"b","event":"y","data":{}},{"id":"b","event":"y","data":{"c":1}}]`, "/1/id", "is also the id of /0"},
		"one id, other type":       {`[{"id":"b","event":"y","data":{}},{"event":"y","data":{}},{"id":"b","event":"z","data":{}}]`, "/2/id", "is also the id of /0"},
		"one id, one with a time":  {`[{"id":"b","event":"y","data":{}},{"id":"b","event":"y","createdAt":"2026-01-31T12:00:00Z","data":{}}]`, "/1/id", "is also the id of /0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(tt.body), testNow, testID)
			got, ok := errors.AsType[*InvalidError](err)
			if !ok {
				t.Fatalf("got error %v, want an InvalidError", err)
			}
			loose := strings.HasPrefix(name, "too deep") || name == "long name"
			if loose && !strings.Contains(got.Pointer, tt.pointer) || !loose && got.Pointer != tt.pointer {
				t.Errorf("got pointer %q, want %q (%s)", got.Pointer, tt.pointer, got.Detail)
			}
			if !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got detail %q, want %q in it", got.Detail, tt.detail)
			}
			if len(got.Pointer)+len(got.Detail) > 1000 {
				t.Errorf("the error repeats too much of the request: %d bytes", len(got.Pointer)+len(got.Detail))
			}
		})
	}
}

func TestDecodedDataIsACopy(t *testing.T) {
	body := []byte(`{"event":"x","data":{"a":1}}`)
	events, err := Decode(body, testNow, testID)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if got := string(events[0].Data); got != `{"a":1}` {
		t.Errorf("data changes with the request's buffer: %q", got)
	}
}

func TestStoredAt(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	stored := Event{ID: "a", Type: "x", CreatedAt: at, Data: json.RawMessage(`{"a":1}`)}
	tests := map[string]struct {
		posted Posted
		want   bool
	}{
		"same":                  {Posted{stored, true}, true},
		"time made here":        {Posted{Event{ID: "a", Type: "x", CreatedAt: testNow, Data: stored.Data}, false}, true},
		"another time given":    {Posted{Event{ID: "a", Type: "x", CreatedAt: testNow, Data: stored.Data}, true}, false},
		"another type":          {Posted{Event{ID: "a", Type: "y", CreatedAt: at, Data: stored.Data}, true}, false},
		"another data":          {Posted{Event{ID: "a", Type: "x", CreatedAt: at, Data: json.RawMessage(`{"a": 1}`)}, false}, false},
		"another id, same data": {Posted{Event{ID: "b", Type: "x", CreatedAt: at, Data: stored.Data}, true}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := bytes.Equal(tt.posted.StoredAt(at).Body(), stored.Body()); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"event":"lead.created","data":{}}`,
		`[{"id":"evt_1","event":"x","createdAt":"2026-01-31T12:00:00+02:00","data":{"a":[1,2.50,{"b":null}]}}]`,
		`{"event":"x","data":{"é":"\ud83d\ude00<&>\u2028","n":123456789012345678901234567890}}`,
		`{"event":"x","data": { "a" : 1e308 } , "id":"a"}`,
		`[{"event":"x","data":{"a":1,"a":2}}]`,
		`{"event":"x","data":{"a":"\ud800"}}`,
		"{\"event\":\"x\",\"data\":{\"a\":\"\xff\"}}",
		`{"event":"x","data":` + nested(70) + `}`,
		`[[[[[[[[`, `{`, ``, `null`, `[{},{}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		events, err := Decode(body, testNow, testID)
		if err != nil {
			if _, ok := errors.AsType[*InvalidError](err); !ok {
				t.Fatalf("not an InvalidError: %v", err)
			}
			return
		}
		if len(events) == 0 || len(events) > MaxEvents {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if !bytes.Contains(body, e.Data) {
				t.Errorf("data is not what was posted: %s", e.Data)
			}
			sent := e.Body()
			if !json.Valid(sent) || !bytes.HasSuffix(sent, append([]byte(`,"data":`+string(e.Data)), '}')) {
				t.Errorf("not a body: %s", sent)
			}
			again, err := Decode(sent, time.Time{}, testID)
			if err != nil || len(again) != 1 || again[0].ID != e.ID || again[0].Type != e.Type ||
				!again[0].CreatedAt.Equal(e.CreatedAt) || !bytes.Equal(again[0].Data, e.Data) {
				t.Errorf("%s reads as %+v, error %v", sent, again, err)
			}
		}
	})
}
