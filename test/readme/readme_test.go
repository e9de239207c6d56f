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
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// receiverPort is the port on the pages. It may be taken on this machine.
const receiverPort = "3000"

var (
	op         *operator.Operator
	dispatcher *operator.Process
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(operator.RunTests(m, func(ctx context.Context, installed *operator.Operator) (err error) {
		op = installed
		if _, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
			return err
		}
		dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0")
		return err
	}))
}

// TestFirstPostback follows docs/tutorial.md in a clone, with the plugin and an operator as in the demo, and compares
// the output with the page.
func TestFirstPostback(t *testing.T) {
	needs(t, "bash", "curl", "node")
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	plugin(t, root, op.Dir)
	r := newReader(t, context.WithoutCancel(t.Context()), root, "docs/tutorial.md", []string{"docs"}, []string{
		"KUBECONFIG=" + op.ControlPlane.Kubeconfig, "INGEST=" + dispatcher.IngestURL(),
		"PATH=" + op.ControlPlane.AssetsDir + ":" + op.Dir + ":" + os.Getenv("PATH"),
	})
	r.replaced = strings.NewReplacer(receiverPort, strconv.Itoa(port))
	// The console runs until the user ends it, and test/console tests it.
	r.skip = func(command string) bool { return strings.Contains(command, " console ") }
	r.section("A first Postback")
}
