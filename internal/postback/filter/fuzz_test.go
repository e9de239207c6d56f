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
	"unicode/utf8"
)

// FuzzFilter evaluates any expression on any data. It must not panic, must end soon, and must give the same result
// twice. Its errors must be short and contain no value of the event.
func FuzzFilter(f *testing.F) {
	const secret = "s3cret-of-the-event"
	for _, expression := range []string{
		`true`, `event.data.a > 1`, `event.data.a.b == "x"`, `event.data.l.exists(x, x == 1)`, `event.data[event.data.s] == 1`,
		`event.data.l.map(x, [x, x]).map(x, [x, x]) == event.data.l`, `event.data.s.matches("^a.*(b|c){2,5}$")`, `event.data.?a.?b.orValue(1) == 1`,
		`timestamp(event.createdAt) > timestamp("2026-01-01T00:00:00Z") && duration("1h") < duration("2h")`, `int(event.data.s) > 1`,
		`event.data.l.all(x, x in event.data.l) ? event.data.b : !event.data.b`, `sets.intersects(event.data.l, [1, 2u, 3.0, "a", null])`,
		`event.data.s.split(",").size() > 1 && event.data.s.lowerAscii().trim().substring(1, 2).charAt(0) == "a"`, `event.data.map(k, k)[0] == "a"`,
		`event.data.s + event.id == string(event.data.a)`, `event.data.a / event.data.z % 3 == -1`, `b"a" + bytes(event.data.s) == b'ab'`, `size(event) == 4`,
		`[[1]].exists(x, [x].exists(y, y == x))`, `type(event.data.a) == int`, `optional.of(event.data.a) == optional.none()`, `event.data == event.data`,
		`event.data.l[?0].optMap(x, x + 1).orValue(0) > 1`, `event.data.s.indexOf("a", -1) == event.data.s.lastIndexOf("a")`, `dyn(1) + dyn("a") == 2`,
		`event.data.s`, `event.event.startsWith("sale") || has(event.data.a.b)`, `(`, `"\u00e9" < event.data.s`, `{1: 2}[1] == 2`, `event.data.l.exists_one(e, e)`,
	} {
		for _, data := range []string{
			`{"a":1,"b":true,"l":[1,2,"x",{"k":1.5},null],"s":"` + secret + `","z":0}`, `{}`, `{"a":{"b":"x"},"l":{"z":1,"a":2},"s":"abcb"}`,
			`{"a":9223372036854775807,"l":[[1],[[2]]],"s":"a,b","b":"` + secret + `"}`, `{"a":-0.0,"s":"12","l":[],"b":1e308}`, `[]`, `{"a":`,
		} {
			f.Add(expression, data)
		}
	}
	f.Fuzz(func(t *testing.T, expression, data string) {
		filter, err := Compile(expression)
		if err != nil {
			var mistake *CompileError
			if !errors.As(err, &mistake) || mistake.Line < 1 || mistake.Column < 1 || len(mistake.Detail) > maxDetail ||
				!utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("%q: %#v", expression, err)
			}
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		start := time.Now()
		got, err := filter.Matches(ctx, input(data))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%q took %s", expression, took)
		}
		again, errAgain := filter.Matches(ctx, input(data))
		if got != again || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Errorf("%q: %t, %v and then %t, %v", expression, got, err, again, errAgain)
		}
		if err == nil {
			return
		}
		if text := err.Error(); len(text) > maxDetail+60 || !utf8.ValidString(text) ||
			strings.Contains(text, secret) && !strings.Contains(expression, secret) {
			t.Errorf("%q: %q", expression, text)
		}
	})
}

func BenchmarkMatches(b *testing.B) {
	f, err := Compile(`event.data.sale.amount > 1000 && event.data.sale.currency in ["eur", "usd"]`)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("same event", func(b *testing.B) {
		in := input(sale)
		b.ReportAllocs()
		for b.Loop() {
			if ok, err := f.Matches(b.Context(), in); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("new event", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ok, err := f.Matches(b.Context(), input(sale)); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Compile(`event.data.sale.amount > 1000 && event.data.sale.currency in ["eur", "usd"]`); err != nil {
				b.Fatal(err)
			}
		}
	})
}
