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

package filter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/internal/postback/event"
)

// sale is the event of most tests. Its data has every type of JSON value.
const sale = `{
	"sale": {"amount": 2500, "currency": "eur", "ratio": 0.5, "id": "s_1", "paid": true},
	"customer": {"email": "jane@example.com", "tags": ["vip", "beta"], "note": null},
	"items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 3}],
	"big": 9007199254740993, "huge": 18446744073709551616, "exp": 1E+2, "personal": "Müller, 4 High Street",
	"twice": {"z": 1, "a": 2}, "many": "12x"
}`

func input(data string) *Input {
	return NewInput(&event.Event{
		ID: "evt_1", Type: "sale.created", CreatedAt: time.Date(2026, 1, 31, 12, 0, 0, 5_000_000, time.UTC), Data: []byte(data),
	})
}

func TestMatches(t *testing.T) {
	in := input(sale)
	tests := map[string]struct {
		expression string
		want       bool
	}{
		"a number":                           {`event.data.sale.amount > 1000`, true},
		"a smaller number":                   {`event.data.sale.amount > 5000`, false},
		"an integer against a double":        {`event.data.sale.amount == 2500.0 && event.data.sale.amount > 0.5`, true},
		"a double against an integer":        {`event.data.sale.ratio < 1`, true},
		"an exponent":                        {`event.data.exp == 100`, true},
		"an integer beyond 2^53 is exact":    {`event.data.big == 9007199254740993`, true},
		"its neighbour is another":           {`event.data.big == 9007199254740992`, false},
		"one beyond 64 bits is a double":     {`event.data.huge > 9223372036854775807 && type(event.data.huge) == double`, true},
		"arithmetic":                         {`event.data.sale.amount / 100 * 2 == 50`, true},
		"a text":                             {`event.data.sale.currency == "eur"`, true},
		"a flag alone":                       {`event.data.sale.paid`, true},
		"null":                               {`event.data.customer.note == null`, true},
		"the envelope":                       {`event.id == "evt_1" && event.event == "sale.created" && event.createdAt == "2026-01-31T12:00:00.005Z"`, true},
		"the time as a time":                 {`timestamp(event.createdAt).getHours() == 12 && timestamp(event.createdAt).getHours("+02:00") == 14`, true},
		"the type by its prefix":             {`event.event.startsWith("sale.")`, true},
		"has, present":                       {`has(event.data.sale)`, true},
		"has, absent":                        {`has(event.data.lead)`, false},
		"by index":                           {`event.data["sale"]["amount"] == 2500`, true},
		"an optional value, absent":          {`event.data.?lead.?score.orValue(0) > 10`, false},
		"an optional value, present":         {`event.data.?sale.?amount.orValue(0) > 10`, true},
		"in a list":                          {`"vip" in event.data.customer.tags`, true},
		"in a list of constants":             {`event.data.sale.currency in ["usd", "eur"]`, true},
		"in a map":                           {`"amount" in event.data.sale`, true},
		"exists":                             {`event.data.items.exists(i, i.count > 2)`, true},
		"all":                                {`event.data.items.all(i, i.count > 2)`, false},
		"filter and size":                    {`size(event.data.items.filter(i, i.sku != "a")) == 1`, true},
		"map and sets":                       {`sets.contains(event.data.items.map(i, i.sku), ["b"])`, true},
		"sets that meet":                     {`sets.intersects(event.data.customer.tags, ["x", "beta"])`, true},
		"sets that do not":                   {`sets.intersects(event.data.customer.tags, ["x"])`, false},
		"equivalent sets":                    {`sets.equivalent(event.data.customer.tags, ["beta", "vip", "vip"])`, true},
		"no equivalent sets":                 {`sets.equivalent(event.data.customer.tags, ["beta"])`, false},
		"equal lists":                        {`event.data.customer.tags == ["vip", "beta"]`, true},
		"unequal objects":                    {`event.data.items[0] != event.data.items[1]`, true},
		"strings":                            {`event.data.sale.currency.upperAscii() == "EUR" && " a ".trim() == "a" && "abc".substring(1) == "bc"`, true},
		"texts are joined":                   {`event.data.sale.id + "!" == "s_1!"`, true},
		"split":                              {`event.data.customer.email.split("@")[1] == "example.com"`, true},
		"indexOf":                            {`event.data.customer.email.indexOf("@") == 4 && event.data.customer.email.indexOf("a", 2) == 7`, true},
		"lastIndexOf":                        {`event.data.customer.email.lastIndexOf("e") == 11`, true},
		"a pattern":                          {`event.data.customer.email.matches("^[a-z]+@example[.]com$")`, true},
		"a pattern that does not match":      {`matches(event.data.customer.email, "^x")`, false},
		"or, where one side fails":           {`event.data.nothing == 1 || event.data.sale.paid`, true},
		"a condition":                        {`event.data.sale.paid ? event.data.sale.amount > 1 : false`, true},
		"keys are visited in order":          {`event.data.twice.map(k, k) == ["a", "z"]`, true},
		"a pattern repeated in a macro":      {`["a", "b"].exists(x, x.matches("b"))`, true},
		"nested as deep as is allowed":       {`[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))`, true},
		"a type":                             {`type(event.data.sale) == map`, true},
		"white space and comments":           {"event.data.sale.paid // as said\n  &&\ttrue", true},
		"an integer against text, not equal": {`event.data.sale.amount == "2500"`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := Compile(tt.expression)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Matches(t.Context(), in)
			if err != nil || got != tt.want {
				t.Errorf("got %t, %v; want %t", got, err, tt.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	tests := map[string]struct{ expression, want string }{
		"nothing":                     {``, "line 1, column 1: Syntax error"},
		"half":                        {`event.data.amount >`, "line 1, column 20: Syntax error"},
		"the second line":             {"true &&\n  nothing", "line 2, column 3: undeclared reference to 'nothing'"},
		"another variable":            {`data.amount > 1`, "line 1, column 1: undeclared reference to 'data'"},
		"a field that no event has":   {`event.type == "a"`, "line 1, column 6: event has no field type: it has id, event, createdAt and data"},
		"the same by index":           {`event["type"] == "a"`, "line 1, column 6: event has no field type"},
		"the same, optional":          {`event.?type.hasValue()`, "event has no field type"},
		"the same in has":             {`has(event.dat)`, "event has no field dat"},
		"a number":                    {`1 + 1`, "gives a value of type int: it must give true or false"},
		"a text":                      {`event.data.id + "a"`, "must give true or false"},
		"types that do not fit":       {`"a" > 1`, "no matching overload for '_>_' applied to '(string, int)'"},
		"a macro without its list":    {`event.data.exists(1, true)`, "argument must be a simple name"},
		"an unknown function":         {`event.data.now() > 1`, "undeclared reference to 'now'"},
		"an invalid pattern":          {`event.id.matches("(")`, "missing closing )"},
		"a pattern of the event":      {`event.id.matches(event.data.pattern)`, "the pattern of matches must be a string constant"},
		"a huge pattern":              {`event.id.matches("(a{30}){30}b{200}")`, "line 1, column 17: the pattern of matches is too large"},
		"an invalid duration":         {`duration("x") > duration("1s")`, "invalid duration"},
		"replace":                     {`event.id.replace("", event.id) == ""`, "line 1, column 17: the function replace is not available in a filter"},
		"format":                      {`"%s".format([event.id]) == ""`, "format is not available"},
		"join":                        {`["a"].join() == "a"`, "join is not available"},
		"lists joined":                {`size([1] + [2]) == 2`, "lists cannot be joined with +"},
		"a map":                       {`{"a": true}["a"]`, "maps and messages cannot be written in a filter"},
		"a message":                   {`google.protobuf.Int32Value{value: 1} == 1`, "maps and messages cannot"},
		"a named time zone":           {`timestamp(event.createdAt).getHours("Europe/Berlin") == 1`, `must be "UTC" or an offset`},
		"a time zone of the event":    {`timestamp(event.createdAt).getHours(event.data.zone) == 1`, `must be "UTC" or an offset`},
		"the name event taken":        {`[1].exists(event, event == 1)`, "the name event is reserved"},
		"nested too deep in macros":   {`[1].all(a, [1].all(b, [1].all(c, [1].all(d, [1].all(e, true)))))`, "comprehension exceeds nesting limit"},
		"nested too deep in brackets": {strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
		"too long":                    {strings.Repeat(" ", maxExpression) + "true", "size exceeds limit"},
		"a constant that fails":       {`int("x") == 1`, "type conversion error"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(tt.expression)
			var mistake *CompileError
			if !errors.As(err, &mistake) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if mistake.Line < 1 || mistake.Column < 1 || len(mistake.Detail) > maxDetail || strings.ContainsAny(mistake.Detail, "\n\r") {
				t.Errorf("got %#v", mistake)
			}
		})
	}
}

// TestErrorsHoldNothingOfTheEvent makes filters fail on values that must not appear in a Kubernetes Event or a log.
func TestErrorsHoldNothingOfTheEvent(t *testing.T) {
	tests := map[string]struct{ expression, want string }{
		"no such key":                    {`event.data.lead.score > 1`, "no such key: lead"},
		"no such key, by a constant":     {`event.data["lead"] > 1`, "no such key: lead"},
		"no such key, by a value":        {`event.data[event.data.personal] > 1`, "no such key"},
		"no such key, position":          {"true\n && event.data.lead", "no such key: lead"},
		"no such overload":               {`event.data.personal > 1`, "line 1, column 21: no such overload"},
		"no such overload of a function": {`event.data.sale.startsWith("a")`, "no such overload"},
		"no such overload of +":          {`event.data.sale.amount * 1.5 > 1.0`, "no such overload"},
		"a list that is none":            {`event.data.sale.amount.exists(x, true)`, "a value has the wrong type"},
		"no such element":                {`event.data.items[7].count > 1`, "no such element"},
		"division by zero":               {`1 / (event.data.sale.amount - 2500) > 1`, "division by zero"},
		"modulus by zero":                {`1 % (event.data.sale.amount - 2500) > 1`, "modulus by zero"},
		"overflow":                       {`event.data.big * event.data.big > 1`, "integer overflow"},
		"a conversion":                   {`int(event.data.personal) > 1`, "cannot be converted"},
		"a time":                         {`timestamp(event.data.personal) > timestamp(event.createdAt)`, ""},
		"a duration":                     {`duration(event.data.many) > duration("1s")`, ""},
		"an index in a text":             {`event.data.personal.charAt(1000) == "a"`, ""},
		"a part of a text":               {`event.data.personal.substring(1000) == "a"`, ""},
		"an absent optional":             {`event.data.?lead.value() > 1`, "the optional value is absent"},
		"no bool":                        {`event.data.personal`, "gives a value of type string: it must give true or false"},
		"no bool in a condition":         {`event.data.personal ? true : false`, ""},
		"no bool in and":                 {`event.data.personal && true`, ""},
		"lists joined":                   {`size(event.data.items + event.data.items) > 1`, "lists cannot be joined"},
		"in, of no list":                 {`1 in event.data.sale.amount`, "no such overload"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := Compile(tt.expression)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Matches(t.Context(), input(sale))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			t.Log(err)
			for _, value := range []string{"Müller", "2500", "9007199254740993", "12x", "Street", "vip"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("%q holds %q", err, value)
				}
			}
			if len(err.Error()) > maxDetail+40 {
				t.Errorf("%d bytes", len(err.Error()))
			}
		})
	}
}

func TestMatchesRefusesWhatIsNoObject(t *testing.T) {
	f, err := Compile("true")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"nothing": ``, "a list": `[1]`, "cut short": `{"a":`, "two": `{}{}`, "a number out of range": `{"secret":1e999}`,
		"too deep": strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := f.Matches(t.Context(), input(data)); !errors.Is(err, errData) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMatchesEndsWithItsContext(t *testing.T) {
	f, err := Compile(`event.data.l.all(a, event.data.l.all(b, a == b))`)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	data := `{"l":[1` + strings.Repeat(",1", 999) + `]}`
	if _, err := f.Matches(ctx, input(data)); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
