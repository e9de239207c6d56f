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

package verifiers

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// language is a language for which docs/receivers shows how to verify.
type language struct {
	name string
	// check returns the command line of the checking program. receivers is the folder docs/receivers.
	check func(t *testing.T, receivers string) []string
	// encode encodes a request in the input format of that program.
	encode func(r request) ([]byte, error)
	// serve returns the command line of the endpoint. It is nil if the language has none.
	serve func(t *testing.T, receivers string) []string
}

var languages = []language{
	{"node", script("node", "node/check.mjs"), inJSON, script("node", "node/server.mjs")},
	// -B keeps Python from writing bytecode into the source folder.
	{"python", script("python3", "-B", "python/check.py"), inJSON, script("python3", "-B", "python/server.py")},
	{"go", func(t *testing.T, receivers string) []string { return append(buildGo(t, receivers), "-check") }, inJSON, buildGo},
	{"ruby", script("ruby", "ruby/check.rb"), inFields, nil},
	{"php", script("php", "php/check.php"), inFields, nil},
	{"java", buildJava, inFields, nil},
	{"csharp", buildCSharp, inFields, nil},
	{"rust", buildRust, inFields, nil},
}

// script returns a command line that runs a script, the last of args, by an interpreter.
func script(interpreter string, args ...string) func(t *testing.T, receivers string) []string {
	return func(t *testing.T, receivers string) []string {
		commandLine := append([]string{installed(t, interpreter)}, args...)
		last := len(commandLine) - 1
		commandLine[last] = filepath.Join(receivers, filepath.FromSlash(commandLine[last]))
		return commandLine
	}
}

func buildGo(t *testing.T, receivers string) []string {
	program := filepath.Join(t.TempDir(), "receiver")
	build(t, receivers, installed(t, "go"), "build", "-o", program, "./go")
	return []string{program}
}

func buildJava(t *testing.T, receivers string) []string {
	classes := t.TempDir()
	build(t, filepath.Join(receivers, "java"), installed(t, "javac"), "-d", classes, "Verify.java", "Check.java")
	return []string{installed(t, "java"), "-cp", classes, "Check"}
}

// buildCSharp uses Mono, whose compiler needs no project file and no network.
func buildCSharp(t *testing.T, receivers string) []string {
	program := filepath.Join(t.TempDir(), "check.exe")
	build(t, filepath.Join(receivers, "csharp"), installed(t, "mcs"), "-out:"+program, "Verify.cs", "Check.cs")
	return []string{installed(t, "mono"), program}
}

// debianCrates is the folder of crates in Debian's packages, such as librust-hmac-dev.
const debianCrates = "/usr/share/cargo/registry"

// buildRust builds offline, so the crates must be installed, in the cache or by Debian.
func buildRust(t *testing.T, receivers string) []string {
	cargo, folder := installed(t, "cargo"), t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(receivers, "rust"))); err != nil {
		t.Fatal(err)
	}
	settings := []string{"--offline"}
	if _, err := os.Stat(debianCrates); err == nil {
		settings = append(settings, "--config", `source.crates-io.replace-with="debian"`,
			"--config", `source.debian.directory="`+debianCrates+`"`)
	}
	crates := exec.CommandContext(t.Context(), cargo, append([]string{"metadata", "--format-version=1"}, settings...)...)
	crates.Dir = folder
	if output, err := crates.CombinedOutput(); err != nil {
		t.Skipf("the crates are not there, so this receiver is not tested here: %s", output)
	}
	build(t, folder, cargo, append([]string{"build", "--quiet"}, settings...)...)
	return []string{filepath.Join(folder, "target", "debug", "receiver")}
}

// inJSON encodes a request as one JSON object.
func inJSON(r request) ([]byte, error) { return json.Marshal(r) }

// inFields encodes the relevant parts of a request as tab-separated fields, for languages without JSON in their
// standard library.
func inFields(r request) ([]byte, error) {
	return []byte(strings.Join([]string{
		base64.StdEncoding.EncodeToString(r.Body), r.Headers[dub],
		r.Headers[id], r.Headers[timestamp], r.Headers[standard], strings.Join(r.Secrets, ","),
	}, "\t")), nil
}

// installed returns the path of a program, or skips the test.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: its receiver is not tested here", name)
	}
	return path
}

func build(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s in %s: %v\n%s", filepath.Base(program), dir, err, output)
	}
}

// receiversDir returns the folder docs/receivers.
func receiversDir(t *testing.T) string {
	t.Helper()
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "docs", "receivers")
}
