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
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestCacheCompilesOnce(t *testing.T) {
	var c Cache
	first, err := c.Get("event.id != ''")
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Get("event.id != ''")
	if err != nil || first != second {
		t.Errorf("another filter, %v", err)
	}
	_, err = c.Get("event.id >")
	_, again := c.Get("event.id >")
	if err == nil || !errors.Is(again, err) {
		t.Errorf("errors %v and %v, want one that is kept", err, again)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	expression := func(i int) string { return fmt.Sprintf("%s%d == 1", strings.Repeat(" ", 4000), i) }
	kept, err := c.Get(expression(0))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		if _, err := c.Get(expression(i)); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Get(expression(0)); err != nil || again != kept {
			t.Fatalf("one that is in use was forgotten, %v", err)
		}
	}
	if c.text > cacheText || len(c.entries) != c.recent.Len() || len(c.entries) > cacheText/4000 {
		t.Errorf("%d bytes, %d entries, %d in the list", c.text, len(c.entries), c.recent.Len())
	}
}

func TestCacheAndInputTakeManyAtOnce(t *testing.T) {
	var c Cache
	in := input(sale)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				f, err := c.Get(fmt.Sprintf("event.data.sale.amount > %d && event.data.items.exists(i, i.count == 3)", (i+j)%10))
				if err != nil {
					t.Error(err)
					return
				}
				if ok, err := f.Matches(t.Context(), in); !ok || err != nil {
					t.Error(ok, err)
				}
			}
		})
	}
	wg.Wait()
}

// The library writes the position into an error. Concurrent evaluations must not share one error.
func TestErrorsAreNotShared(t *testing.T) {
	in := input(sale)
	var wg sync.WaitGroup
	for _, expression := range []string{
		`event.data.personal > 1`, `event.data.sale.amount.exists(x, true)`, `1 in event.data.sale.amount`, `event.data.items[7] == 1`,
		`event.data.personal.matches("M") && event.data.sale.matches("a")`, `size(event.data.items + event.data.items) > 1`,
		`event.data.personal ? true : false`, `-event.data.personal == 1`, `event.data.sale.amount.startsWith("a")`,
	} {
		f, err := Compile(expression)
		if err != nil {
			t.Fatal(err)
		}
		_, want := f.Matches(t.Context(), in)
		for range 4 {
			wg.Go(func() {
				for range 200 {
					if _, err := f.Matches(t.Context(), in); err == nil || err.Error() != want.Error() {
						t.Errorf("%s: got %v, want %v", expression, err, want)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}
