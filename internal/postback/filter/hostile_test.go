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
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHostileFiltersAreBounded runs filters that would take minutes, hours or all memory without the budget. The
// library's own cost limit stops none of them.
func TestHostileFiltersAreBounded(t *testing.T) {
	numbers := strings.TrimSuffix(strings.Repeat("1,", 100_000), ",")
	text := strings.Repeat("a", 500_000)
	object := "{"
	for i := range 20_000 {
		object += `"k` + strconv.Itoa(i) + `":1,`
	}
	object = strings.TrimSuffix(object, ",") + "}"
	// many makes each element forty times as large, in as many chained macros as maxNesting permits.
	many := func(start, open, x, join, end string) string {
		step := open + strings.Repeat(x+join, 39) + x + end
		return start + strings.Repeat(".map(x, "+step+")", maxNesting)
	}
	nested := many(`[1]`, "[", "x", ",", "]")
	tests := map[string]struct{ expression, data string }{
		"a text doubled":                    {many(`[event.id]`, "", "x", "+", "") + `[0] == ""`, `{}`},
		"a text of the event doubled":       {many(`[event.data.t]`, "", "x", "+", "") + `[0] == ""`, `{"t":"` + text + `"}`},
		"lists doubled":                     {many(`[event.data.l]`, "", "x", "+", "") + `[0] == []`, `{"l":[1,2]}`},
		"nested lists compared":             {nested + ` == ` + nested, `{}`},
		"nested lists compared with !=":     {nested + ` != ` + nested, `{}`},
		"nested optional values compared":   {many(`[optional.of(1)]`, "[", "x", ",", "]") + ` == ` + many(`[optional.of(1)]`, "[", "x", ",", "]"), `{}`},
		"a nested list searched":            {nested + `[0] in ` + nested, `{}`},
		"sets of nested lists":              {`sets.contains(` + nested + `, ` + nested + `)`, `{}`},
		"large sets":                        {`sets.equivalent(event.data.l.map(x, x * 2), event.data.l)`, `{"l":[` + numbers + `]}`},
		"a large list searched many times":  {`event.data.l.all(x, !(2 in event.data.l))`, `{"l":[` + numbers + `]}`},
		"a large list visited for each":     {`event.data.l.all(x, event.data.l.all(y, x == y))`, `{"l":[` + numbers + `]}`},
		"large lists compared many times":   {`event.data.l.all(x, event.data.l == event.data.l)`, `{"l":[` + numbers + `]}`},
		"a text searched in a text":         {`event.data.t.indexOf(event.data.s) == 1`, `{"t":"` + text + `","s":"` + text[:250_000] + `b"}`},
		"the same from the end":             {`event.data.t.lastIndexOf(event.data.s) == 1`, `{"t":"` + text + `","s":"b` + text[:250_000] + `"}`},
		"a text split into its characters":  {`event.data.l.all(x, event.data.t.split("") != [])`, `{"l":[` + numbers + `],"t":"` + text + `"}`},
		"a text read many times":            {`event.data.l.all(x, event.data.t.lowerAscii() != "")`, `{"l":[` + numbers + `],"t":"` + text + `"}`},
		"a costly pattern over a long text": {`event.data.t.matches("(a?){100}a{100}b")`, `{"t":"` + text + `"}`},
		"visited without a call":            {`event.data.l.filter(x, event.data.l.filter(y, false) == [x]) == []`, `{"l":[` + numbers + `]}`},
		"counted without a call":            {`event.data.l.exists_one(x, event.data.l.exists_one(y, false))`, `{"l":[` + numbers + `]}`},
		"a large object visited many times": {`event.data.l.all(x, event.data.o.exists(k, true))`, `{"l":[` + numbers + `],"o":` + object + `}`},
		"the cost made nothing of":          {`event.data.l.all(x, event.data.l.all(y, x == y)) || true`, `{"l":[` + numbers + `]}`},
		"a costly pattern many times":       {`event.data.l.all(x, !event.data.t.matches("(a?){20}a{20}b"))`, `{"l":[` + numbers + `],"t":"` + text[:1000] + `"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := Compile(tt.expression)
			if err != nil {
				t.Fatal(err)
			}
			in := input(tt.data)
			if _, err := in.variables(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = f.Matches(t.Context(), in)
			if err == nil || !errors.Is(err, errCost) && !strings.Contains(err.Error(), errLists) {
				t.Errorf("got %v, want that it is stopped", err)
			}
			// A busy machine may need seconds. Without the budget it would be hours.
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestOrdinaryFiltersAreNotStopped evaluates ordinary filters on the largest events that ingest accepts.
func TestOrdinaryFiltersAreNotStopped(t *testing.T) {
	var items strings.Builder
	for i := range 10_000 {
		items.WriteString(`{"sku":"sku-` + strconv.Itoa(i) + `","count":` + strconv.Itoa(i%7) + `},`)
	}
	data := `{"items":[` + strings.TrimSuffix(items.String(), ",") + `],"text":"` + strings.Repeat("lorem ipsum ", 30_000) + `"}`
	for _, expression := range []string{
		`event.data.items.exists(i, i.sku == "sku-9999" && i.count == 3)`,
		`size(event.data.items.filter(i, i.count > 2)) > 100`,
		`event.data.text.contains("dolor") || event.data.text.matches("ip[a-z]+ lorem")`,
		`event.data.text.split(" ").exists(w, w == "ipsum")`,
		`event.data.items.map(i, i.sku).exists(s, s in ["sku-1", "sku-2"])`,
	} {
		t.Run(expression, func(t *testing.T) {
			f, err := Compile(expression)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.Matches(t.Context(), input(data)); err != nil || !got {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
}
