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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

const (
	patience = 30 * time.Second
	polling  = 200 * time.Millisecond
	// receiverPort is the page's, which may be taken here.
	receiverPort = "3000"
)

var (
	op         *operator.Operator
	dispatcher *operator.Process
)

func TestMain(m *testing.M) {
	os.Exit(operator.RunTests(m, func(ctx context.Context, installed *operator.Operator) (err error) {
		op = installed
		if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http")); err != nil {
			return err
		}
		dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0")
		return err
	}))
}

// TestFirstPostback does what the section of the README says, in a clone, with the plugin, beside an operator that runs as that of
// the demo does, and holds what is printed against what the page says.
func TestFirstPostback(t *testing.T) {
	for _, program := range []string{"bash", "curl", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the README's commands need %s: %v", program, err)
		}
	}
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	all, err := steps(strings.ReplaceAll(string(page), receiverPort, strconv.Itoa(port)), "A first Postback")
	if err != nil {
		t.Fatal(err)
	}
	bash := terminal(t, root)
	known := names{}
	for _, s := range all {
		if strings.Contains(s.command, " console ") {
			continue // It goes on until somebody ends it; test/console is about it.
		}
		if s.file != "" {
			// Not into the repository: bash runs in a folder of its own.
			if err := os.WriteFile(filepath.Join(bash.command.Dir, s.file), []byte(s.text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		follow(t, bash, &s, known)
	}
}

// terminal starts a shell with what the demo has its reader export, in a folder from which docs can be reached as in a clone.
func terminal(t *testing.T, root string) *shell {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", op.Dir+"/", "./cmd/kubectl-postback")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, output)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "docs"), filepath.Join(dir, "docs")); err != nil {
		t.Fatal(err)
	}
	bash, err := startShell(context.WithoutCancel(t.Context()), dir, append(os.Environ(),
		"KUBECONFIG="+op.ControlPlane.Kubeconfig, "HOME="+dir, "KUBERC=off", "INGEST="+dispatcher.IngestURL(),
		"PATH="+op.ControlPlane.AssetsDir+":"+op.Dir+":"+os.Getenv("PATH")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bash.stop(); err != nil {
			t.Errorf("end bash: %v", err)
		}
	})
	return bash
}

// follow types a command, and looks at what it prints. What only looks is typed again until it shows what the page says: people
// take a moment, too.
func follow(t *testing.T, bash *shell, s *step, known names) {
	t.Helper()
	command, want := known.apply(s.command), known.apply(s.text)
	// What goes on in the background would print between the lines of what follows.
	if job, ok := strings.CutSuffix(command, " &"); ok {
		command = job + " >job.log 2>&1 &"
	}
	// Rows stand in the order of names, some of which are others at each run.
	sorted := !strings.Contains(command, " get ")
	try := func() error {
		printed, status, err := bash.run(command)
		switch {
		case err != nil:
			return err
		case status != 0:
			return fmt.Errorf("README.md:%d: %s\nexits with %d and prints\n%s", s.line, command, status, printed)
		case s.printed && !same(want, printed, sorted):
			return fmt.Errorf("README.md:%d: %s\nprints\n%s\nbut the page says\n%s", s.line, command, printed, want)
		}
		known.learn(s.text, printed)
		return nil
	}
	g := gomega.NewWithT(t)
	if looks(command) {
		g.Eventually(try).WithTimeout(patience).WithPolling(polling).Should(gomega.Succeed())
		return
	}
	g.Expect(try()).To(gomega.Succeed())
}

func looks(command string) bool {
	for _, verb := range []string{" get ", " describe ", " events ", " event ", "export "} {
		if strings.Contains(command, verb) {
			return true
		}
	}
	return false
}
