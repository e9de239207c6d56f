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

package watched_test

import (
	"flag"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/internal/watched"
)

func TestFlag(t *testing.T) {
	for name, tt := range map[string]struct {
		args       []string
		want, err  string
		has, hasNo []string
	}{
		"none":               {has: []string{"acme", "kube-system"}},
		"empty":              {args: []string{"--watch-namespaces="}, has: []string{"acme"}},
		"one":                {args: []string{"--watch-namespaces=acme"}, want: "acme", has: []string{"acme"}, hasNo: []string{"globex", "", "acme,globex"}},
		"several":            {args: []string{"--watch-namespaces=globex,acme", "--watch-namespaces=initech,globex"}, want: "acme,globex,initech", has: []string{"acme", "globex", "initech"}, hasNo: []string{"umbrella"}},
		"no name":            {args: []string{"--watch-namespaces=Partner_A"}, err: `"Partner_A" is not the name of a namespace: a lowercase RFC 1123 label`},
		"too long":           {args: []string{"--watch-namespaces=acme," + strings.Repeat("b", 64)}, err: "must be no more than 63"},
		"a pattern":          {args: []string{"--watch-namespaces=partner-*"}, err: `"partner-*" is not the name`},
		"a space":            {args: []string{"--watch-namespaces=acme, globex"}, err: `" globex" is not the name`},
		"a comma at the end": {args: []string{"--watch-namespaces=acme,"}, err: `"" is not the name`},
	} {
		t.Run(name, func(t *testing.T) {
			var n watched.Namespaces
			flags := flag.NewFlagSet("manager", flag.ContinueOnError)
			flags.SetOutput(io.Discard)
			flags.Var(&n, watched.Flag, watched.Usage)
			err := flags.Parse(tt.args)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, n, tt.want, tt.has, tt.hasNo)
			check(t, watched.Of(n.String()), tt.want, tt.has, tt.hasNo)
		})
	}
}

func check(t *testing.T, n watched.Namespaces, want string, has, hasNo []string) {
	t.Helper()
	if n.String() != want || n.All() != (want == "") {
		t.Errorf("it is %q, all: %t", n.String(), n.All())
	}
	if got := strings.Join(n.Scopes(), ","); got != want || len(n.Scopes()) == 0 {
		t.Errorf("listed are %q", n.Scopes())
	}
	for _, name := range has {
		if !n.Has(name) {
			t.Errorf("%q is not watched", name)
		}
	}
	for _, name := range hasNo {
		if n.Has(name) {
			t.Errorf("%q is watched", name)
		}
	}
}

func TestCache(t *testing.T) {
	if got := watched.Of("").Cache("install"); got != nil {
		t.Errorf("all namespaces are %v", got)
	}
	if got := slices.Sorted(maps.Keys(watched.Of("acme,globex").Cache("install", "acme"))); !slices.Equal(got, []string{"acme", "globex", "install"}) {
		t.Errorf("got %v", got)
	}
}
