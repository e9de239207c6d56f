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
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// TestQuickstart follows docs/quickstart.md on its own cluster, once for each way to install. The API server,
// kubectl, Helm and the programs are real. Only the nodes are replaced: Pods are processes, and the names of Services
// lead to this machine.
func TestQuickstart(t *testing.T) {
	needs(t, "bash", "curl", "node", "make")
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	if err := operator.Build(t.Context(), root, programs, "-ldflags=-X main.version=v0.1.0"); err != nil {
		t.Fatal(err)
	}
	plugin(t, root, programs)
	for _, way := range []string{"kubectl", "Helm"} {
		t.Run(way, func(t *testing.T) {
			r := newQuickstart(t, root, programs)
			r.section("Install by " + way)
			for _, heading := range []string{"Is it there?", "Declare", "Receive", "Send", "See", "Break it", "Rotate", "Remove the partner"} {
				r.section(heading)
			}
			r.section("Uninstall by " + way)
			r.section("Is it gone?")
		})
	}
}

func newQuickstart(t *testing.T, root, programs string) *reader {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{WithoutCRDs: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	n, alive := newNode(t, cp, programs)
	r := newReader(t, alive, root, "docs/quickstart.md", []string{"Makefile", "bin", "charts", "config", "docs", "hack"}, []string{
		"KUBECONFIG=" + cp.Kubeconfig, "MAKEFLAGS=--no-print-directory",
		"PATH=" + strings.Join([]string{cp.AssetsDir, programs, root + "/bin", os.Getenv("PATH")}, ":"),
	})
	port, err := controlplane.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tunnel.Close() })
	go n.forward(tunnel)
	r.replaced = strings.NewReplacer(receiverPort, strconv.Itoa(port), "127.0.0.1:8443", tunnel.Addr().String(), "receiver.partner-globex.svc", "127.0.0.1", "value: 0.0.0.0", "value: 127.0.0.1")
	// The programs exist already, built like this test.
	r.skip = func(command string) bool { return command == "make build" }
	r.instead = n.kubelet(r)
	return r
}

// newNode starts a node. The returned context ends with the error of the node, if it fails.
func newNode(t *testing.T, cp *controlplane.ControlPlane, programs string) (*node, context.Context) {
	t.Helper()
	n := &node{dir: t.TempDir(), running: map[client.ObjectKey]*workload{}}
	var err error
	if n.api, err = cp.Client(); err != nil {
		t.Fatal(err)
	}
	if n.op, err = operator.Installed(cp, programs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	alive, fail := context.WithCancelCause(context.WithoutCancel(t.Context()))
	go func() {
		err := n.run(ctx)
		if err != nil {
			fail(fmt.Errorf("the node ended: %w", err))
		}
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			n.op.DumpLogs(os.Stderr, 30)
		}
		if err := n.stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := n.op.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n, alive
}

// kubelet returns a function that replaces the kubectl commands that need a kubelet.
func (n *node) kubelet(r *reader) func(command string) (printed string, answered bool) {
	return func(command string) (string, bool) {
		switch {
		case strings.Contains(command, " logs deployment/receiver"):
			return n.workload(deployments[2]).log(), true
		case strings.Contains(command, " port-forward "):
			// The tunnel exists already; this job stands for it, so that the page can end it.
			_, _, err := r.bash.run("sleep 600 >/dev/null 2>&1 &")
			if err != nil {
				r.t.Error(err)
			}
			return "", true
		}
		return "", false
	}
}
