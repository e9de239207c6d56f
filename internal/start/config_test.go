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

package start_test

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postback-dev/postback-operator/internal/start"
)

// list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func TestParse(t *testing.T) {
	const head = "apiVersion: config.postback.dev/v1alpha1\nkind: DispatcherConfiguration\n"
	tests := map[string]struct {
		file string
		args []string
		want string
		err  string
	}{
		"no file":                      {args: []string{"--max-in-flight=3"}, want: "3 1m0s false [] "},
		"a file":                       {file: head + "maxInFlight: 262144\ninterval: 90s\nleaderElect: true\nuserAgent: Acme/1\nallowCidr: [10.0.0.0/8, a=10.1.0.0/16]\n", want: "262144 1m30s true [10.0.0.0/8 a=10.1.0.0/16] Acme/1"},
		"JSON":                         {file: `{"apiVersion": "config.postback.dev/v1alpha1", "kind": "DispatcherConfiguration", "maxInFlight": 7}`, want: "7 1m0s false [] "},
		"the command line wins":        {file: head + "maxInFlight: 7\nuserAgent: Acme/1\nallowCidr: [10.0.0.0/8]\n", args: []string{"--max-in-flight=3", "--allow-cidr=10.2.0.0/16"}, want: "3 1m0s false [10.2.0.0/16] Acme/1"},
		"nothing but the head":         {file: head, want: "512 1m0s false [] "},
		"empty":                        {file: " \n", err: "the file is empty"},
		"another kind":                 {file: strings.Replace(head, "Dispatcher", "Manager", 1), err: "apiVersion and kind are config.postback.dev/v1alpha1 and ManagerConfiguration, and must be"},
		"no kind":                      {file: "maxInFlight: 3\n", err: "apiVersion and kind are <nil> and <nil>"},
		"an unknown field":             {file: head + "maxInflight: 3\n", err: "field maxInflight: there is no such setting"},
		"a flag's own spelling":        {file: head + "max-in-flight: 3\n", err: "field max-in-flight: there is no such setting"},
		"two unknown fields":           {file: head + "b: 1\na: 1\n", err: "field a: there is no such setting\nfield b: there is no such setting"},
		"itself":                       {file: head + "config: other.yaml\n", err: "field config: there is no such setting"},
		"a field twice":                {file: head + "maxInFlight: 3\nmaxInFlight: 4\n", err: "already set in map"},
		"a value that does not fit":    {file: head + "maxInFlight: many\n", err: "field maxInFlight: parse error"},
		"half a number":                {file: head + "maxInFlight: 1.5\n", err: "field maxInFlight: parse error"},
		"a map":                        {file: head + "userAgent: {a: b}\n", err: "field userAgent: it must be a text, a number"},
		"no YAML":                      {file: "\tx", err: "it is no YAML"},
		"the command line is mistaken": {file: head, args: []string{"--what"}, err: "flag provided but not defined"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			flags := flag.NewFlagSet("dispatcher", flag.ContinueOnError)
			flags.SetOutput(io.Discard)
			var cidrs list
			flags.Var(&cidrs, "allow-cidr", "")
			inFlight, interval := flags.Int("max-in-flight", 512, ""), flags.Duration("interval", time.Minute, "")
			elect, agent := flags.Bool("leader-elect", false, ""), flags.String("user-agent", "", "")
			args := tt.args
			if tt.file != "" {
				path := filepath.Join(t.TempDir(), "config.yaml")
				if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--config="+path)
			}
			err := start.Parse(flags, "DispatcherConfiguration", args)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(strings.Join([]string{flags.Lookup("max-in-flight").Value.String(), interval.String(), flags.Lookup("leader-elect").Value.String(), "[" + strings.Join(cidrs, " ") + "]", *agent}, " ")); got != strings.TrimSpace(tt.want) {
				t.Errorf("got %q, want %q (%d, %t)", got, tt.want, *inFlight, *elect)
			}
		})
	}
	if err := start.Parse(flag.NewFlagSet("dispatcher", flag.ContinueOnError), "DispatcherConfiguration", []string{"--config=/nowhere"}); err == nil || !strings.Contains(err.Error(), "flag --config") {
		t.Errorf("a file that is not there: %v", err)
	}
}
