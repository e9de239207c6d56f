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

package natsserver

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// The tests of streams run the nats-server of hack/natsserver, and --nats-embedded runs that of the main module. The
// versions must be equal: otherwise the tests prove nothing about the embedded server.
func TestTheEmbeddedServerIsTheTestedOne(t *testing.T) {
	embedded, tested := version(t, "go.mod"), version(t, "hack/natsserver/go.mod")
	if embedded != tested {
		t.Errorf("go.mod has nats-server %s, hack/natsserver/go.mod has %s: give both the same version", embedded, tested)
	}
}

var required = regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/nats-io/nats-server/v2 (v\S+)`)

// version returns the version of nats-server that a go.mod requires.
func version(t *testing.T, path string) string {
	t.Helper()
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	found := required.FindSubmatch(content)
	if found == nil {
		t.Fatalf("%s requires no nats-server", path)
	}
	return string(found[1])
}
