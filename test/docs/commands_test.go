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

package docs

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"github.com/postback-dev/postback-operator/plugin"
)

var (
	pluginCommand = regexp.MustCompile("(?m)kubectl postback((?: [^\\s`|;&#)\"]+)+)")
	flagOfCommand = regexp.MustCompile(`^--?[a-z][a-z-]*`)
)

// TestCommandsOfThePluginExist: each verb and flag of the plugin that a page shows exists.
func TestCommandsOfThePluginExist(t *testing.T) {
	help := map[string]string{}
	checked := 0
	for _, page := range pages(t) {
		for _, match := range pluginCommand.FindAllStringSubmatch(read(t, page), -1) {
			words := strings.Fields(match[1])
			verb := verbOf(words)
			if verb == "" {
				continue
			}
			checked++
			text, known := help[verb]
			if !known {
				text = helpOf(t, page, verb)
				help[verb] = text
			}
			for _, word := range words {
				if flag := flagOfCommand.FindString(word); flag != "" && !regexp.MustCompile(regexp.QuoteMeta(flag)+`\b`).MatchString(text) {
					t.Errorf("%s: kubectl postback %s has no flag %s", page, verb, flag)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("%d commands were found", checked)
	}
}

// verbOf returns the verb of a command line, which may follow a namespace. For set, it includes the next word.
func verbOf(words []string) string {
	if words[0] == "-n" && len(words) > 2 {
		words = words[2:]
	}
	if strings.HasPrefix(words[0], "-") {
		return ""
	}
	verb := strings.TrimRight(words[0], ".,:")
	if verb == "set" && len(words) > 1 {
		return verb + " " + words[1]
	}
	return verb
}

func helpOf(t *testing.T, page, verb string) string {
	t.Helper()
	var out bytes.Buffer
	code := plugin.Run(t.Context(), plugin.Options{
		IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out},
		Args:      append(strings.Fields(verb), "--help"), Version: "test", Clock: clock.RealClock{},
	})
	if code != 0 || !strings.Contains(out.String(), "kubectl postback "+verb) && verb != "enable" {
		t.Errorf("%s: there is no command kubectl postback %s (%d): %s", page, verb, code, out.String())
	}
	return out.String()
}
