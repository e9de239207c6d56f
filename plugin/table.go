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
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/printers"
)

// column is a column of a table.
type column struct {
	name string
	// wide columns are shown only with -o wide.
	wide bool
	// least is the width, in characters, to which a narrow terminal may cut the cells; 0 means that they are not cut.
	least int
	// first columns are cut before others.
	first bool
	// ending is a suffix of cells that is kept when they are cut.
	ending string
}

// cell is a text with a colour, which only terminals show.
type cell struct {
	text   string
	colour colour
}

func plain(text string) cell { return cell{text: text} }

// colour is the number of an ANSI SGR code.
type colour int

const (
	noColour colour = 0
	red      colour = 31
	green    colour = 32
	yellow   colour = 33
	faint    colour = 90
	bold     colour = 1
)

func (c colour) of(text string) string {
	if c == noColour || text == "" {
		return text
	}
	return "\x1b[" + string(rune('0'+int(c)/10)) + string(rune('0'+int(c)%10)) + "m" + text + "\x1b[0m"
}

// columnGap is the number of spaces between columns. narrowGap replaces it if the terminal is too narrow.
const (
	columnGap = 3
	narrowGap = 2
)

// table prints rows below the column names. On a terminal it fits the width and uses colours.
type table struct {
	columns []column
	// shown are the indexes of the shown columns in a row.
	shown []int
	// width is the width of the terminal in characters; 0 means unlimited.
	width    int
	coloured bool
	gap      int
	// widths are the column widths after the first print, which later rows keep.
	widths []int
}

// newTable returns a table for an output stream.
func newTable(out io.Writer, wide bool, columns ...column) *table {
	t := &table{coloured: printers.AllowsColorOutput(out), gap: columnGap}
	for i, c := range columns {
		if wide || !c.wide {
			t.columns, t.shown = append(t.columns, c), append(t.shown, i)
		}
	}
	if file, ok := out.(*os.File); ok && !wide {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			t.width = width
		}
	}
	return t
}

// row has a cell for each column of newTable, even for those that are not shown.
type row []cell

func (t *table) pick(r row) row {
	picked := make(row, len(t.shown))
	for i, place := range t.shown {
		picked[i] = r[place]
	}
	return picked
}

// print prints rows. The first call also prints the column names.
func (t *table) print(out io.Writer, rows ...row) error {
	var lines []row
	if t.widths == nil {
		header := make(row, len(t.columns))
		for i, c := range t.columns {
			header[i] = plain(c.name)
		}
		lines = append(lines, header)
	}
	for _, r := range rows {
		lines = append(lines, t.pick(r))
	}
	if t.widths == nil {
		t.widths = t.measure(lines)
	}
	var text strings.Builder
	for _, line := range lines {
		t.writeLine(&text, line)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// measure returns the column widths for rows, reduced to the terminal's width as far as the columns permit.
func (t *table) measure(rows []row) []int {
	widths := make([]int, len(t.columns))
	total := 0
	for i := range t.columns {
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(visible(r[i].text)))
		}
		total += widths[i]
	}
	if t.width == 0 || total+columnGap*(len(widths)-1) <= t.width {
		return widths
	}
	t.gap = narrowGap
	total += narrowGap * (len(widths) - 1)
	for total > t.width {
		i := t.widest(widths)
		if i < 0 {
			break
		}
		widths[i]--
		total--
	}
	return widths
}

// widest returns the column to cut next, or -1 if there is none: the widest of the first columns, then of all.
func (t *table) widest(widths []int) int {
	widest := -1
	for i, c := range t.columns {
		if c.least == 0 || widths[i] <= c.least {
			continue
		}
		switch {
		case widest < 0, c.first && !t.columns[widest].first, c.first == t.columns[widest].first && widths[i] > widths[widest]:
			widest = i
		}
	}
	return widest
}

func (t *table) writeLine(out *strings.Builder, line row) {
	last := len(t.columns) - 1
	for last > 0 && line[last].text == "" {
		last--
	}
	for i := range last + 1 {
		text := visible(line[i].text)
		if t.columns[i].least > 0 && t.width > 0 {
			text = cut(text, t.widths[i], t.columns[i].ending)
		}
		if t.coloured {
			out.WriteString(line[i].colour.of(text))
		} else {
			out.WriteString(text)
		}
		if i < last {
			out.WriteString(strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(text), 0)+t.gap))
		}
	}
	out.WriteByte('\n')
}

// cut shortens a text to width characters, with an ellipsis. It keeps the text's ending.
func cut(text string, width int, ending string) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	begin, found := strings.CutSuffix(text, ending)
	if !found {
		ending = ""
	}
	return string([]rune(begin)[:max(width-1-utf8.RuneCountInString(ending), 0)]) + "…" + ending
}
