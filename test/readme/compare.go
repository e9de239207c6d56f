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

package readme

import (
	"regexp"
	"slices"
	"strings"
)

// names maps the names of deliveries on the page, which depend on a UID, to those of this run.
type names map[string]string

var deliveryName = regexp.MustCompile(`\bshop-[a-z2-7]{26}\b`)

// apply replaces the names in a text of the page by those of this run.
func (n names) apply(text string) string {
	return deliveryName.ReplaceAllStringFunc(text, func(name string) string {
		if known, ok := n[name]; ok {
			return known
		}
		return name
	})
}

// learn matches the names on the page with those in the output, by their order.
func (n names) learn(page, printed string) {
	theirs, ours := deliveryName.FindAllString(page, -1), deliveryName.FindAllString(printed, -1)
	for i, name := range theirs {
		if _, known := n[name]; !known && i < len(ours) {
			n[name] = ours[i]
		}
	}
}

// changing lists the texts that differ in each run, with placeholders.
var changing = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|s|m|h)(\d+s)?\b`), "AGE"},
	{regexp.MustCompile(`\bshop-[a-z2-7]{26}\b`), "shop-NAME"},
	{regexp.MustCompile(` +`), " "},
}

// lines splits a text into lines, with placeholders for the text that changes.
func lines(text string) []string {
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.with)
	}
	all := strings.Split(strings.TrimRight(text, "\n "), "\n")
	for i := range all {
		all[i] = strings.TrimRight(all[i], " ")
	}
	return all
}

// same reports whether the output of a command is that of the page. A line … on the page matches any number of lines.
// Rows of a table that kubectl does not sort may come in any order.
func same(page, printed string, sorted bool) bool {
	want, got := lines(page), lines(printed)
	if !sorted {
		slices.Sort(want[1:])
		slices.Sort(got[min(1, len(got)):])
	}
	if !slices.Contains(want, "…") {
		return slices.Equal(want, got)
	}
	for _, part := range slices.Collect(parts(want)) {
		i := index(got, part)
		if i < 0 {
			return false
		}
		got = got[i+len(part):]
	}
	return true
}

// parts yields the lines between the lines …
func parts(all []string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for {
			i := slices.Index(all, "…")
			if i < 0 {
				yield(all)
				return
			}
			if !yield(all[:i]) {
				return
			}
			all = all[i+1:]
		}
	}
}

// index returns the index at which part occurs in all, or -1.
func index(all, part []string) int {
	for i := 0; i+len(part) <= len(all); i++ {
		if slices.Equal(all[i:i+len(part)], part) {
			return i
		}
	}
	return -1
}
