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

package plugin

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/postback-dev/postback-operator/internal/nonprinting"
)

// visible replaces nonprinting characters by their codes, because they could control a terminal or change how a line
// reads. Bytes that are not UTF-8 become U+FFFD: old terminals take some for control characters. Endpoints choose
// some of the printed text.
func visible(text string) string { return visibleBut(text, "") }

// visibleText is visible for a text of several lines, and keeps line feeds and tabs.
func visibleText(text string) string { return visibleBut(text, "\n\t") }

func visibleBut(text, but string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, nonprinting.Is) < 0 {
		return text
	}
	var shown strings.Builder
	for _, r := range text {
		switch {
		case !nonprinting.Is(r), strings.ContainsRune(but, r):
			shown.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&shown, "\\x%02x", r)
		default:
			fmt.Fprintf(&shown, "\\u%04x", r)
		}
	}
	return shown.String()
}

// clockTime formats a time in the local zone, with the day unless it is today.
func clockTime(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	switch {
	case t.IsZero():
		return ""
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format(time.TimeOnly)
	case t.Year() == now.Year():
		return t.Format("Jan 02 15:04")
	}
	return t.Format("2006-01-02")
}

// until formats the time left until t, such as "in 2m28s", or returns "now".
func until(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return "in " + duration.HumanDuration(t.Sub(now).Round(time.Second))
}

// ago formats the time since t, such as "5m ago".
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(t)) + " ago"
}

// took formats the duration of an attempt.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// plural returns a number with its noun in the right form.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "y") {
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
