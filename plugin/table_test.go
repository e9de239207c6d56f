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
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/postback-dev/postback-operator/internal/deliveries"
)

func printed(t *testing.T, width int, coloured bool, rows ...row) string {
	t.Helper()
	var out strings.Builder
	table := newTable(&out, false, column{name: "NAME", least: 6}, column{name: "STATE"}, column{name: "EXTRA", wide: true}, column{name: "NOTE", least: 5})
	table.width, table.coloured = width, coloured
	if err := table.print(&out, rows...); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTable(t *testing.T) {
	rows := []row{
		{plain("crm"), cell{"Enabled", green}, plain("x"), plain("a note that is rather long")},
		{plain("a-longer-name"), plain("Paused"), plain("x"), plain("")},
	}
	tests := map[string]struct {
		width    int
		coloured bool
		want     string
	}{
		"as wide as needed": {0, false, "NAME            STATE     NOTE\n" +
			"crm             Enabled   a note that is rather long\n" +
			"a-longer-name   Paused\n"},
		"in colours": {0, true, "NAME            STATE     NOTE\n" +
			"crm             \x1b[32mEnabled\x1b[0m   a note that is rather long\n" +
			"a-longer-name   Paused\n"},
		"narrow": {40, false, "NAME           STATE    NOTE\n" +
			"crm            Enabled  a note that is …\n" +
			"a-longer-name  Paused\n"},
		"too narrow": {10, false, "NAME    STATE    NOTE\n" +
			"crm     Enabled  a no…\n" +
			"a-lon…  Paused\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := printed(t, test.width, test.coloured, rows...); got != test.want {
				t.Errorf("printed\n%swant\n%s", got, test.want)
			}
		})
	}
}

// On a terminal of 80 characters, the id is cut before the type, and the mark of a test event is never cut.
func TestLogFitsIntoATerminal(t *testing.T) {
	rows := []row{
		{plain(""), plain("10:00:00"), plain("crm"), plain("lead.created (test)"), plain("evt_8W10G8AAAAAAAAAAAAAAAAAAA"), plain("Delivered"), plain("200"), plain("1"), plain("157ms"), plain("")},
		{plain(""), plain("10:00:01"), plain("crm"), plain("commission.created"), plain("order-7"), plain("Retrying"), plain("503"), plain("2"), plain("1.21s"), plain("in 2m28s")},
	}
	for name, test := range map[string]struct {
		postback string
		want     []string
	}{
		"of one Postback":  {"crm", []string{"10:00:00  lead.created (test)  evt_8W1…  Delivered", "10:00:01  commission.created   order-7   Retrying"}},
		"of all Postbacks": {"", []string{"10:00:00  crm      le… (test)  evt_8W1…  Delivered", "10:00:01  crm      commissio…  order-7   Retrying"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			log := (&eventsOptions{env: &env{IOStreams: genericiooptions.IOStreams{Out: &out}}, output: &output{}}).table(deliveries.Query{Postback: test.postback})
			log.width = 80
			if err := log.print(&out, rows...); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 80 {
					t.Errorf("a line has %d characters: %s", n, line)
				}
			}
			for _, line := range test.want {
				if !strings.Contains(out.String(), line) {
					t.Errorf("%q is not in\n%s", line, out.String())
				}
			}
		})
	}
}

// Untrusted text neither moves the cursor nor reverses a line.
func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä €":        "plain ä €",
		"a\x1b[31mred\r\n": `a\x1b[31mred\x0d\x0a`,
		"\u202eevil":       `\u202eevil`,
		"zero\u200bwidth":  `zero\u200bwidth`,
		"raw\x9b31m":       "raw\ufffd31m",
	} {
		t.Run(text, func(t *testing.T) {
			if got := visible(text); got != want {
				t.Errorf("%q is shown as %q, want %q", text, got, want)
			}
		})
	}
	if got := visibleText("a\n\tb\x07"); got != "a\n\tb\\x07" {
		t.Errorf("%q", got)
	}
}
