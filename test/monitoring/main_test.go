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

// Package monitoring tests the metrics, logs and traces of a running installation, and, by a real Prometheus, the
// alerts and the dashboard.
package monitoring

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/postback-dev/postback-operator/test/controlplane"
	"github.com/postback-dev/postback-operator/test/operator"
)

// patience bounds waits for events that usually take a moment, for busy machines.
const patience = time.Minute

// All tests share this installation.
var (
	cp                  *controlplane.ControlPlane
	op                  *operator.Operator
	api                 client.Client
	manager, dispatcher *operator.Process
	portal              *operator.Process
)

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(operator.RunTests(m, func(ctx context.Context, installed *operator.Operator) error {
		op, cp = installed, installed.ControlPlane
		var err error
		if api, err = cp.Client(); err != nil {
			return err
		}
		if manager, err = op.StartManager(ctx, "postback-manager-0", operator.WithArgs("--allow-plain-http"), operator.WithRestarts()); err != nil {
			return err
		}
		if dispatcher, err = op.StartDispatcher(ctx, "postback-dispatcher-0"); err != nil {
			return err
		}
		portal, err = op.OpenPortal(ctx, "postback-portal-0")
		return err
	}))
}

// required is the environment variable that makes tests fail, instead of being skipped, if Prometheus is not
// installed.
const required = "POSTBACK_MONITORING_TESTS"

// program returns the path of a program of Prometheus, or skips the test without it.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv(required) == "required" {
		t.Fatalf("%s=required, and %s is not there: install Prometheus (Debian: prometheus)", required, name)
	}
	t.Skipf("%s is not there: install Prometheus (Debian: prometheus) to run this test", name)
	return ""
}

// modulePath returns the path of a file or folder of this module.
func modulePath(t *testing.T, path ...string) string {
	t.Helper()
	root, err := controlplane.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{root}, path...)...)
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(modulePath(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
