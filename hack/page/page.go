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

// Package page updates the generated tables of documentation pages and keeps the rest of the page.
package page

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	readable  = 0o644
	traversed = 0o755
)

// Write replaces the tables of the page at a path of the working directory, such as docs/metrics.md. It writes the
// result at the same path in folder. Each table is between two comments: the first has its key in tables, the second
// ends it.
func Write(folder, path string, tables map[string]string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	text := string(content)
	for name, table := range tables {
		if text, err = replace(text, name, table); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	target := filepath.Join(folder, path)
	if err := os.MkdirAll(filepath.Dir(target), traversed); err != nil {
		return fmt.Errorf("make the folder of the page: %w", err)
	}
	if err := os.WriteFile(target, []byte(text), readable); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// Cell escapes a text for a cell of a table.
func Cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func replace(text, name, table string) (string, error) {
	begin, end := "<!-- "+name+" -->\n", "<!-- end -->\n"
	before, rest, found := strings.Cut(text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("there is no %q with %q after it", begin, end)
	}
	return before + begin + table + end + after, nil
}
