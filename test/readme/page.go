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

// Package readme follows the README and the quickstart word for word, as a new user does.
package readme

import (
	"fmt"
	"regexp"
	"strings"
)

// step is one action of a page's reader.
type step struct {
	// line is the line number on the page, from 1.
	line int
	// file is the name of a file to write, command a command to type. Exactly one of them is set.
	file, command string
	// text is the content of the file, or the output of the command. printed is true if the page shows the output.
	text    string
	printed bool
}

// steps returns the steps in a section of a page. Blocks of YAML are files, named by the comment in their first line.
// Blocks of sh are commands. Blocks of console have commands after a $, each followed by its output.
func steps(page, heading string) ([]step, error) {
	lines := strings.Split(page, "\n")
	begin := -1
	for i, line := range lines {
		if line == "## "+heading {
			begin = i + 1
		}
	}
	if begin < 0 {
		return nil, fmt.Errorf("there is no section %q", heading)
	}
	var all []step
	for i := begin; i < len(lines) && !strings.HasPrefix(lines[i], "## "); i++ {
		language, opens := strings.CutPrefix(lines[i], "```")
		if !opens {
			continue
		}
		first := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block does not end", first)
		}
		found, err := block(language, lines[first:i], first+1)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// whole returns the command that begins in line i with its continuation lines, and the index of the last line.
func whole(lines []string, i int) (command string, last int) {
	function := strings.HasSuffix(lines[i], "() {")
	last = i
	for last+1 < len(lines) && (strings.HasSuffix(lines[last], `\`) || function && lines[last] != "}") {
		last++
	}
	return strings.Join(lines[i:last+1], "\n"), last
}

var fileName = regexp.MustCompile(`^# ([a-z-]+\.yaml)$`)

func block(language string, lines []string, at int) ([]step, error) {
	switch language {
	case "yaml":
		name := fileName.FindStringSubmatch(lines[0])
		if name == nil {
			return nil, fmt.Errorf("line %d: the block has no name of a file in its first line", at)
		}
		return []step{{line: at, file: name[1], text: strings.Join(lines, "\n") + "\n"}}, nil
	case "sh":
		var all []step
		for i := 0; i < len(lines); i++ {
			if lines[i] == "" || strings.HasPrefix(lines[i], "#") {
				continue
			}
			s := step{line: at + i}
			s.command, i = whole(lines, i)
			all = append(all, s)
		}
		return all, nil
	case "console":
		return session(lines, at)
	}
	return nil, fmt.Errorf("line %d: nobody knows what to do with a block of %q", at, language)
}

// session returns the commands of a console block with their output.
func session(lines []string, at int) (all []step, err error) {
	for i := 0; i < len(lines); i++ {
		switch {
		case strings.HasPrefix(lines[i], "$ "):
			s := step{line: at + i, printed: true}
			s.command, i = whole(lines, i)
			s.command = strings.TrimPrefix(s.command, "$ ")
			all = append(all, s)
		case len(all) == 0:
			return nil, fmt.Errorf("line %d: the block does not begin with a command", at+i)
		default:
			all[len(all)-1].text += lines[i] + "\n"
		}
	}
	return all, nil
}
