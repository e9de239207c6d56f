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

package fault

import (
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
)

func TestRecover(t *testing.T) {
	for _, test := range []struct {
		name   string
		work   func()
		result string
		logged []string
	}{
		{name: "without a panic", work: func() {}, result: "done"},
		{
			name: "with a panic", work: func() { panic("no route") }, result: "failed",
			logged: []string{`"Not done"`, `"error"="panic"`, `"instance"="i1"`, `"cause"="no route"`, "fault_test.go"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			log := funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})
			do := func() (result string) {
				defer Recover(log, "Not done", func() []any {
					result = "failed"
					return []any{"instance", "i1"}
				})
				test.work()
				return "done"
			}
			if got := do(); got != test.result {
				t.Errorf("result %q, want %q", got, test.result)
			}
			logged := strings.Join(lines, "\n")
			if (logged != "") != (test.logged != nil) {
				t.Errorf("logged %q", logged)
			}
			for _, want := range test.logged {
				if !strings.Contains(logged, want) {
					t.Errorf("no %s in the log: %s", want, logged)
				}
			}
		})
	}
}
