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

// Command configuration writes the tables of docs/configuration.md from the --help of the programs and the fields of
// the configuration files. Usage, in the root of the checkout: configuration FOLDER, in which it writes
// docs/configuration.md. The text around the tables comes from the present page.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/postback-dev/postback-operator/hack/page"
	"github.com/postback-dev/postback-operator/internal/start"
)

const patience = 5 * time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: configuration FOLDER")
	}
	tables := map[string]string{}
	for _, program := range []string{"manager", "dispatcher", "portal"} {
		help, err := help(program)
		if err != nil {
			return err
		}
		tables["flags of the "+program] = table(flags(help))
	}
	return page.Write(args[0], "docs/configuration.md", tables)
}

// help returns the output of a program's --help, in which the environment variables stand for the defaults that come
// from them.
func help(program string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", "-ldflags=-X main.version=<version>", "./cmd/"+program, "--help")
	namespace := "postback-system"
	if program == "portal" {
		namespace = "postback-portal"
	}
	command.Env = append(os.Environ(), "POD_NAMESPACE=$POD_NAMESPACE, else "+namespace, "POD_NAME=$POD_NAME, else the host's name")
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask the %s for its flags: %w: %s", program, err, output)
	}
	return string(output), nil
}

type setting struct {
	name, kind, usage, fallback string
}

var (
	flagLine    = regexp.MustCompile(`^  -([a-z][a-z-]*)(?: ([a-z]+))?$`)
	defaultTail = regexp.MustCompile(` \(default (.*)\)$`)
)

// flags parses the output of package flag. Each flag has a line with its name and kind, without a kind for a switch,
// and below an indented usage.
func flags(help string) []setting {
	var all []setting
	for line := range strings.Lines(help) {
		line = strings.TrimSuffix(line, "\n")
		if match := flagLine.FindStringSubmatch(line); match != nil {
			kind := match[2]
			if kind == "" {
				kind = "bool"
			}
			all = append(all, setting{name: match[1], kind: kind})
			continue
		}
		usage, indented := strings.CutPrefix(line, "    \t")
		if !indented || len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		if match := defaultTail.FindStringSubmatch(usage); match != nil {
			last.fallback = strings.Trim(match[1], `"`)
			usage = strings.TrimSuffix(usage, match[0])
		}
		last.usage = strings.TrimSpace(last.usage + " " + usage)
	}
	return all
}

func table(settings []setting) string {
	var b strings.Builder
	b.WriteString("| flag | field | type | default | |\n|---|---|---|---|---|\n")
	for _, s := range settings {
		field, fallback := "`"+start.Field(s.name)+"`", ""
		if s.name == start.ConfigFlag {
			field = ""
		}
		if s.fallback != "" {
			fallback = "`" + s.fallback + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s | %s |\n", s.name, field, s.kind, fallback, page.Cell(s.usage))
	}
	return b.String()
}
