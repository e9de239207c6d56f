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

package readme

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestShellFails checks that an endless command fails with the command's name: at its bound, or as soon as the node
// ends.
func TestShellFails(t *testing.T) {
	needs(t, "bash")
	nodeEnded := errors.New("the node ended: no Secret")
	for name, test := range map[string]struct {
		longest time.Duration
		end     error
		want    string
	}{
		"at its bound":     {longest: time.Millisecond, want: "it did not end within 1ms"},
		"with its cluster": {longest: longest, end: nodeEnded, want: nodeEnded.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			alive, end := context.WithCancelCause(t.Context())
			defer end(nil)
			bash, err := startShell(alive, t.TempDir(), os.Environ())
			if err != nil {
				t.Fatal(err)
			}
			bash.longest = test.longest
			if test.end != nil {
				end(test.end)
			}
			if _, _, err = bash.run("read -r line < /dev/zero"); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "/dev/zero") {
				t.Errorf("got %v, want the command and %q", err, test.want)
			}
			bash.leaving = time.Millisecond
			if err := bash.stop(); err == nil || !strings.Contains(err.Error(), "bash did not end within 1ms and was killed") {
				t.Errorf("stop while the command runs: %v", err)
			}
		})
	}
}
