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

package controlplane_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// fakeGo pretends to compile 100 packages per program, and fails for the program that FAILING names.
const fakeGo = `#!/bin/sh
case "$1" in
env) echo some; exit ;;
list) packages=400 ;;
build) packages=100; exec 1>&2 ;;
esac
while [ $packages -gt 0 ]; do echo example.com/package$packages; packages=$((packages-1)); done
for last; do true; done
case "$last" in
*/"$FAILING") echo "undefined: something" >&2; exit 1 ;;
esac
`

// fakeDate advances by a minute at each call.
const fakeDate = `#!/bin/sh
echo minute >>"$MINUTES"
echo $(($(wc -l <"$MINUTES") * 60))
`

// buildPrograms runs build.sh with fake programs, and returns its output after the first line.
func buildPrograms(t *testing.T, failing string) (progress string, err error) {
	t.Helper()
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go": fakeGo, "date": fakeDate} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), filepath.Join(root, "hack", "controlplane", "build.sh"))
	command.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KUBEBUILDER_ASSETS=", "CONTROLPLANE_CACHE="+filepath.Join(dir, "cache"),
		"FAILING="+failing, "MINUTES="+filepath.Join(dir, "minutes"))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	err = command.Run()
	_, progress, _ = strings.Cut(stderr.String(), "\n")
	return progress, err
}

func TestTheBuildShowsOneTotalWithTheTimeLeft(t *testing.T) {
	progress, err := buildPrograms(t, "none")
	const want = `  100 of 400 packages compiled, about 3 min left
  etcd: built
  200 of 400 packages compiled, about 2 min left
  kube-apiserver: built
  300 of 400 packages compiled, about 1 min left
  kube-controller-manager: built
  kubectl: built
`
	if err != nil || progress != want {
		t.Errorf("%v\n%swant\n%s", err, progress, want)
	}
}

func TestABuildThatFailsNamesTheProgram(t *testing.T) {
	progress, err := buildPrograms(t, "kube-controller-manager")
	if err == nil || !strings.Contains(progress, "undefined: something\nBuilding kube-controller-manager failed") || strings.Contains(progress, "kubectl: built") {
		t.Errorf("%v\n%s", err, progress)
	}
}
