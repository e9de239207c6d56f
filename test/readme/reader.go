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
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
)

const (
	patience = time.Minute
	polling  = 200 * time.Millisecond
)

// reader follows a page.
type reader struct {
	t    *testing.T
	page string
	// replaced replaces texts of the page by those for this machine.
	replaced *strings.Replacer
	bash     *shell
	known    names
	// skip selects the commands that the test does not run.
	skip func(command string) bool
	// instead replaces commands that need a real cluster, and returns their output. answered is false for other
	// commands.
	instead func(command string) (printed string, answered bool)
}

// newReader starts a shell in a folder with links to parts of the repository, as in a clone. A step fails as soon as
// alive ends.
func newReader(t *testing.T, alive context.Context, root, page string, inClone, env []string) *reader { //nolint:revive // t comes first.
	t.Helper()
	dir := t.TempDir()
	for _, name := range inClone {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	bash, err := startShell(alive, dir, append(append(os.Environ(), "HOME="+dir, "KUBERC=off"), env...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bash.stop(); err != nil {
			t.Errorf("end bash: %v", err)
		}
	})
	return &reader{
		t: t, page: page, bash: bash, known: names{}, replaced: strings.NewReplacer(),
		skip:    func(string) bool { return false },
		instead: func(string) (string, bool) { return "", false },
	}
}

// section follows one section of the page.
func (r *reader) section(heading string) {
	r.t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		r.t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, r.page))
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := steps(r.replaced.Replace(string(content)), heading)
	if err != nil {
		r.t.Fatalf("%s: %v", r.page, err)
	}
	for _, s := range all {
		switch {
		case s.file != "":
			// bash runs in its own folder, so the file is not in the repository.
			if err := os.WriteFile(filepath.Join(r.bash.command.Dir, s.file), []byte(s.text), 0o600); err != nil {
				r.t.Fatal(err)
			}
		case !r.skip(s.command):
			r.follow(&s)
		}
	}
}

// follow types a command, and compares its output with the page's. It repeats a command that only reads until the
// outputs agree, because people also type later.
func (r *reader) follow(s *step) {
	r.t.Helper()
	command, want := r.known.apply(s.command), r.known.apply(s.text)
	r.t.Logf("%s:%d: $ %s", r.page, s.line, command)
	// kubectl sorts rows by names, some of which differ in each run.
	sorted := !strings.Contains(command, " get ")
	try := func() error {
		printed, status, err := r.do(command)
		switch {
		case err != nil:
			// Without the shell, another try cannot succeed.
			return gomega.StopTrying(fmt.Sprintf("%s:%d: %s", r.page, s.line, command)).Wrap(err)
		case status != 0:
			return fmt.Errorf("%s:%d: %s\nexits with %d and prints\n%s", r.page, s.line, command, status, printed)
		case s.printed && !same(want, printed, sorted):
			return fmt.Errorf("%s:%d: %s\nprints\n%s\nbut the page says\n%s", r.page, s.line, command, printed, want)
		}
		r.known.learn(s.text, printed)
		return nil
	}
	g := gomega.NewWithT(r.t)
	if looks(command) {
		g.Eventually(try).WithTimeout(patience).WithPolling(polling).Should(gomega.Succeed())
		return
	}
	g.Expect(try()).To(gomega.Succeed())
}

func (r *reader) do(command string) (printed string, status int, err error) {
	if printed, answered := r.instead(command); answered {
		return printed, 0, nil
	}
	// The output of a background process would mix with that of the next command.
	if job, ok := strings.CutSuffix(command, " &"); ok {
		command = job + " >job.log 2>&1 &"
	}
	return r.bash.run(command)
}

func looks(command string) bool {
	for _, verb := range []string{" get ", " describe ", " events ", " event ", " logs ", " api-resources ", "export "} {
		if strings.Contains(command, verb) {
			return true
		}
	}
	return false
}

// plugin builds the kubectl plugin into a folder.
func plugin(t *testing.T, root, dir string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", dir+"/", "./cmd/kubectl-postback")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, output)
	}
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the page's commands need %s: %v", program, err)
		}
	}
}
