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

// Command metrics writes the tables of docs/metrics.md from the metrics that the code defines. Usage, in the root of
// the checkout: metrics FOLDER, in which it writes docs/metrics.md. The text around the tables comes from the present
// page.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	// These packages define the metrics.
	_ "github.com/postback-dev/postback-operator/controllers"
	_ "github.com/postback-dev/postback-operator/controllers/servingcert"
	_ "github.com/postback-dev/postback-operator/dispatcher"
	"github.com/postback-dev/postback-operator/hack/page"
	"github.com/postback-dev/postback-operator/internal/metric"
	_ "github.com/postback-dev/postback-operator/portal"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: metrics FOLDER")
	}
	tables := map[string]string{}
	for name, program := range map[string]*metric.Program{"manager": &metric.Manager, "dispatcher": &metric.Dispatcher, "portal": &metric.Portal} {
		tables["metrics of the "+name] = table(program.Definitions())
	}
	return page.Write(args[0], "docs/metrics.md", tables)
}

func table(definitions []metric.Definition) string {
	var b strings.Builder
	b.WriteString("| metric | type | |\n|---|---|---|\n")
	for _, d := range definitions {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", series(d), d.Type, page.Cell(d.Help+values(d.Labels)))
	}
	return b.String()
}

// series returns a metric as in a query, with the names of its labels.
func series(d metric.Definition) string {
	if len(d.Labels) == 0 {
		return d.Name
	}
	names := make([]string, 0, len(d.Labels))
	for _, label := range d.Labels {
		names = append(names, label.Name)
	}
	return d.Name + "{" + strings.Join(names, ",") + "}"
}

// values lists the possible values of labels.
func values(labels []metric.Label) string {
	var b strings.Builder
	for _, label := range labels {
		fmt.Fprintf(&b, " `%s`: `%s`.", label.Name, strings.Join(label.Values, "`, `"))
	}
	return b.String()
}
