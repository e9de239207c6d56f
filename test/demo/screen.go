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

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const indent = "   "

// screen prints for the reader.
type screen struct {
	w     io.Writer
	steps int
}

func (s *screen) print(format string, args ...any) { _, _ = fmt.Fprintf(s.w, format, args...) }

// step begins a numbered step.
func (s *screen) step(title string) {
	s.steps++
	s.print("\n%d. %s\n", s.steps, title)
}

// say prints a line of a step.
func (s *screen) say(format string, args ...any) { s.print(indent+format+"\n", args...) }

// command prints a command that the reader could type.
func (s *screen) command(line string) {
	s.print("%s$ %s\n", indent, strings.ReplaceAll(line, "\n", "\n"+indent+"    "))
}

// output prints the output of a command.
func (s *screen) output(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		s.print("%s  %s", indent, line)
	}
}

// table prints rows in columns.
func (s *screen) table(rows [][]string) {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	_ = columns.Flush()
	for line := range strings.Lines(text.String()) {
		s.print("%s%s\n", indent, strings.TrimRight(line, " \n"))
	}
}

// quote quotes an argument for a shell if necessary.
func quote(argument string) string {
	if argument != "" && !strings.ContainsAny(argument, " \t\n'\"\\$`{}[]()<>|&;*?!#~") {
		return argument
	}
	return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
}

func quoteAll(arguments []string) string {
	quoted := make([]string, len(arguments))
	for i, argument := range arguments {
		quoted[i] = quote(argument)
	}
	return strings.Join(quoted, " ")
}
